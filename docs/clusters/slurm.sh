#!/bin/bash
# One run on four machines with four GPUs each: sbatch docs/clusters/slurm.sh
#SBATCH --job-name=char_gpt
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=4   # one process per GPU: jax assigns GPUs by local rank
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=8
#SBATCH --time=12:00:00
#SBATCH --requeue
#SBATCH --signal=TERM@120     # two minutes before the time limit, the run saves and exits with 75
#SBATCH --output=%x-%j.log

OUT=/shared/runs/char_gpt     # on storage that all machines share

# If a process fails, the others end by themselves, with the exit code that says whether to restart.
srun --kill-on-bad-exit=0 python -m experiments.char_gpt --out "$OUT"
code=$?

# Exit code 75: the run was interrupted or lost a process, and resumes from its newest checkpoint.
if [ "$code" -eq 75 ] || [ "$code" -ge 128 ]; then
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
