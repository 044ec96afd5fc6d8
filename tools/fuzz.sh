#!/usr/bin/env bash
# Fuzzes every door for a time each, and prints how many inputs each was tried with: tools/fuzz.sh [TIME], 10m unless told.
#
# Go minimises each input that covers something new for up to a minute by default, and doors that read a file whole then
# try some dozens of inputs a minute. Ten tries of minimising are enough to keep corpora small, and thousands of inputs a
# second go through.
set -euo pipefail
cd "$(dirname "$0")/.."
time=${1:-10m}
failed=0
for folder in $(git ls-files '*_test.go' | xargs grep -l '^func Fuzz' | xargs -n1 dirname | sort -u); do
  for target in $(go test -list '^Fuzz' "./$folder" | grep '^Fuzz'); do
    log=$(mktemp)
    if go test -run '^$' -fuzz "^$target\$" -fuzztime "$time" -fuzzminimizetime 10x "./$folder" >"$log" 2>&1; then
      printf '%-28s %-24s %s\n' "$folder" "$target" "$(grep -o 'execs: [0-9]*' "$log" | tail -1)"
    else
      failed=1
      printf '%-28s %-24s FAILED\n' "$folder" "$target"
      cat "$log"
    fi
    rm -f "$log"
  done
done
exit $failed
