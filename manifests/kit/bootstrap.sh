#!/bin/sh
# Gets sagefix out of a kit and runs it, on a machine without a network:
#
#   tar -xf KIT bootstrap.sh bootstrap.py
#   sh bootstrap.sh KIT install --python /path/to/venv
#
# Needs a Python, 3.10 or newer, for sagefix itself (SAGEFIX_HOST_PYTHON names one); the one it installs into may be
# another. bootstrap.py does the work.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
for python in ${SAGEFIX_HOST_PYTHON:+"$SAGEFIX_HOST_PYTHON"} python3 python3.14 python3.13 python3.12 python3.11 python3.10; do
  if command -v "$python" >/dev/null 2>&1 &&
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' >/dev/null 2>&1; then
    exec "$python" "$here/bootstrap.py" "$@"
  fi
done
echo "error: sagefix itself needs a Python 3.10 or newer (the one it works on may be 3.9)." >&2
echo "hint: install one, or name it with SAGEFIX_HOST_PYTHON." >&2
exit 5
