#!/usr/bin/env bash
# documents.sh FOLDER: the man pages and completions of a release, dated with the commit so that two builds are equal.
set -euo pipefail
cd "$(dirname "$0")/../.."
mkdir -p "$1"
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct) go test -count=1 ./cmd/vlmem -run '^TestDocuments$' -documents "$(cd "$1" && pwd)"
