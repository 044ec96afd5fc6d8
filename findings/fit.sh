#!/usr/bin/env bash
# llama.cpp b11549: without -c, a server in a container is fitted to the machine around it, and killed.
#
# Since December 2025 a server without -c chooses its context by what is free (-fit on). Without a card that is all physical pages of the
# machine (sysconf(_SC_PHYS_PAGES)): limits of its control group and what other programs hold do not count. In a group of 3 GiB a
# model of 1 GiB with room for 20,000 tokens gets a cache for the whole machine, which is cleared when it is made: the kernel ends the
# process. With -c 4096 the same server starts.
#
# Run by hand, as one who may make control groups: installs the pinned package into a temporary folder, runs it on a header of full
# size over zeros in a group of 3 GiB, with and without a context, and fails where this is no longer so. Seen with xllamacpp
# 2026.10.11549, whose last number is llama.cpp's build, on a machine of 24 GB.
set -euo pipefail
folder=$(mktemp -d)
group=/sys/fs/cgroup/memory/llamafit.$$ limit=memory.limit_in_bytes
[ -d /sys/fs/cgroup/memory ] || { group=/sys/fs/cgroup/llamafit.$$ limit=memory.max; }
trap 'rmdir "$group" 2>/dev/null || true; rm -rf "$folder"' EXIT
mkdir "$group"
echo $((3 << 30)) >"$group/$limit"
python3 -m pip install -q --no-deps --target "$folder/xl" "xllamacpp==2026.10.11549" 2>/dev/null
export PYTHONPATH=$(dirname "$0")/../tools/reference/llamacpp
python3 -c 'import sys, record_build as r; r.write("2b", sys.argv[1])' "$folder/2b.gguf"
run() { # n_ctx: the server's exit status in the group
  local status=0
  (echo $BASHPID >"$group/cgroup.procs"; exec python3 -c "$(python3 -c 'import record_build as r; print(r.SERVER)')" \
    "$folder/xl" "$folder/2b.gguf" "{\"n_ctx\": $1, \"n_parallel\": 1}") >"$folder/log" 2>&1 || status=$?
  echo "n_ctx $1: exit $status," $(grep -oE "KV buffer size = +[0-9.]+ MiB" "$folder/log" | tail -1)
  return $status
}
run 4096
! run 0
