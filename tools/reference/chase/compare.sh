#!/bin/bash
# vlmem probe beside independent measurements, in pairs:
#
#     compare.sh capacity N    N probes: felt capacities with intervals, and the page-local knee of chase after each
#     compare.sh bandwidth N   N pairs of probe and likwid-bench with 1 and all threads
#     compare.sh latency       three probes and chases over sizes in L1, L2, the last level and memory
#
# VLMEM names the binary (default vlmem). Needs gcc and jq, bandwidth also likwid.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
gcc -O2 -o "$work/chase" "$here/chase.c"
run() { "${VLMEM:-vlmem}" probe --format json 2>"$work/messages" >"$work/probe.json"; }

# knee prints the largest working set, in MiB, up to which the page-local chase stays below the middle of the last two levels.
knee() {
	"$work/chase" page any 4096 8192 10240 12288 14336 16384 18432 20480 22528 24576 28672 32768 65536 131072 |
		awk '{ size[NR] = $1; t[NR] = $2 } END { for (i = 1; i <= NR && t[i] <= sqrt(t[1] * t[NR]); i++) kept = size[i]; print kept / 1024 }'
}

capacity() {
	echo "run | seconds | L1 KiB | L2 KiB | last level MiB | interval | knee of chase"
	for i in $(seq "$1"); do
		began=$(date +%s%N)
		run
		took=$((($(date +%s%N) - began) / 10000000))
		jq -r --arg i "$i" --arg took "$(printf '%d.%02d' $((took / 100)) $((took % 100)))" --arg knee "$(knee)" '.measured |
			def mib: . / 1048576 * 10 | round / 10;
			"\($i) | \($took) | \(.l1_bytes / 1024) | \(.l2_bytes / 1024) | \(.llc_bytes | mib) | \(.llc_interval.low | mib)-\(.llc_interval.high | mib) | \($knee)"' "$work/probe.json"
	done
}

likwid() { likwid-bench -t "load_$kind" -W "S0:1GB:$1" 2>&1 | awk '/MByte\/s/ { print $2 / 1000 }'; }

bandwidth() {
	kind=avx
	grep -q avx512f /proc/cpuinfo && kind=avx512
	echo "pair | 1 thread, GB/s | likwid | ratio | $(nproc) threads | likwid | ratio"
	for i in $(seq "$1"); do
		run
		jq -r --arg i "$i" --argjson one "$(likwid 1)" --argjson all "$(likwid "$(nproc)")" '
			[.measured.bandwidth[] | select(.level == "DRAM" and .kernel == "load") | .bytes_per_s / 1e9] |
			def hundredth: . * 100 | round / 100;
			"\($i) | \(.[0] | hundredth) | \($one | hundredth) | \(.[0] / $one | hundredth) | \(.[-1] | hundredth) | \($all | hundredth) | \(.[-1] / $all | hundredth)"' "$work/probe.json"
	done
}

# latency takes the least of three rounds that alternate, since what disturbs either only makes it slower.
latency() {
	echo "order | KiB | probe, ns | chase | ratio"
	for _ in 1 2 3; do
		run
		for order in page random; do
			for kib in 16 256 512 4096 8192 131072; do
				jq -r --arg order "$order" --argjson kib $kib --argjson chase "$("$work/chase" $order any $kib | cut -d' ' -f2)" '.measured.latency[] |
					select(.order == {page: "page-local", random: "random"}[$order] and .bytes == $kib * 1024) |
					"\($order) \($kib) \(.seconds * 1e9) \($chase)"' "$work/probe.json"
			done
		done
	done | awk '
		{ at = $1 " | " $2 }
		!(at in probe) { order[++n] = at; probe[at] = $3; chase[at] = $4 }
		{ if ($3 < probe[at]) probe[at] = $3; if ($4 < chase[at]) chase[at] = $4 }
		END { for (i = 1; i <= n; i++) printf "%s | %.2f | %.2f | %.2f\n", order[i], probe[order[i]], chase[order[i]], probe[order[i]] / chase[order[i]] }'
}

"$@"
