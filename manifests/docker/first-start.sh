#!/bin/sh
# The entrypoint of an image that `sagefix dockerfile` describes: verifies the numbers once for each kind of GPU and
# driver that this container sees, keeps the outcome in SAGEFIX_STATE, and becomes the command.
#
#   SAGEFIX_FIRST_START=stop   (default) wrong numbers end the container with status 16
#   SAGEFIX_FIRST_START=warn   they are told, and the command runs
#   SAGEFIX_FIRST_START=off    nothing is verified
set -u
state=${SAGEFIX_STATE:-/var/lib/sagefix}
mode=${SAGEFIX_FIRST_START:-stop}
pin=${SAGEFIX_PIN:-sageattention}

say() { printf 'first-start: %s\n' "$*" >&2; }

# What the outcome is about: the build that is installed, torch and Triton, the GPUs, their driver.
subject() {
  cat "${SAGEFIX_PYTHON:-/opt/venv}"/lib/python*/site-packages/*.dist-info/sagefix.json 2>/dev/null
  ls -d "${SAGEFIX_PYTHON:-/opt/venv}"/lib/python*/site-packages/torch-* \
    "${SAGEFIX_PYTHON:-/opt/venv}"/lib/python*/site-packages/triton-* 2>/dev/null
  if command -v nvidia-smi >/dev/null 2>&1; then
    nvidia-smi --query-gpu=name,compute_cap,driver_version --format=csv,noheader 2>/dev/null | sort -u
  else
    cat /proc/driver/nvidia/version 2>/dev/null
    cat /proc/driver/nvidia/gpus/*/information 2>/dev/null | grep '^Model' | sort -u
  fi
  uname -m
}

refuse() {
  say "the numbers of $pin are WRONG here. $1"
  if [ "$mode" = warn ]; then
    say "SAGEFIX_FIRST_START=warn: going on all the same."
    return
  fi
  say "Not started. SAGEFIX_FIRST_START=warn starts it all the same; delete $outcome to verify again."
  exit 16
}

verify() {
  outcome=$state/verified-$(subject | sha256sum | cut -c 1-16).json
  if [ -f "$outcome" ]; then
    if grep -q '^{"schema":1,"command":"verify","ok":true,' "$outcome"; then
      say "the numbers of $pin are proven already: $outcome"
    else
      refuse "It was found before: $outcome"
    fi
    return
  fi
  if ! mkdir -p "$state" 2>/dev/null || ! fresh=$(mktemp "$state/.verifying-XXXXXX" 2>/dev/null); then
    say "$state is not writable: what is found here will not be kept."
    if ! fresh=$(mktemp 2>/dev/null) || ! SAGEFIX_CACHE_DIR=$(mktemp -d 2>/dev/null); then
      say "the numbers of $pin were NOT verified: nothing can be written."
      return
    fi
    export SAGEFIX_CACHE_DIR
    outcome=
  fi
  say "verifying the numbers of $pin, once ..."
  sagefix verify --level numerics --json >"$fresh" 2>"$fresh.log"
  status=$?
  if [ "$status" = 0 ] || [ "$status" = 16 ]; then
    rm -f "$fresh.log"
    chmod 644 "$fresh"
    { [ -n "$outcome" ] && mv "$fresh" "$outcome"; } || outcome=$fresh
    if [ "$status" = 0 ]; then
      say "the numbers of $pin are right: $outcome"
    else
      refuse "What was found: $outcome"
    fi
    return
  fi
  say "the numbers of $pin were NOT verified (status $status): $(sed -n 's/.*"message":"\([^"]*\)".*/\1/p' "$fresh")"
  tail -n 3 "$fresh.log" >&2
  rm -f "$fresh" "$fresh.log"
}

case $mode in
  off) ;;
  stop | warn) verify ;;
  *)
    say "SAGEFIX_FIRST_START is $mode; it takes stop, warn or off."
    exit 2
    ;;
esac
exec "$@"
