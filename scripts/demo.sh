#!/usr/bin/env bash
# The whole line on an embedded pin: build, install, save, verify, install again from the wheelhouse, pip from
# its index. Needs a Python and a C compiler. `make demo` calls this with sagefix on PATH.
set -euo pipefail
cd "$(dirname "$0")/.."

work="$PWD/.demo"
rm -rf "$work"
mkdir -p "$work"
export SAGEFIX_CACHE_DIR="$work/cache" SAGEFIX_WHEELHOUSE="$work/wheels" SAGEFIX_PIN=demo
unset SAGEFIX_PYTHON SAGEFIX_SOURCE SAGEFIX_ARCH SAGEFIX_INDEX
started=$(date +%s)

say() { printf '\n\033[1m%s\033[0m\n' "$*"; }
run() { printf '$ %s\n' "$*"; "$@"; }
prove() {
  # The package's own check: its compiled attention against a reference in pure Python.
  run "$1/bin/python" -m demoattention
}

say "Two environments: one that builds, one that only installs"
for name in first second third; do python -m venv "$work/$name"; done
run "$work/first/bin/python" -m pip install --quiet --disable-pip-version-check setuptools wheel

say "1. install: fetch the pinned commit, build it, install it, verify it"
run sagefix install --python "$work/first"
prove "$work/first"

say "2. install again: nothing to do"
run sagefix install --python "$work/first"

say "3. save-wheel: what is installed becomes a wheel again"
run sagefix save-wheel --python "$work/first" --wheelhouse "$work/saved"

say "4. verify"
run sagefix verify --python "$work/first" --level static
run sagefix verify --python "$work/first" --level import

say "5. install into a second environment: from the wheelhouse, no compiler needed"
run sagefix install --python "$work/second" --no-build
prove "$work/second"

say "6. pip, from the wheelhouse as an index"
run "$work/third/bin/python" -m pip install --quiet --disable-pip-version-check \
  --index-url "file://$work/wheels" demoattention
prove "$work/third"

say "7. what is kept"
run sagefix wheelhouse list
run sagefix wheelhouse check

say "All of it worked, in $(($(date +%s) - started)) seconds."
