#!/bin/bash
# image.sh: proves what deploy/Dockerfile promises where there is no container builder, by hand, as root, outside CI. It makes the
# same two binaries with the Dockerfile's own commands and
#   1. the static one: it needs no library, two builds are equal; crane makes an image of it from nothing, in a registry of this
#      machine, and validates it; what the image holds runs in a root of its own, read-only, as 65532 and without capabilities
#   2. the one with cgo: it runs the same way in a root of Debian's libc6 alone, which debian:bookworm-slim holds
#
#   tools/fleet/image.sh         CRANE=program to try another than the newest
set -euo pipefail
repo=$(cd "$(dirname "$0")/../.." && pwd)
work=$(mktemp -d)
registry=
trap '[ -z "$registry" ] || kill "$registry"; umount -q "$work"/root*/{proc,sys} 2>/dev/null || true; rm -rf "$work"' EXIT
die() { echo "$*" >&2; exit 1; }
crane=${CRANE:-$work/crane}
[ -n "${CRANE:-}" ] || GOBIN=$work go install github.com/google/go-containerregistry/cmd/crane@latest

build() { # NUMBER OUT: the go build line of the Dockerfile's stage with this CGO_ENABLED
  local line
  line=$(sed -n "s,^RUN \(CGO_ENABLED=$1 go build .*\) -o /vlmem \(.*\),\1 -o $2 \2,p" "$repo/deploy/Dockerfile")
  [ -n "$line" ] || die "deploy/Dockerfile builds nothing with CGO_ENABLED=$1"
  (cd "$repo" && eval "$line")
}
inside() { # ROOT ARGUMENTS...: as the image's user, with nothing but the image's files, /proc and /sys, all read-only
  local root=$1; shift
  mkdir -p "$root"/{proc,sys}
  unshare --mount --net --ipc bash -euc '
    mount --make-rprivate /; mount --bind "$0" "$0"; mount --rbind /proc "$0/proc"; mount --rbind /sys "$0/sys"
    mount -o remount,bind,ro "$0"
    exec setpriv --no-new-privs chroot --userspec=65532:65532 "$0" "$@"' "$root" "$@"
}
tried() { # ROOT: the commands of deploy/kubernetes that need no cluster
  inside "$1" /vlmem --version
  inside "$1" /vlmem probe --reported | head -1
  inside "$1" /vlmem watch --once --format prometheus | grep -c '^vlmem_' | sed 's/$/ samples of watch/'
  inside "$1" /vlmem advise --hardware i5-10210u+gtx-1080 --model qwen3-vl-2b --seeds 1 2>/dev/null | sed -n 2p
  ! inside "$1" /vlmem profiles -o /new 2>/dev/null || die "it wrote into the read-only root"
}

# 1. static, from nothing
build 0 "$work/static"
build 0 "$work/again"
cmp "$work/static" "$work/again"
! ldd "$work/static" >/dev/null 2>&1 || die "the static binary asks for libraries: $(ldd "$work/static")"
mkdir "$work/layer"
install -m 755 "$work/static" "$work/layer/vlmem"
tar -C "$work/layer" --owner=0 --group=0 --mtime=@0 -cf "$work/layer.tar" vlmem
"$crane" registry serve --address 127.0.0.1:16830 >"$work/registry.log" 2>&1 & registry=$!
image=127.0.0.1:16830/vlmem
for _ in $(seq 100); do "$crane" catalog "${image%/*}" >/dev/null 2>&1 && break; sleep 0.1; done
"$crane" append --insecure -f "$work/layer.tar" -t "$image:layer" >"$work/crane.log" 2>&1
user=$(sed -n 's/^USER //p' "$repo/deploy/Dockerfile" | sort -u)
"$crane" mutate "$image:layer" --user "$user" --entrypoint /vlmem -t "$image:static" >>"$work/crane.log" 2>&1
"$crane" validate --remote "$image:static"
config=$("$crane" config "$image:static")
grep -q "\"User\":\"$user\"" <<<"$config" && grep -q '"Entrypoint":\["/vlmem"\]' <<<"$config" || die "the image's configuration: $config"
"$crane" export "$image:static" "$work/export.tar"
[ "$(tar tf "$work/export.tar")" = vlmem ] || die "the image holds more than vlmem: $(tar tf "$work/export.tar")"
mkdir "$work/root"
tar xf "$work/export.tar" -C "$work/root"
cmp "$work/static" "$work/root/vlmem"
echo "static: $(stat -c %s "$work/static") bytes, built twice alike; image $("$crane" digest "$image:static"), user $user"
tried "$work/root"

# 2. with cgo, over Debian's C library
build 1 "$work/cgo"
mkdir -p "$work"/{deb,root-cgo}
(cd "$work/deb" && apt-get -q download libc6 >/dev/null 2>&1) || die "apt-get download libc6 fails"
dpkg -x "$work"/deb/libc6_*.deb "$work/root-cgo"
ldd "$work/cgo" | awk '/=>/ {print $1}' | while read -r l; do
  find "$work/root-cgo" -name "$l" | grep -q . || die "the binary with cgo asks for $l, which libc6 does not hold"
done
install -m 755 "$work/cgo" "$work/root-cgo/vlmem"
echo "cgo: $(stat -c %s "$work/cgo") bytes, asks for $(ldd "$work/cgo" | awk '/=>/ {printf "%s ", $1}')"
tried "$work/root-cgo"
