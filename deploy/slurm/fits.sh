#!/bin/bash
# fits.sh MODEL: the first line of a batch script that serves a model. It ends the job with 99 where the model does not fit the node
# that the job got, within the limits of its control group. With RequeueExit=99 in slurm.conf such a job goes back to the queue, and
# this node is left out where Slurm allows it.
#
# It is no Prolog= of slurm.conf: a prolog that fails drains the node, which has no fault.
set -uo pipefail

model=${1:?usage: fits.sh MODEL}
vlmem advise --model "$model" --seeds 1 >/dev/null
code=$?
if [ "$code" = 3 ]; then
  scontrol update "JobId=$SLURM_JOB_ID" "ExcNodeList=$SLURMD_NODENAME" || true # refused to a running job by some releases
  exit 99
fi
exit "$code"
