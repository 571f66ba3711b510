"""train.py for tests, disturbed in one process: DISTURB='rank batch kill|term|seed'; only before the first restart."""
import os
import signal
import sys

from gradaug_timm.training.loop import epoch
from gradaug_timm.training.main import main

disturbed_rank, batch, how = os.environ['DISTURB'].split()
if os.environ['RANK'] == disturbed_rank and os.environ['TORCHELASTIC_RESTART_COUNT'] == '0':
    step, done = epoch._step, []

    def disturbed_step(*args):
        done.append(1)
        if len(done) == int(batch):
            os.kill(os.getpid(), signal.SIGKILL if how == 'kill' else signal.SIGTERM)
        return step(*args)

    if how == 'seed':
        sys.argv += ['--seed', '7']
    else:
        epoch._step = disturbed_step
main(sys.argv[1:])
