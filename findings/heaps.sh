#!/usr/bin/env bash
# glibc 2.36, jemalloc 5.3.0 and mimalloc 2.0.9 of Debian 12: settings that should keep freed tensors in the heap and do not.
#
# Expected: raising what the heap may keep never adds page faults, a setting holds in every thread, and a purge delay of 100 s keeps what is freed.
# Seen, faults for one block written and freed again and again: glibc alone none at 20 MiB, with M_TRIM_THRESHOLD raised all 5,120
# (setting it stops the mmap threshold from growing); jemalloc with oversize_threshold:0 all 10,240 of 40 MiB in the first thread and
# none in the second; mimalloc with a
# decommit delay of 100 s all 10,247, as without. Run by hand, needs apt-get and cc on Debian 12.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
case $(getconf GNU_LIBC_VERSION) in "glibc 2.36") ;; *) echo "needs Debian 12's glibc 2.36"; exit 3 ;; esac
cd "$folder"
apt-get download -qq libjemalloc2=5.3.0-1 libmimalloc2.0=2.0.9+ds-2 2>/dev/null
for file in *.deb; do dpkg-deb -x "$file" x; done
libraries=$folder/x/usr/lib/x86_64-linux-gnu
cat >heap.c <<'C'
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
static size_t size;
static void *churn(void *name) {
  struct rusage before, after;
  for (int i = 0; i < 14; i++) {
    if (i == 4) getrusage(RUSAGE_SELF, &before);
    char *p = malloc(size);
    for (size_t at = 0; at < size; at += 4096) ((volatile char *)p)[at] = 1;
    free(p);
  }
  getrusage(RUSAGE_SELF, &after);
  printf("%s %ld\n", (char *)name, (after.ru_minflt - before.ru_minflt) / 10);
  return 0;
}
int main(int argc, char **argv) {
  size = (size_t)(atof(argv[1]) * (1 << 20));
  churn("first");
  pthread_t t;
  pthread_create(&t, 0, churn, "second");
  pthread_join(t, 0);
  return 0;
}
C
cc -O1 -pthread heap.c -o heap
check() { # WHAT MIB FIRST SECOND VARIABLE=VALUE...: least faults of each thread; 0 means fewer than 100
  local got first second
  got=$(env "${@:5}" ./heap "$2" | awk '{print $2}' | xargs)
  read -r first second <<<"$got"
  echo "$1: $first faults in the first thread, $second in the second"
  for pair in "$first $3" "$second $4"; do
    read -r seen least <<<"$pair"
    if [ "$least" = 0 ]; then [ "$seen" -lt 100 ]; else [ "$seen" -ge "$least" ]; fi || { echo "this has changed"; exit 1; }
  done
}
check "glibc, defaults" 20 0 0
check "glibc, trim threshold of 1 GiB" 20 5000 5000 MALLOC_TRIM_THRESHOLD_=1073741824
check "jemalloc, oversize_threshold:0" 40 10000 0 MALLOC_CONF=oversize_threshold:0 LD_PRELOAD="$libraries/libjemalloc.so.2"
check "mimalloc, decommit delay of 100 s" 40 10000 10000 MIMALLOC_DECOMMIT_DELAY=100000 LD_PRELOAD="$libraries/libmimalloc.so.2"
