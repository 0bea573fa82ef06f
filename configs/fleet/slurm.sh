#!/usr/bin/env bash
# A Slurm array: each task makes its share of the units (SLURM_ARRAY_TASK_ID of SLURM_ARRAY_TASK_COUNT). Submit again to go on.
#   sbatch configs/fleet/slurm.sh prompts.csv s3://bucket/night
#SBATCH --job-name=fsd-gs
#SBATCH --array=0-7
#SBATCH --gres=gpu:1
#SBATCH --cpus-per-task=4
#SBATCH --time=12:00:00
#SBATCH --requeue
set -euo pipefail
exec fsd-gs batch "$1" --seeds 0-3 --output "$2"
