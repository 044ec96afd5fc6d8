#!/bin/bash
# Holds what probe reads of the machines in util-linux's own lscpu tests against what lscpu prints of them. Their dumps are
# GPL and not kept here: the source package of Debian 13 (util-linux 2.41.5, 22 dumps; 2.42.4 has the same) is fetched with
# this machine's own apt sources, which are left as they are.
#   tools/reference/lscpu/run.sh      from the project's root, on a Debian with deb822 sources
# Exit code 0: every item is as lscpu prints it, or stands with a reason in lscpuDiffers of internal/probe/lscpu_test.go.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
mkdir -p "$work"/{lists,cache,source}
awk 'BEGIN { RS = "" } NR == 1' /etc/apt/sources.list.d/debian.sources |
  sed '/^#/d; s/^Types: .*/Types: deb-src/; s/^Suites: .*/Suites: trixie/' > "$work/debian.sources"
cat > "$work/apt.conf" <<CONF
Dir::Etc::sourcelist "$work/debian.sources";
Dir::Etc::sourceparts "-";
Dir::State::lists "$work/lists";
Dir::Cache "$work/cache";
APT::Sandbox::User "root";
CONF
export APT_CONFIG="$work/apt.conf"
apt-get -qq update
(cd "$work/source" && apt-get -qq source --download-only --only-source util-linux)
source=$(ls "$work"/source/util-linux_*.orig.tar.xz)
tar -xJf "$source" -C "$work/source" --wildcards '*/tests/ts/lscpu/*' '*/tests/expected/lscpu/*'
echo "$(basename "$source"): $(ls "$work"/source/*/tests/ts/lscpu/dumps/*.tar.gz | wc -l) dumps"
VLMEM_LSCPU_TESTS=$(echo "$work"/source/*/tests) go test -count=1 -run TestLscpuDumps -v ./internal/probe |
  grep -v -e '^=== RUN' -e '--- PASS: .*/'
