#!/usr/bin/env bash
# equal.sh: builds the program twice, in two clones of HEAD in different folders, and compares byte for byte, with cgo and without.
set -euo pipefail
cd "$(dirname "$0")/../.."
scratch=$(mktemp -d); trap 'rm -rf "$scratch"' EXIT
for n in 1 2; do
  git clone -q . "$scratch/clone-$n/with/a/path-$n"
  for cgo in 0 1; do
    (cd "$scratch/clone-$n/with/a/path-$n" && CGO_ENABLED=$cgo CGO_CFLAGS="-O2 -g0 -ffile-prefix-map=$PWD=." GOFLAGS= \
      go build -trimpath -ldflags='-s -w -buildid=' -o "$scratch/vlmem-$cgo-$n" ./cmd/vlmem)
  done
done
for cgo in 0 1; do
  cmp "$scratch/vlmem-$cgo-1" "$scratch/vlmem-$cgo-2" && echo "cgo=$cgo: equal, $(sha256sum <"$scratch/vlmem-$cgo-1" | cut -c1-16)"
done
