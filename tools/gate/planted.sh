#!/usr/bin/env bash
# Tries vlmem's own gate: ROUNDS runs (20) of an unchanged program, of one whose operations take 10 % longer, and of one that
# asks for 1 % more bytes, each against one saved run. Prints how many of each the gate stopped, and how many it called
# too noisy. The changes are planted by building with two lines of internal/replay replaced. Then vlmem gate, in bytes: a
# program recorded anew as often, and one whose every allocation grew by 1 %, each against one recording.
set -euo pipefail
cd "$(dirname "$0")/../.."
rounds=${1:-20}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# plant NAME SED: builds vlmem with replay.go edited
plant() {
  sed "$2" internal/replay/replay.go >"$work/$1.go"
  cmp -s internal/replay/replay.go "$work/$1.go" && { echo "the line to plant $1 at is gone"; exit 1; }
  printf '{"Replace":{"%s":"%s"}}' "$PWD/internal/replay/replay.go" "$work/$1.go" >"$work/$1.json"
  go build -overlay "$work/$1.json" -o "$work/$1" ./cmd/vlmem
}

go build -o "$work/unchanged" ./cmd/vlmem
plant slower 's|^\t\tns = append(ns, int64(clock()-start))|\t\tfor end := clock() + (clock()-start)/10; clock() < end; {\n\t\t}\n&|'
plant larger 's|Size: s.Size, Pool: pool|Size: s.Size + (s.Size+99)/100, Pool: pool|'

bench() { "$work/$1" bench --model qwen3-vl-2b --image 320x240 --decode 4 --allocators vlmem,bestfit --touch=false "${@:2}" -o /dev/null 2>/dev/null; }
bench unchanged --save "$work/base.json"
for program in unchanged slower larger; do
  stopped=0 noisy=0
  for _ in $(seq "$rounds"); do
    code=0; bench "$program" --against "$work/base.json" || code=$?
    case $code in
      0) ;;
      1) stopped=$((stopped + 1)) ;;
      4) noisy=$((noisy + 1)) ;;
      *) echo "vlmem bench failed with $code"; exit 1 ;;
    esac
  done
  echo "$program: stopped $stopped of $rounds, too noisy to say $noisy"
done

# record NAME PERCENT: a recording of a request, its allocations grown
record() {
  "$work/unchanged" trace gen --model qwen3-vl-2b --image 320x240 --decode 2 2>/dev/null |
    awk -v p="$2" '$1 == "a" { $3 += int($3 * p / 100) } { print }' >"$work/$1.trace"
  "$work/unchanged" trace export --to snapshot "$work/$1.trace" -o "$work/$1.pickle" 2>/dev/null
}
record base 0
for program in unchanged:0 grown:1; do
  stopped=0
  for _ in $(seq "$rounds"); do
    record now "${program#*:}"
    code=0; "$work/unchanged" gate --snapshot "$work/now.pickle" --baseline "$work/base.pickle" >/dev/null 2>&1 || code=$?
    case $code in
      0) ;;
      1) stopped=$((stopped + 1)) ;;
      *) echo "vlmem gate failed with $code"; exit 1 ;;
    esac
  done
  echo "gate, ${program%:*}: stopped $stopped of $rounds"
done
