#!/bin/bash
# Holds what probe says may be filled against a kernel with control groups of version 2 alone, two memory nodes, swap, and
# strict overcommit: boots a Debian kernel in QEMU, with the live tests of internal/probe as its only program, and prints
# what they say.
#   KERNEL=vmlinuz tools/reference/limits/run.sh      from the project's root; needs qemu-system-x86 and busybox-static
# Each processor keeps lists of free pages of its own, which MemFree does not count. Of the tens of MiB that they hold by default a
# program gets some, none or all before it is killed (Linux 6.1: 0 to 30 of 52 MiB), so that what is said is on the safe side by that
# much. vm.percpu_pagelist_high_fraction keeps them to about a MiB here: what is tried is the account, not these lists.
# It emulates, which takes some minutes; ACCEL=kvm where that works. Exit code 0: all hold.
set -euo pipefail
kernel=${KERNEL:?the kernel to boot, a vmlinuz with cgroups version 2}
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
mkdir -p "$work"/root/{bin,proc,sys,dev,tmp}
cp "$(command -v busybox)" "$work/root/bin/busybox"
for name in sh mount echo cat poweroff ls mkswap swapon swapoff; do ln -s busybox "$work/root/bin/$name"; done
CGO_ENABLED=0 go test -c -o "$work/root/bin/probe.test" ./internal/probe
cat > "$work/root/init" <<'INIT'
#!/bin/sh
export PATH=/bin HOME=/tmp
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev; mount -t tmpfs tmp /tmp
mount -t cgroup2 cgroup /sys/fs/cgroup
echo 65536 > /proc/sys/vm/percpu_pagelist_high_fraction
cd /tmp
VLMEM_OWN_MACHINE=1 probe.test -test.run 'TestLive(Bounds|Threads)' -test.v && echo HELD groups
mkswap /dev/nvme0n1 && swapon /dev/nvme0n1
probe.test -test.run 'TestLiveBounds/(swap|high)' -test.v && echo HELD swap
swapoff /dev/nvme0n1
echo 2 > /proc/sys/vm/overcommit_memory; echo 70 > /proc/sys/vm/overcommit_ratio
VLMEM_STRICT=1 probe.test -test.run TestLiveCommitments -test.v && echo HELD commitments
poweroff -f
INIT
chmod +x "$work/root/init"
(cd "$work/root" && find . | busybox cpio -o -H newc | gzip -1) > "$work/initrd"
truncate -s 1G "$work/swap"
timeout 1200 qemu-system-x86_64 -accel "${ACCEL:-tcg,thread=multi}" -cpu max -m 3G -smp 2 \
  -object memory-backend-ram,id=m0,size=1G -object memory-backend-ram,id=m1,size=2G \
  -numa node,cpus=0,memdev=m0 -numa node,cpus=1,memdev=m1 \
  -drive "if=none,id=swap,format=raw,file=$work/swap" -device nvme,serial=swap,drive=swap -nographic -no-reboot -kernel "$kernel" \
  -initrd "$work/initrd" -append 'console=ttyS0 loglevel=4 panic=-1' | tee "$work/log"
[ "$(grep -c '^HELD' "$work/log")" = 3 ]
