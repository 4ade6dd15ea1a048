#!/usr/bin/env bash
# The wheels of a GitHub release, one file of which belongs to each file of an index.
#
#   publish-release.sh fetch TAG FOLDER    download what was published before (nothing, the first time)
#   publish-release.sh upload TAG SITE     add the wheels of an index, with what stands beside them
#
# Needs the program gh with a token in GH_TOKEN: to read for fetch, to write contents for upload.
set -euo pipefail

if [ $# -ne 3 ]; then
  echo "usage: publish-release.sh fetch|upload TAG FOLDER" >&2
  exit 2
fi
action="$1" tag="$2" folder="$3"

exists() { gh release view "$tag" --json tagName >/dev/null 2>&1; }

case "$action" in
fetch)
  mkdir -p "$folder"
  if exists; then
    gh release download "$tag" --dir "$folder" --clobber --pattern '*.whl' --pattern '*.whl.*'
  else
    echo "There is no release $tag yet."
  fi
  ;;
upload)
  shopt -s globstar nullglob
  files=("$folder"/**/*.whl "$folder"/**/*.whl.*)
  if [ "${#files[@]}" -eq 0 ]; then
    echo "There is no wheel below $folder." >&2
    exit 1
  fi
  if ! exists; then
    gh release create "$tag" --title "$tag" --latest=false \
      --notes "Wheels built ahead, with their records. Install from the index, or with sagefix."
  fi
  gh release upload "$tag" --clobber "${files[@]}"
  ;;
*)
  echo "publish-release.sh: $action is neither fetch nor upload" >&2
  exit 2
  ;;
esac
