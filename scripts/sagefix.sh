#!/usr/bin/env bash
# Runs sagefix from this checkout, out of an environment of its own (.venv) that is made on the first call.
set -euo pipefail
here="$(cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/.." && pwd)"
venv="${SAGEFIX_VENV:-$here/.venv}"

if [ ! -x "$venv/bin/sagefix" ]; then
  python=""
  for candidate in ${SAGEFIX_HOST_PYTHON:+"$SAGEFIX_HOST_PYTHON"} python3 python3.13 python3.12 python3.11 python3.10; do
    if command -v "$candidate" >/dev/null 2>&1 && "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 10))'; then
      python="$candidate"
      break
    fi
  done
  if [ -z "$python" ]; then
    echo "error: sagefix itself needs a Python 3.10 or newer (the one it works on may be 3.9)." >&2
    echo "hint: install one, or name it with SAGEFIX_HOST_PYTHON." >&2
    exit 5
  fi
  echo "Setting up sagefix in $venv ..." >&2
  "$python" -m venv "$venv" >&2
  "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --editable "$here" >&2
fi
# Without --python the target is the environment that is active where this was called, else the Python on PATH:
# sagefix's own environment is never meant.
if [ -z "${SAGEFIX_PYTHON:-}${VIRTUAL_ENV:-}${CONDA_PREFIX:-}" ] && python="$(command -v python3)"; then
  export SAGEFIX_PYTHON="$python"
fi
exec "$venv/bin/sagefix" "$@"
