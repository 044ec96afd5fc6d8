#!/bin/bash
# vlmem probe beside independent measurements, in pairs:
#
#     compare.sh capacity N    N probes: felt capacities with intervals, and the page-local knee of chase after each
#     compare.sh bandwidth N   N probes, each between two runs of likwid-bench with 1 and with all threads
#     compare.sh latency       five probes and chases over sizes in L1, L2, the last level and memory
#
# VLMEM names the binary (default vlmem). Needs gcc and jq, bandwidth also likwid.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
gcc -O2 -o "$work/chase" "$here/chase.c"
row='def median: sort | .[length / 2 | floor];
	def hundredth: . * 100 | round / 100;
	def row: "\(.[0]) | \(.[1]) | \(.[2] | hundredth) | \(.[3] | hundredth) | \(.[4] | hundredth) | \(2 * .[2] / (.[3] + .[4]) | hundredth)";'
run() { "${VLMEM:-vlmem}" probe --format json 2>"$work/messages" >"$work/probe.json"; }

# knee prints the working set, in MiB, at which the page-local chase passes the middle of the last two levels (both in logarithms,
# interpolated).
knee() {
	"$work/chase" page any 4096 5120 6144 7168 8192 10240 12288 14336 16384 18432 20480 22528 24576 28672 32768 65536 131072 | awk '
		{ size[NR] = log($1 / 1024); t[NR] = log($2) }
		END {
			middle = (t[1] + t[NR]) / 2
			for (i = 1; i < NR - 1 && t[i + 1] <= middle; i++);
			printf "%.1f\n", exp(size[i] + (size[i + 1] - size[i]) * (middle - t[i]) / (t[i + 1] - t[i]))
		}'
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

# bandwidth runs likwid with all threads right before and right after each probe, since a virtual machine whose host moves its CPUs
# changes its speed within seconds, and with one thread around those. It ends with the medians of all rounds.
bandwidth() {
	kind=avx
	grep -q avx512f /proc/cpuinfo && kind=avx512
	echo "round | threads | probe, GB/s | likwid before | after | probe / their mean"
	for i in $(seq "$1"); do
		one=$(likwid 1) all=$(likwid "$(nproc)")
		run
		all=$all,$(likwid "$(nproc)") one=$one,$(likwid 1)
		jq -c --argjson i "$i" --argjson one "[$one]" --argjson all "[$all]" '
			[.measured.bandwidth[] | select(.level == "DRAM" and .kernel == "load")] | [.[0]] + $one, [.[-1]] + $all |
			[$i, .[0].threads, .[0].bytes_per_s / 1e9, .[1], .[2]]' "$work/probe.json" | tee -a "$work/rounds" | jq -r "$row row"
	done
	jq -rs "$row"'group_by(.[1])[] | ["median", .[0][1], (map(.[2]) | median)] + ([map(.[3, 4]) | median] | . + .) | row' "$work/rounds"
}

# latency takes the lower quartile, the second least, of five rounds that alternate: what disturbs either only makes it slower.
latency() {
	echo "order | KiB | probe, ns | chase | ratio"
	for _ in 1 2 3 4 5; do
		run
		for order in page random; do
			for kib in 16 256 512 4096 8192 131072; do
				jq -r --arg order "$order" --argjson kib $kib --argjson chase "$("$work/chase" $order any $kib | cut -d' ' -f2)" '.measured.latency[] |
					select(.order == {page: "page-local", random: "random"}[$order] and .bytes == $kib * 1024) |
					[$order, $kib, .seconds * 1e9, $chase] | @json' "$work/probe.json"
			done
		done
	done | jq -rs "$row"'group_by(.[0], .[1])[] | (map(.[2]) | sort[1]) as $probe | (map(.[3]) | sort[1]) as $chase |
		"\(.[0][0]) | \(.[0][1]) | \($probe | hundredth) | \($chase | hundredth) | \($probe / $chase | hundredth)"'
}

"$@"
