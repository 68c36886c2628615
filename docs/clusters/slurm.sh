#!/bin/bash
# One run on four machines with four GPUs each: sbatch docs/clusters/slurm.sh
#SBATCH --job-name=char_gpt
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=4   # a process for each GPU: jax gives each the one of its local number
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=8
#SBATCH --time=12:00:00
#SBATCH --requeue
#SBATCH --signal=TERM@120     # two minutes before the time is up: the run saves, and exits with 75
#SBATCH --output=%x-%j.log

OUT=/shared/runs/char_gpt     # seen by all machines

srun --kill-on-bad-exit=1 python -m experiments.char_gpt --out "$OUT"
code=$?

# 75 is a run that was stopped, or has lost a process, and resumes from its newest checkpoint.
if [ "$code" -eq 75 ] || [ "$code" -ge 128 ]; then
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
