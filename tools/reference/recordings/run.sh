#!/bin/bash
# Holds what explain says of public recordings against torch's own reader and against an undo from the end that shares no code
# with vlmem. The recordings are not kept here: public.txt says where each lies, and each is checked by its SHA-256.
#   tools/reference/recordings/run.sh [FOLDER]      from the project's root
# FOLDER holds the recordings, or receives them (git fetches what is missing). PYTHON, by default python3, needs torch
# (2.15.0 was used) and no card. Exit code 0: every recording agrees.
set -euo pipefail
here=$(dirname "$0")
folder=${1:-$(mktemp -d)}
binary=$(mktemp); trap 'rm -f "$binary"' EXIT
go build -o "$binary" ./cmd/vlmem
grep -v '^#' "$here/public.txt" | while read -r repository commit path sum; do
  file="$folder/${repository/\//+}--${path//\//_}"
  if [ ! -s "$file" ]; then
    clone="$folder/.git-${repository/\//+}"
    [ -d "$clone" ] || git clone -q --bare --filter=blob:none "https://github.com/$repository" "$clone"
    git --git-dir="$clone" show "$commit:$path" > "$file"
  fi
  echo "$sum  $file" | sha256sum --quiet --check
done
"${PYTHON:-python3}" "$here/compare.py" "$binary" "$folder"/*.pickle
VLMEM_RECORDINGS=$(realpath "$folder") go test -count=1 -run TestRecordingsAddUp -v ./internal/account
