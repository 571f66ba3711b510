"""train.py that disturbs one process at a batch: DISTURB='RANK BATCH kill|term|seed'; not after a restart."""
import os
import signal
import sys
from contextlib import nullcontext

from train_helpers import at_batch

from gradaug_timm.training.main import main

disturbed_rank, batch, how = os.environ['DISTURB'].split()
disturbed = nullcontext()
if os.environ['RANK'] == disturbed_rank and os.environ['TORCHELASTIC_RESTART_COUNT'] == '0':
    if how == 'seed':
        sys.argv += ['--seed', '7']
    else:
        number = signal.SIGKILL if how == 'kill' else signal.SIGTERM
        disturbed = at_batch(int(batch), lambda *_: os.kill(os.getpid(), number))
with disturbed:
    main(sys.argv[1:])
