#!/usr/bin/env bash
# A Slurm array: each task makes its share of the units (SLURM_ARRAY_TASK_ID of SLURM_ARRAY_TASK_COUNT). Submit again to go on.
#   sbatch configs/fleet/slurm.sh prompts.csv s3://bucket/night        # or a folder that all nodes mount
#SBATCH --job-name=fsd-gs
#SBATCH --array=0-7
#SBATCH --gres=gpu:1
#SBATCH --cpus-per-task=4
#SBATCH --time=12:00:00
#SBATCH --requeue
#SBATCH --signal=B:TERM@300
# Five minutes before the time is up: batch ends after the steps in hand and gives its units back.
set -euo pipefail
exec fsd-gs batch "$1" --seeds 0-3 --output "$2" --scratch "${TMPDIR:-/tmp}"
