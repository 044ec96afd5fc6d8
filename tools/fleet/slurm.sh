#!/bin/bash
# slurm.sh: a real Slurm of two nodes on this machine, by hand, outside CI. It runs
#   1. bench.sbatch: eight shards, one killed while it runs, one requeued while it runs; their merge against a run never cut
#   2. fits.sh: a job whose model fits goes on, one whose model does not is put back into the queue, once, and refused then
#   3. sacct's peak of a job that holds 200 MiB of its own and maps a file of 64 MiB, and what vlmem estimate makes of it
# It needs root and Debian's archive: it unpacks packages into a temporary folder, installs nothing, and ends its daemons by number.
#
#   tools/fleet/slurm.sh         VLMEM=program tries another than the one that is built here; DEBS=folder keeps the packages
#
# Slurm's programs ask by which name they were started: slurmstepd called slurmstepd-wlm, as Debian's file is, ends with a
# segmentation fault in its accounting. Hence the links in bin.
set -euo pipefail
repo=$(cd "$(dirname "$0")/../.." && pwd)
work=$(mktemp -d)
pids=()
finish() { # jobs first, then the youngest daemon first, so that nothing is started on nodes that go
  scancel -u "$(id -un)" 2>/dev/null && sleep 2
  for ((i = ${#pids[@]} - 1; i >= 0; i--)); do kill "${pids[i]}" 2>/dev/null && wait "${pids[i]}" 2>/dev/null || true; done
  rm -rf "$work"
}
trap finish EXIT
die() { echo "$*" >&2; tail -n 5 "$work"/*.log >&2; exit 1; }
until_true() { # SECONDS COMMAND...
  local end=$((SECONDS + $1)); shift
  until "$@"; do [ $SECONDS -lt $end ] || die "this did not come about: $*"; sleep 0.1; done
}

mkdir -p "$work"/{root,bin,plugins,state,spool-one,spool-two,shards,db/mysql} "${DEBS:=$work/deb}"
packages=(slurmctld slurmd slurmdbd slurm-client slurm-wlm-basic-plugins slurm-wlm-mysql-plugin libmunge2 libhwloc15
  libfreeipmi17 librrd8 liblua5.4-0 libhttp-parser2.9 libjwt0 libyaml-0-2 mariadb-server-core libmariadb3 liburing2 libaio1 libnuma1)
for p in "${packages[@]}"; do
  compgen -G "$DEBS/${p}_*.deb" >/dev/null || (cd "$DEBS" && apt-get -q download "$p" >/dev/null 2>&1) || die "apt-get download $p fails"
done
for d in "$DEBS"/*.deb; do dpkg -x "$d" "$work/root"; done
lib=$work/root/usr/lib/x86_64-linux-gnu
export LD_LIBRARY_PATH=$lib:$lib/slurm-wlm SLURM_CONF=$work/slurm.conf
export PATH=$work/bin:$work/root/usr/bin:$PATH
for p in slurmctld slurmd slurmstepd; do ln -s "$work/root/usr/sbin/$p-wlm" "$work/bin/$p"; done
ln -s "$work/root/usr/sbin/slurmdbd" "$work/bin/slurmdbd"
if [ -n "${VLMEM:-}" ]; then cp "$VLMEM" "$work/bin/vlmem"; else (cd "$repo" && go build -o "$work/bin/vlmem" ./cmd/vlmem); fi

# The configuration
cat >"$work/slurmdbd.conf" <<CONF
AuthType=auth/none
DbdHost=localhost
DbdAddr=127.0.0.1
DbdPort=16821
SlurmUser=root
PluginDir=$lib/slurm-wlm
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort=16820
StorageUser=root
PidFile=$work/dbd.pid
LogFile=$work/dbd.log
CONF
chmod 600 "$work/slurmdbd.conf"
host=$(hostname -s)
cat >"$SLURM_CONF" <<CONF
ClusterName=fleet
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=16817
SlurmUser=root
SlurmdUser=root
AuthType=auth/none
CredType=cred/none
PluginDir=$lib/slurm-wlm
StateSaveLocation=$work/state
SlurmctldPidFile=$work/ctld.pid
SlurmctldLogFile=$work/ctld.log
SlurmdSpoolDir=$work/spool-%n
SlurmdPidFile=$work/slurmd-%n.pid
SlurmdLogFile=$work/slurmd-%n.log
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_res
SelectTypeParameters=CR_CPU
SwitchType=switch/none
MpiDefault=none
SchedulerParameters=batch_sched_delay=0,sched_interval=1
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=1
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort=16821
MinJobAge=3600
RequeueExit=99
NodeName=one NodeHostname=$host NodeAddr=127.0.0.1 Port=16818 CPUs=1 State=UNKNOWN
NodeName=two NodeHostname=$host NodeAddr=127.0.0.1 Port=16819 CPUs=1 State=UNKNOWN
PartitionName=all Nodes=one,two Default=YES State=UP
CONF
daemon() { "$@" >>"$work/out.log" 2>&1 & pids+=($!); }

# The daemons
daemon "$work/root/usr/sbin/mariadbd" --no-defaults --user=root --datadir="$work/db" --socket="$work/db.sock" --port=16820 \
  --bind-address=127.0.0.1 --skip-grant-tables --lc-messages-dir="$work/root/usr/share/mysql"
until_true 120 test -S "$work/db.sock"
daemon slurmdbd -D
until_true 120 grep -qs 'slurmdbd version .* started' "$work/dbd.log"
sacctmgr -i add cluster fleet >/dev/null
daemon slurmctld -D
for n in one two; do daemon slurmd -D -d "$work/bin/slurmstepd" -N "$n"; done
idle() { [ "$(sinfo -h -t idle -o %D 2>/dev/null)" = 2 ]; }
until_true 120 idle
echo "$(sinfo --version), nodes $(sinfo -h -o %N)"

field() { scontrol -o show job "$1" 2>/dev/null | grep -oE "\b$2=[^ ]*" | head -1 | cut -d= -f2; }
state() { [[ "$(field "$1" JobState)" =~ ^($2)$ ]]; }
running() { pgrep -f "vlmem bench .*shards/$1.json" >/dev/null; }
at_once() { # a job that was put back waits two minutes else
  until_true 120 state "$1" PENDING
  scontrol update "JobId=$1" StartTime=now
}

# 1. The array, with enough work that a task can be met while it runs
work_line='--model qwen3-vl-2b --model qwen3-vl-4b --model qwen3-vl-8b --model qwen3-vl-32b --image 640x480 --image 1280x720 --image 1920x1080 --decode 64 --repeats 0'
sed "s/^exec vlmem bench .* --shard/exec vlmem bench $work_line --shard/" "$repo/deploy/slurm/bench.sbatch" >"$work/bench.sbatch"
export SHARDS=$work/shards
cd "$work"
job=$(sbatch --parsable --mem=0 bench.sbatch)
until_true 120 running 0
kill -9 "$(pgrep -f "vlmem bench .*shards/0.json")"
until_true 120 state "${job}_0" FAILED
echo "shard 0 killed while it ran: $(field "${job}_0" JobState), exit $(field "${job}_0" ExitCode), its file $(ls "$SHARDS/0.json" 2>/dev/null || echo is not there)"
scontrol requeue "${job}_0"
until_true 120 running 2
scontrol requeue "${job}_2"
for t in 0 2; do at_once "${job}_$t"; done
over() { [ -z "$(squeue -h -r -j "$job" -o x)" ]; }
until_true 900 over
scontrol -o show job "$job" | grep -oE '(ArrayTaskId|JobState|Restarts|BatchHost)=[^ ]*' | paste -d' ' - - - - | sort -V
# shellcheck disable=SC2086
vlmem bench $work_line --format json -o whole.json
vlmem merge shards/[0-7].json --format json -o merged.json
cmp whole.json merged.json
echo "8 shards on 2 nodes, one killed, one requeued: merged equals unsharded, $(wc -c <merged.json) bytes"

# 2. What fits the node that it got
for m in qwen3-vl-2b qwen3-vl-235b-a22b; do
  printf '#!/bin/bash\n%s %s || exit\necho serving\n' "$repo/deploy/slurm/fits.sh" "$m" >"$m.sbatch"
done
small=$(sbatch --parsable --mem=0 --requeue -o small.out qwen3-vl-2b.sbatch)
large=$(RESTARTS=1 sbatch --parsable --mem=0 --requeue -o large.out qwen3-vl-235b-a22b.sbatch)
until_true 300 state "$small" COMPLETED
back() { [ "$(field "$large" Restarts)" = 1 ]; }
until_true 300 back
at_once "$large"
until_true 300 state "$large" FAILED
grep -qx serving small.out || die "a model that fits was not served"
! grep -q serving large.out || die "a model that does not fit was served"
echo "qwen3-vl-2b: $(field "$small" JobState); qwen3-vl-235b-a22b: put back $(field "$large" Restarts) time, then" \
  "$(field "$large" JobState) $(field "$large" ExitCode); nodes $(sinfo -h -o '%t %D')"

# 3. The peak that accounting saw
head -c 64M /dev/zero >mapped
cat >peak.sbatch <<'JOB'
#!/bin/bash
python3 -c '
import mmap, time
f = open("mapped", "rb")
m = mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ)
sum(m[i] for i in range(0, len(m), 4096))
own = bytearray(200 << 20)
time.sleep(4)'
JOB
peak=$(sbatch --parsable --mem=0 peak.sbatch)
until_true 300 state "$peak" "COMPLETED|FAILED"
told() { sacct -P --noconvert -o JobID,JobName,State,MaxRSS,NodeList -j "$peak" >sacct.txt && grep -qE 'batch\|COMPLETED\|[0-9]' sacct.txt; }
until_true 300 told
grep batch sacct.txt
rss=$(grep -m1 '\.batch|' sacct.txt | cut -d'|' -f4)
[ "$rss" -gt $((264 << 20)) ] || die "MaxRSS is $rss: less than 200 MiB of its own and 64 MiB mapped"
vlmem estimate --model qwen3-vl-2b --engine llama-server --quant q8_0 --ctx 4096 --device cpu --observed sacct.txt 2>&1 >/dev/null
