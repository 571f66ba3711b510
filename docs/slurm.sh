#!/bin/bash
# sbatch --job-name NAME docs/slurm.sh FLAGS...: trains as train.py with these flags, one process a GPU, and goes on after
# the end of its time, or pre-emption, with what is saved. See docs/cluster.md.
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=8
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=8
#SBATCH --time=12:00:00
#SBATCH --signal=B:USR1@120
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x.log

export MASTER_ADDR=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
export MASTER_PORT=$((20000 + SLURM_JOB_ID % 10000))
export SRUN_CPUS_PER_TASK=${SLURM_CPUS_PER_TASK:-1} # srun doesn't take it from sbatch since Slurm 22.05

preempted() {
    [[ $(scontrol show job "$SLURM_JOB_ID") =~ PreemptTime=[0-9] ]] # None where it is cancelled, or was sent a signal
}

asked=0
trap 'asked=1; scancel --signal=TERM "$SLURM_JOB_ID"' USR1 # to the tasks alone; srun, given SIGTERM, would kill them

srun python train.py --experiment "$SLURM_JOB_NAME" --resume auto "$@" &
run=$!
while kill -0 $run 2> /dev/null; do
    wait $run # until it ends, or the signal comes
done
wait $run
code=$?
if [ $code -eq 143 ] && { [ $asked -eq 1 ] || preempted; }; then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit $code
