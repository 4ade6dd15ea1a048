#!/usr/bin/env bash
# A wheel for another architecture, on this machine: cross compiled, then imported and computed with under emulation.
# Needs a cross compiler, qemu's user emulation, apt, and a Python with its headers. `make demo-aarch64` calls this with
# sagefix on PATH. The network is used for the distribution's packages, and for setuptools.
set -euo pipefail
cd "$(dirname "$0")/.."

work="$PWD/.demo-aarch64"
rm -rf "$work"
mkdir -p "$work"
export SAGEFIX_CACHE_DIR="$work/cache" SAGEFIX_WHEELHOUSE="$work/wheels" SAGEFIX_PIN=demo
unset SAGEFIX_PYTHON SAGEFIX_SOURCE SAGEFIX_ARCH SAGEFIX_INDEX
started=$(date +%s)

say() { printf '\n\033[1m%s\033[0m\n' "$*"; }
run() { printf '$ %s\n' "$*"; "$@"; }

# What the distribution's own python3 is, its packages have for other architectures, too.
system=/usr/bin/python3
[ -x "$system" ] || system=python3
version=${DEMO_PYTHON:-$("$system" -c 'import sys; print("%d.%d" % sys.version_info[:2])')}

say "1. build for linux_aarch64, Python $version, on $(uname -m)"
run sagefix build --platform linux_aarch64 --python "$version"
wheel=$(basename "$(find "$SAGEFIX_WHEELHOUSE" -name '*_aarch64.whl')")

say "2. verify it: import every extension, compute attention, under emulation"
run sagefix verify --emulate "$wheel" --level numerics

say "3. what is kept, and what is not proven"
run sagefix wheelhouse list
run sagefix wheelhouse check
run sagefix toolchain show

say "All of it worked, in $(($(date +%s) - started)) seconds."
