#!/usr/bin/env bash
# Writes this machine's configuration ROUNDS times (20) and says how many are equal to the byte, and in which keys the others
# differ. With LOAD more busy loops run beside it.
#
#   runs.sh [ROUNDS [LOAD]]
set -euo pipefail
cd "$(dirname "$0")/../.."
rounds=${1:-20} load=${2:-0}
work=$(mktemp -d)
busy=()
trap 'kill "${busy[@]}" 2>/dev/null || true; rm -rf "$work"' EXIT
go build -o "$work/vlmem" ./cmd/vlmem
for _ in $(seq "$load"); do
  sha256sum /dev/zero & busy+=($!)
done
for i in $(seq "$rounds"); do
  (cd "$work" && ./vlmem advise -o "$i.yaml" 2>/dev/null)
done
cd "$work"
most=$(sha256sum ./*.yaml | sort | uniq -c -w64 | sort -rn | head -1)
echo "equal: $(awk '{print $1}' <<<"$most") of $rounds"
usual=$(awk '{print $3}' <<<"$most")
for i in $(seq "$rounds"); do
  diff "$usual" "$i.yaml" | sed -n 's/^> *\([a-z_0-9#]*:\).*/\1/p'
done | sort | uniq -c | sort -rn
