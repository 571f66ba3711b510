#!/bin/bash
# Runs train.py with the given flags, one process per GPU:
#     sbatch --job-name NAME docs/slurm.sh FLAGS...
# When the job's time ends or the job is pre-empted, it is queued again and resumes from the last
# checkpoint. See docs/cluster.md.
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
export SRUN_CPUS_PER_TASK=${SLURM_CPUS_PER_TASK:-1} # since Slurm 22.05, srun doesn't inherit it from sbatch

preempted() {
    [[ $(scontrol show job "$SLURM_JOB_ID") =~ PreemptTime=[0-9] ]] # not set if the job was cancelled or sent a signal
}

asked=0
trap 'asked=1; scancel --signal=TERM "$SLURM_JOB_ID"' USR1 # to the tasks only: if srun got SIGTERM, it would kill them

srun python train.py --experiment "$SLURM_JOB_NAME" --resume auto "$@" &
run=$!
while kill -0 $run 2> /dev/null; do
    wait $run # until the run ends or the signal comes
done
wait $run
code=$?
if [ $code -eq 143 ] && { [ $asked -eq 1 ] || preempted; }; then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit $code
