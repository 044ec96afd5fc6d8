#!/bin/bash
# Holds what vlmem run says of a program's control group against a kernel with version 2 alone: boots a Debian kernel in QEMU, with the
# tests of internal/child and vlmem as its only programs, and prints what they say of four places: the topmost group, one without bounds,
# where the program's group lies beside it, one with a bound, which is not left, and one that vlmem is told to make with a limit.
#   KERNEL=vmlinuz tools/reference/limits/follow.sh      from the project's root; needs qemu-system-x86 and busybox-static
# It emulates, which takes some minutes; ACCEL=kvm where that works. Exit code 0: all hold.
set -euo pipefail
kernel=${KERNEL:?the kernel to boot, a vmlinuz with cgroups version 2}
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
mkdir -p "$work"/root/{bin,proc,sys,dev,tmp}
cp "$(command -v busybox)" "$work/root/bin/busybox"
for name in sh mount echo cat poweroff ls mkdir dd grep sleep setsid tr; do ln -s busybox "$work/root/bin/$name"; done
CGO_ENABLED=0 go test -c -o "$work/root/bin/child.test" ./internal/child
CGO_ENABLED=0 go build -ldflags '-s -w' -o "$work/root/bin/vlmem" ./cmd/vlmem
cat > "$work/root/init" <<'INIT'
#!/bin/sh
export PATH=/bin HOME=/tmp TMPDIR=/tmp
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev; mount -t tmpfs tmp /tmp
mount -t cgroup2 cgroup /sys/fs/cgroup
cd /tmp; G=/sys/fs/cgroup
echo +memory > $G/cgroup.subtree_control
tests='Test(Ends|ForwardsSignals|NamesWhatIsLeft|KilledForMemory)$'
child.test -test.run "$tests" -test.v > a 2>&1 && ! grep -q SKIP a && echo HELD top || cat a
mkdir $G/user $G/user/shell $G/user/bound
echo +memory > $G/user/cgroup.subtree_control
echo 300M > $G/user/bound/memory.max
sh -c "echo \$\$ > $G/user/shell/cgroup.procs; exec child.test -test.run '$tests' -test.v" > b 2>&1 && ! grep -q SKIP b &&
  echo HELD beside || cat b
sh -c "echo \$\$ > $G/user/bound/cgroup.procs; exec vlmem run -- dd if=/dev/zero of=/dev/null bs=600M count=1" > c 2>&1
[ $? = 137 ] && said='control group inherited killed by the kernel for memory, as the control group it shares counts' &&
  tr '\n' ' ' < c | grep -q "$said" &&
  echo HELD bounded || cat c
sh -c "echo \$\$ > $G/user/shell/cgroup.procs; exec vlmem run --limit 400MiB --save o.json -- dd if=/dev/zero of=/dev/null bs=600M count=1" > d 2>&1
[ $? = 137 ] && grep -q 'killed by the kernel for memory, as its own control group counts' d && grep -q '"control_group":"own"' o.json &&
  echo HELD limited || cat d
grep -q '"group_bytes":4[01]' o.json && ! ls $G/user | grep -q vlmem-run && echo HELD counted, removed
cat d
poweroff -f
INIT
chmod +x "$work/root/init"
(cd "$work/root" && find . | busybox cpio -o -H newc | gzip -1) > "$work/initrd"
timeout 900 qemu-system-x86_64 -accel "${ACCEL:-tcg,thread=multi}" -cpu max -m 2G -smp 2 -nographic -no-reboot -kernel "$kernel" \
  -initrd "$work/initrd" -append 'console=ttyS0 loglevel=4 panic=-1' | tee "$work/log"
[ "$(grep -c '^HELD' "$work/log")" = 5 ]
