#!/usr/bin/env bash
# util-linux's lscpu: its table for programs numbers the cores of each kind from 0, so that the usual way to count physical cores,
# the different pairs of core and socket, counts a processor of 2 + 2 cores as 2.
#
# On phones, Grace-Blackwell and every other Arm machine with two designs of core; x86's kinds of core are one design to it. The
# summary has a block for each kind and is right when they are added up; --physical, or -p=cpu of one thread a core, is right too.
#
# Run by hand: lays out the files of such a machine in a temporary folder, asks the installed lscpu about it, and fails where this is
# no longer so. Seen with util-linux 2.38.1 (Debian 12) and in the expected output of its own test of a machine of four designs, of
# 2.41.5 and 2.42.4, where 8 cores are numbered 0,1,2,0,1,0,1,0.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
mkdir -p "$folder/proc"
for cpu in 0 1 2 3; do
  topology=$folder/sys/devices/system/cpu/cpu$cpu/topology
  mkdir -p "$topology"
  echo $cpu > "$topology/core_id"
  echo 0 > "$topology/physical_package_id"
  printf '%x\n' $((1 << cpu)) | tee "$topology/thread_siblings" > "$topology/core_cpus"
  echo f | tee "$topology/core_siblings" > "$topology/package_cpus"
  part=$([ $cpu -lt 2 ] && echo 0xd46 || echo 0xd4e) # Cortex-A510, Cortex-X3
  printf 'processor\t: %d\nCPU implementer\t: 0x41\nCPU architecture: 8\nCPU variant\t: 0x1\nCPU part\t: %s\nCPU revision\t: 0\n\n' \
    $cpu $part >> "$folder/proc/cpuinfo"
done
echo 0-3 | tee "$folder/sys/devices/system/cpu/"{online,possible,present} > /dev/null
lscpu --version
lscpu --sysroot "$folder" | grep -E 'Model name|Core\(s\) per socket'
pairs=$(lscpu --sysroot "$folder" -p=core,socket | grep -v '^#' | sort -u | wc -l)
kernel=$(cat "$folder"/sys/devices/system/cpu/cpu*/topology/core_id | sort -u | wc -l)
echo "the kernel tells $kernel cores, pairs of core and socket in lscpu -p are $pairs"
[ "$kernel" = 4 ] && [ "$pairs" = 2 ] || { echo "this has changed"; exit 1; }
