#!/usr/bin/env bash
# Turns the SageAttention that is installed in a Python into a wheel in the wheelhouse.
#   scripts/save-sageattention-wheel.sh --python ComfyUI/venv
# Every option of `sagefix save-wheel` can be given. sagefix itself lives in an environment of its own beside this
# checkout, made on the first call.
set -euo pipefail
here="$(cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/.." && pwd)"
exec bash "$here/scripts/sagefix.sh" save-wheel "$@"
