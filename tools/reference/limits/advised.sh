#!/bin/bash
# Holds what advise plans with against the kernel: in a memory group of 4 GiB of which another program holds 1 GiB, and under an
# address space of 4 GiB, a program fills what advise says a process may fill, and must live; with 64 MiB more it must not.
#   tools/reference/limits/advised.sh      from the project's root; needs root, cc, python3 and 5 GiB of memory; a minute
# Seen on Linux 6.18 with groups of version 1: 3,051 MiB filled and 3,123 MiB killed in the group.
set -euo pipefail
work=$(mktemp -d)
cat > "$work/fill.c" <<'C'
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>
int main(int n, char **argument) { /* BYTES [hold] */
	for (long left = atol(argument[1]); left > 0; left -= 1 << 20) {
		char *p = mmap(0, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (p == MAP_FAILED) return 9;
		for (int i = 0; i < 1 << 20; i += 4096) p[i] = 1;
	}
	if (n > 2) { close(1); pause(); }
	return 0;
}
C
cc -O1 -o "$work/fill" "$work/fill.c"
CGO_ENABLED=0 go build -o "$work/vlmem" ./cmd/vlmem
if [ -e /sys/fs/cgroup/cgroup.controllers ]; then
  group=/sys/fs/cgroup/vlmem-advised limit=memory.max
else
  group=/sys/fs/cgroup/memory$(grep :memory: /proc/self/cgroup | cut -d: -f3)/vlmem-advised limit=memory.limit_in_bytes
fi
trap 'kill $(cat "$work/holder") 2>/dev/null || true; sleep 1; rmdir "$group"; rm -rf "$work"' EXIT
mkdir "$group"; echo $((4 << 30)) > "$group/$limit"
mkfifo "$work/held"
(echo $BASHPID > "$group/cgroup.procs"; echo $BASHPID > "$work/holder"; exec "$work/fill" $((1 << 30)) hold) > "$work/held" &
cat "$work/held" # ends when the gibibyte is held

# room is what advise says that a process may fill. What its account leaves, capacity less what is in use, which other_bytes holds
# beside 512 MiB for a process, must be no more.
room() {
  "$work/vlmem" probe --reported --format json > "$work/probe.json"
  "$work/vlmem" advise --hardware "$work/probe.json" --model qwen3-vl-2b --format json 2> /dev/null > "$work/advice.json"
  python3 -c 'import json, sys
host = json.load(open(sys.argv[1]))["budget"]["host"]
of = lambda key: host[key]["value"]
account = of("capacity_bytes") - of("other_bytes") + (512 << 20)
assert account <= of("fillable_bytes"), (account, of("fillable_bytes"))
print(of("fillable_bytes"))' "$work/advice.json"
}
# fills BYTES WANTED: runs the program and holds whether it lived.
fills() {
  local code=0
  "$work/fill" "$1" || code=$?
  echo "  $(($1 >> 20)) MiB: $([ $code = 0 ] && echo filled || echo "ended with $code")"
  [ "$([ $code = 0 ] && echo lived || echo died)" = "$2" ]
}
slack=$((8 << 20)) # page tables, the program itself
(echo $BASHPID > "$group/cgroup.procs"; n=$(room); echo "a group of 4 GiB, 1 GiB of it held:"
  fills $((n - slack)) lived; fills $((n + (64 << 20))) died)
(ulimit -v $((4 << 20)); n=$(room); echo "an address space of 4 GiB:"
  fills $((n - slack)) lived; fills $((n + (64 << 20))) died)
echo both hold
