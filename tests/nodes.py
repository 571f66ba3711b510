"""Several machines simulated on one: torchrun's agents on loopback, and docs/slurm.sh with a mock of Slurm.

Like Slurm's, the mock `srun` does not forward SIGTERM but kills its tasks, and `scancel --signal` reaches only tasks.
"""
import os
import subprocess
import sys

from processes import free_port

ENVIRONMENT = {'OMP_NUM_THREADS': '1', 'GLOO_SOCKET_IFNAME': 'lo', 'TORCH_DISABLE_SHARE_RDZV_TCP_STORE': '1'}

SRUN = '''#!/bin/bash
export SLURM_NTASKS=2
SLURM_PROCID=0 SLURM_LOCALID=0 "$@" & one=$!
SLURM_PROCID=1 SLURM_LOCALID=1 "$@" & two=$!
trap 'kill -KILL $one $two' TERM
echo $one $two > "$PLAYED/tasks"
while kill -0 $one || kill -0 $two; do wait $one $two; done 2> /dev/null
wait $one; first=$?
wait $two; second=$?
echo "tasks ended with $first and $second" >&2
exit $((first > second ? first : second))
'''
SCONTROL = '''#!/bin/bash
case "$1 $2" in
    'show hostnames') echo 127.0.0.1 ;;
    'show job') echo "JobId=$3 PreemptEligibleTime=2026-01-01T00:00:00 PreemptTime=$PREEMPTED" ;;
    *) echo "$@" >> "$PLAYED/calls" ;;
esac
'''
SCANCEL = '''#!/bin/bash
[ "$2" = "$SLURM_JOB_ID" ] && kill -"${1#--signal=}" $(cat "$PLAYED/tasks")
'''


def start_node(
        project_root, node: int, port: int, argv: list[str], *, cwd=None, disturb: str = '', restarts: int = 0,
) -> subprocess.Popen:
    """A machine's torchrun, with one process; `disturb` as in disturbed_train.py."""
    environment = {**os.environ, **ENVIRONMENT, 'PYTHONPATH': str(project_root), 'DISTURB': disturb}
    command = [
        sys.executable, '-m', 'torch.distributed.run', '--nnodes', '2', '--node-rank', f'{node}',
        '--nproc-per-node', '1', '--rdzv-backend', 'c10d', '--rdzv-id', 'test', '--rdzv-endpoint', f'127.0.0.1:{port}',
        '--max-restarts', f'{restarts}', project_root / ('tests/disturbed_train.py' if disturb else 'train.py'), *argv]
    return subprocess.Popen(command, cwd=cwd or project_root, env=environment, text=True, stderr=subprocess.PIPE,
                            stdout=subprocess.DEVNULL)


def end(*nodes: subprocess.Popen) -> list[tuple[int, str]]:
    """Exit code and log of each machine."""
    logs = [node.communicate(timeout=200)[1] for node in nodes]
    return [(node.returncode, log) for node, log in zip(nodes, logs)]


def submit(project_root, folder, argv: list[str], *, preempted: str = 'None') -> subprocess.Popen:
    """Starts docs/slurm.sh as Slurm would on two machines; what is asked of scontrol goes to `folder`/calls.

    `preempted` is what Slurm says of when the job was.
    """
    commands = folder / 'bin'
    commands.mkdir(exist_ok=True)
    for name, text in {'srun': SRUN, 'scontrol': SCONTROL, 'scancel': SCANCEL}.items():
        (commands / name).write_text(text)
        (commands / name).chmod(0o755)
    environment = {
        **os.environ, **ENVIRONMENT, 'PATH': f'{commands}:{os.path.dirname(sys.executable)}:{os.environ["PATH"]}',
        'SLURM_JOB_NAME': 'run', 'SLURM_JOB_ID': f'{free_port()}', 'SLURM_JOB_NODELIST': 'node[1-2]',
        'PLAYED': str(folder), 'PREEMPTED': preempted}
    return subprocess.Popen(['bash', 'docs/slurm.sh', *argv], cwd=project_root, env=environment, text=True,
                            start_new_session=True, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)
