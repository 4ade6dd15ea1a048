#!/usr/bin/env bash
# Installs the SageAttention that works into a Python, built for its GPU and its torch if need be.
#   scripts/install-sageattention.sh --python ComfyUI/venv
# Every option of `sagefix install` can be given. sagefix itself lives in an environment of its own beside this
# checkout, made on the first call.
set -euo pipefail
here="$(cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/.." && pwd)"
exec bash "$here/scripts/sagefix.sh" install "$@"
