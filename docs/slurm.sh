#!/bin/bash
# sbatch --job-name NAME docs/slurm.sh FLAGS...: trains as train.py with these flags, one process a GPU, and goes on after
# pre-emption or the end of its time with what is saved. See docs/cluster.md.
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=8
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=8
#SBATCH --time=12:00:00
#SBATCH --signal=B:TERM@120
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x.log

export MASTER_ADDR=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
export MASTER_PORT=$((20000 + SLURM_JOB_ID % 10000))

srun python train.py --experiment "$SLURM_JOB_NAME" --resume auto "$@" &
run=$!
trap 'kill -TERM $run' TERM # srun hands it to every process; each finishes its step, and the first of them saves
wait $run
while kill -0 $run 2> /dev/null; do
    wait $run # the first was interrupted by the signal
done
wait $run
code=$?
if [ $code -eq 143 ]; then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit $code
