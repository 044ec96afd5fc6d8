#!/usr/bin/env bash
# Plays a new user in an empty clone, in a terminal of tmux at 60, 80 and 160 columns: README's command, the screen that it
# leaves, the names to download (held against names.txt), the command to start (read by llama-server's own parser from npm's
# @node-llama-cpp/linux-x64), and verify. No line may be wider than the terminal.
#
#   play.sh [PACKAGE]   PACKAGE: a folder into which npm installed node-llama-cpp and @node-llama-cpp/linux-x64; default: a new one
#
# Needs tmux, git, go, g++, and npm where PACKAGE is not given.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
work=$(mktemp -d)
session=none turn=0
trap 'tmux -L "$session" kill-server 2>/dev/null || true; rm -rf "$work"' EXIT
fail() { echo "FAILED: $*"; exit 1; }

package=${1:-}
if [ -z "$package" ]; then
  package=$work/package && mkdir "$package"
  npm install --prefix "$package" --silent --ignore-scripts node-llama-cpp@3.22.1 @node-llama-cpp/linux-x64@3.22.1
fi
libraries=$(find "$package" -path '*/linux-x64/libllama-common.so' -printf '%h\n' | head -1)
source=$(find "$package" -name gitRelease.bundle | head -1)
[ -n "$libraries" ] || fail "no libllama-common.so under $package"
git clone -q "$source" "$work/llama.cpp"
(cd "$work/llama.cpp" && g++ -std=c++17 -Iinclude -Iggml/include -Icommon -Ivendor "$here/parser.cpp" -o "$work/parser" \
  "$libraries"/libllama-common.so "$libraries"/libllama.*so* "$libraries"/libggml.*so* "$libraries"/libggml-base.so \
  -Wl,-rpath,"$libraries")

# names: every REPOSITORY FILE that names.txt stands for
names() {
  grep -v '^#' "$here/names.txt" | while read -r repository file; do
    for r in $(eval "echo $repository"); do
      size=$(sed -E 's,.*/Qwen3-VL-(.*)-(Instruct|Thinking)-GGUF,\1,' <<<"$r")
      for f in $(eval "echo ${file//=/$size}"); do echo "$r $f"; done
    done
  done
}
names >"$work/names"

git clone -q "$root" "$work/clone"
readme=$(grep -o 'go run ./cmd/vlmem advise' "$work/clone/README.md" | head -1)
[ -n "$readme" ] || fail "README.md names no first command"

# screen COLUMNS COMMAND: types a command into a new terminal, waits until it is done, and keeps what stands there; lines that
# the terminal had to break are joined again, so that they show their width
screen() {
  turn=$((turn + 1)) session=newuser-$$-$turn # a server that is ending takes no new session
  tmux -L "$session" new-session -d -x "$1" -y 60 -c "$work/clone" "env PS1='$ ' NO_COLOR=1 bash --norc"
  tmux -L "$session" set-option -g history-limit 5000
  tmux -L "$session" send-keys "clear; $2; echo \"ended \$?\" >$work/ended" Enter
  until [ -s "$work/ended" ]; do sleep 0.2; done
  sleep 0.3
  tmux -L "$session" capture-pane -p -J -S - | sed -e 's/ *$//' >"$work/all"
  tmux -L "$session" kill-server
  grep -v 'echo "ended' "$work/all" | grep -v '^\$' >"$work/screen" || true
  awk -v most="$1" 'length($0) > most' "$work/screen" >"$work/wide"
  [ ! -s "$work/wide" ] || { cat "$work/wide"; fail "$1 columns: lines of '$2' are wider"; }
  code=$(sed 's/ended //' "$work/ended"); rm "$work/ended"
}

export LC_ALL=C.UTF-8
for columns in 60 80 160; do
  for machine in "" "--hardware i5-10210u+gtx-1080 --model qwen3-vl-4b" "--hardware i5-10210u --model qwen3-vl-2b"; do
    rm -f "$work/clone/config.yaml"
    screen $columns "$readme $machine > config.yaml"
    [ "$code" = 0 ] || { cat "$work/screen"; fail "$readme $machine ended with $code"; }
    [ -s "$work/clone/config.yaml" ] || fail "$readme wrote nothing"
    for part in '^fits' '^download from' '^start' '^check'; do
      grep -q "$part" "$work/screen" || { cat "$work/screen"; fail "no '$part' on the screen"; }
    done
    repository=$(sed -n 's/^download from \([^ ,]*\).*/\1/p' "$work/screen")
    sed -n '/^download/,/^start/p' "$work/screen" | grep -oE '^  [^ ,]+\.gguf' | while read -r file; do
      grep -qxF "$repository $file" "$work/names" || fail "$repository holds no $file"
      echo "$columns columns: $repository $file is there"
    done
    sed -n '/^start/,/^check/p' "$work/screen" | sed '1d;$d' >"$work/start"
    (set -- $(tr -d '\\\n' <"$work/start"); shift; "$work/parser" "$@") >"$work/parsed" 2>"$work/refused" ||
      { cat "$work/start" "$work/refused"; fail "llama-server refuses the command"; }
    echo "$columns columns: llama-server reads $(cat "$work/parsed")"
    screen $columns 'go run ./cmd/vlmem verify config.yaml'
    case $code in 0 | 4) ;; *) cat "$work/screen"; fail "verify ended with $code" ;; esac
    echo "$columns columns: $(grep -E 'claims hold' "$work/screen"), exit $code"
  done
  for words in 'advise --help' 'estimate --help' 'profiles' 'gate --for vllm --model qwen3-vl-4b --hardware rtx-4090' 'watch --once'; do
    screen $columns "go run ./cmd/vlmem $words"
    [ "$code" = 0 ] || fail "vlmem $words ended with $code"
  done
done
echo "nobody was left alone at 60, 80 and 160 columns"
