"""Flags of devices, precision, logging, checkpoints, and the flags of timm's that aren't taken."""
import argparse

from ...cli import Refuse, StrictParser, compile_backend, compile_mode
from .values import COUNT, NATURAL, PERCENT, POSITIVE

NO_NAFLEX = 'NaFlex batches hold patches of images of different sizes, which no transform of GradAug takes'
NO_TORCHSCRIPT = 'TorchScript is deprecated in torch; use --torchcompile'
NO_SWEEP = 'it belongs to timm\'s sweep.py'
REFUSED = (
    (('--naflex-loader', '--naflex-patchify-channels-first'), 0, NO_NAFLEX),
    (('--naflex-max-seq-len', '--naflex-loss-scale'), 1, NO_NAFLEX),
    (('--naflex-train-seq-lens', '--naflex-patch-sizes', '--naflex-patch-size-probs'), '+', NO_NAFLEX),
    (('--torchscript',), 0, NO_TORCHSCRIPT),
    (('--fuser',), 1, NO_TORCHSCRIPT),
    (('--sweep-locks', '--sweep-attempt'), '+', NO_SWEEP),
)


def add_device(parser: StrictParser):
    """Where and how precisely to compute."""
    add = parser.add_argument_group('device').add_argument
    add('--device', metavar='NAME', help='cuda, mps, cpu... (default: what is there)')
    add('--device-modules', nargs='+', metavar='MODULE', help='modules to import first')
    add('--amp', action='store_true', help='mixed precision')
    add('--amp-dtype', default='float16', choices=('float16', 'bfloat16'), help='lower precision (default: float16)')
    add('--model-dtype', choices=('float32', 'float16', 'bfloat16'), help='precision of the weights')
    add('--channels-last', action='store_true', help='memory layout NHWC')
    add('--torchcompile', nargs='?', const='inductor', type=compile_backend, metavar='BACKEND',
        help='torch.compile (default: inductor)')
    add('--torchcompile-mode', type=compile_mode, metavar='MODE', help='mode of torch.compile')
    add('--no-ddp-bb', action='store_true', help='DDP doesn\'t broadcast buffers')
    add('--synchronize-step', action='store_true', help='wait for the device after every step')
    add('--local_rank', default=0, type=int, help='set by launchers; torchrun doesn\'t need it')


def add_run(parser: StrictParser):
    """Seeds, workers, logs and files."""
    add = parser.add_argument_group('run').add_argument
    add('--seed', type=COUNT, default=42, metavar='N', help='random seed (default: 42)')
    add('--worker-seeding', default='all', choices=('all', 'part'), help='seeds of the data workers')
    add('-j', '--workers', type=COUNT, default=4, metavar='N', help='data workers a process (default: 4)')
    add('--pin-mem', action='store_true', help='pinned memory for batches')
    add('--no-prefetcher', action='store_true', help='normalise and mix images in the main thread')
    add('--use-multi-epochs-loader', action='store_true', help='keep the loader running between epochs')
    add('--log-interval', type=NATURAL, default=50, metavar='N', help='updates between log lines (default: 50)')
    add('--val-interval', type=NATURAL, default=1, metavar='N', help='epochs between validations')
    add('--eval-metric', metavar='NAME', help='metric of the best checkpoint (default: top1, or map)')
    add('--tta', type=COUNT, default=0, metavar='N', help='crops of an image that are averaged in validation')
    add('--save-images', action='store_true', help='save and log a picture of what the networks see, in every epoch')
    add('--output', default='', metavar='DIR', help='folder of all runs (default: output/train)')
    add('--experiment', default='', metavar='NAME', help='folder of this run (default: date, model and size)')
    add('--dry-run', action='store_true', default=argparse.SUPPRESS,
        help='train a few steps, tell settings, cost, time and what is unusual, and write nothing')
    add('--overwrite', action='store_true', help='delete the files of an earlier run of the same name')
    add('--resume', default='', metavar='FILE', help='continue from it; auto: from the last of --experiment')
    add('--no-resume-opt', action='store_true', help='resume without the optimizer\'s state')
    add('--checkpoint-hist', type=NATURAL, default=10, metavar='N', help='checkpoints to keep (default: 10)')
    add('--save-epochs', type=NATURAL, nargs='+', metavar='N', help='keep milestone-N of these epochs')
    add('--checkpoint-steps', type=NATURAL, metavar='N', help='save within an epoch, every N updates')
    add('--checkpoint-minutes', type=POSITIVE, metavar='M', help='save within an epoch, when M minutes have passed')
    add('--recovery-interval', type=COUNT, default=0, metavar='N', help='timm\'s name of --checkpoint-steps, 0: none')
    add('--nonfinite-limit', type=NATURAL, metavar='N', help='end after N batches whose loss isn\'t finite; above 1 '
        'updates with such gradients are left out (default: 10 with float16, which does so anyway, else 1)')
    add('--log-tensorboard', action='store_true', help='log to TensorBoard, in the folder of this run')
    add('--log-trackio', action='store_true', help='log to trackio')
    add('--trackio-project', metavar='NAME', help='project there (default: gradaug_timm)')
    add('--log-wandb', action='store_true', help='log to Weights & Biases')
    add('--wandb-project', metavar='NAME', help='project there')
    add('--wandb-tags', nargs='+', default=[], metavar='TAG', help='tags there')
    add('--wandb-resume-id', default='', metavar='ID', help='run there to continue')


def add_report(parser: StrictParser):
    """What `python -m gradaug_timm.report` shows of the run; training doesn't depend on it."""
    add = parser.add_argument_group('report').add_argument
    add('--method', metavar='NAME', help='name of the method in reports (default: the folder\'s)')
    add('--published-top1', type=PERCENT, metavar='PCT', help='top-1 that was published for it, shown beside ours')
    add('--published-top5', type=PERCENT, metavar='PCT', help='top-5')


def add_refused(parser: StrictParser):
    """Flags of timm's script that end with a reason."""
    for flags, nargs, reason in REFUSED:
        for flag in flags:
            parser.add_argument(flag, action=Refuse, nargs=nargs, reason=reason, default=argparse.SUPPRESS)
