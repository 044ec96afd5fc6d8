#!/bin/bash
# fits.sh MODEL || exit: the first line of a batch script that serves a model. It ends the job with 99 where the model does not fit the node
# that the job got, within the limits of its control group. With RequeueExit=99 in slurm.conf such a job goes back to the queue, as
# often as RESTARTS says, and then ends with 3. Slurm 22.05 refuses to leave a node out for a job that runs: have it requeued on
# hold, RequeueExitHold=99, where the next free node would always be this one.
#
# It is no Prolog= of slurm.conf: a prolog that fails drains the node, which has no fault.
set -uo pipefail

model=${1:?usage: fits.sh MODEL}
vlmem advise --model "$model" --seeds 1 >/dev/null
code=$?
if [ "$code" = 3 ] && [ "${SLURM_RESTART_COUNT:-0}" -lt "${RESTARTS:-8}" ]; then
  exit 99
fi
exit "$code"
