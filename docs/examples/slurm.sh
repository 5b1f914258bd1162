#!/bin/bash
#SBATCH --job-name=valuelearn
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=16
#SBATCH --time=08:00:00
#SBATCH --signal=TERM@300
#SBATCH --requeue
#SBATCH --open-mode=append
#
# One run on all GPUs of all nodes, whose folder lies on a disk that they share:
#
#     sbatch slurm.sh RUN_FOLDER CONFIG.yaml [KEY=VALUE ...]
#
# Five minutes before its time is over Slurm sends SIGTERM. The run then saves itself and ends with 130, and the
# job goes back into the queue, to go on from there.
set -euo pipefail

run=$1
if [[ -e $run ]]; then
    command=(resume "$run")
else
    command=(train "${@:2}" parallel.hosts="$SLURM_NTASKS" parallel.devices="${SLURM_GPUS_ON_NODE:-1}" --run "$run")
fi

code=0
srun --kill-on-bad-exit=1 valuelearn "${command[@]}" || code=$?
if ((code == 130)); then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
