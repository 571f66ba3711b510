"""Settings of devices, precision, logging and checkpoints, and the flags of timm that are not supported."""
from dataclasses import dataclass

from ...cli import compile_backend, compile_mode
from ...flags import Role, Settings, needs, setting, switch
from ...threads import HELP as THREADS
from .conditions import NEVER, ON_CPU, ONE_PROCESS
from .values import COUNT, NATURAL, PERCENT, POSITIVE, metric

NO_NAFLEX = 'NaFlex batches hold patches of images of different sizes, for which GradAug has no transformations'
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


@dataclass(frozen=True, kw_only=True)
class DeviceSettings(Settings, title='device'):
    """Device, precision and compilation."""

    device: str | None = setting(
        None, 'device, such as cuda, mps or cpu (default: the accelerator if there is one)', metavar='NAME',
        role=Role.PLACE)
    threads: int | None = setting(None, THREADS, type=NATURAL, metavar='N', role=Role.PLACE)
    device_modules: tuple[str, ...] | None = setting(
        None, 'Python modules to import before training', nargs='+', metavar='MODULE', role=Role.PLACE)
    amp: bool = switch('mixed precision')
    amp_dtype: str = setting(
        'float16', 'lower precision of --amp (default: float16)', choices=('float16', 'bfloat16'), idle=(needs('amp'),))
    model_dtype: str | None = setting(None, 'precision of the weights', choices=('float32', 'float16', 'bfloat16'))
    channels_last: bool = switch('channels-last memory layout')
    torchcompile: str | None = setting(
        None, 'compile the network with this backend of torch.compile (default: inductor)', nargs='?', const='inductor',
        type=compile_backend, metavar='BACKEND')
    torchcompile_mode: str | None = setting(
        None, 'mode of torch.compile', type=compile_mode, metavar='MODE', idle=(needs('torchcompile'),))
    no_ddp_bb: bool = switch('do not broadcast buffers between processes', idle=(ONE_PROCESS,))
    synchronize_step: bool = switch('wait for the device after every step', role=Role.PLACE, idle=(ON_CPU,))
    local_rank: int = setting(
        0, 'set by launchers; torchrun does not need it', flags=('--local_rank', '--local-rank'), type=int,
        role=Role.PLACE)


@dataclass(frozen=True, kw_only=True)
class RunSettings(Settings, title='run', role=Role.WRITTEN):
    """Seeds, workers, logs and files."""

    seed: int = setting(42, 'random seed (default: 42)', type=COUNT, metavar='N', role=Role.LEARNED)
    worker_seeding: str = setting(
        'all', 'kept for timm\'s recipes; draws of data workers follow from --seed', choices=('all', 'part'),
        role=Role.PLACE, idle=NEVER)
    workers: int = setting(
        4, 'data workers per process (default: 4)', flags=('-j',), type=COUNT, metavar='N', role=Role.PLACE)
    pin_mem: bool = switch('load batches into pinned memory', role=Role.PLACE, idle=(ON_CPU,))
    no_prefetcher: bool = switch(
        'normalise and mix images in the main thread instead of on the device', role=Role.LEARNED)
    use_multi_epochs_loader: bool = switch('keep data workers running between epochs', role=Role.PLACE)
    log_interval: int = setting(50, 'updates between log lines (default: 50)', type=NATURAL, metavar='N')
    val_interval: int = setting(1, 'epochs between validations', type=NATURAL, metavar='N', role=Role.JUDGED,
        idle=(needs('val_split'),))
    eval_metric: str | None = setting(
        None, 'metric that ranks checkpoints (default: top1, or map)', type=metric, metavar='NAME', role=Role.JUDGED,
        idle=(needs('val_split'),))
    tta: int = setting(
        0, 'crops of each image whose outputs are averaged in validation', type=COUNT, metavar='N', role=Role.JUDGED,
        idle=(needs('val_split'),))
    save_images: bool = switch('save and log a picture of what the networks see, once per epoch')
    output: str = setting('', 'folder of all runs (default: output/train)', metavar='DIR')
    experiment: str = setting('', 'folder of this run (default: date, model and size)', metavar='NAME')
    dry_run: bool = switch('train a few steps, show settings, cost, time and what is unusual, and write nothing')
    overwrite: bool = switch('delete the files of an earlier run of the same name', idle=(needs('experiment'),))
    resume: str = setting('', 'checkpoint to resume from; auto: the last one of --experiment', metavar='FILE')
    no_resume_opt: bool = switch('resume without the state of the optimizer', role=Role.START, idle=(needs('resume'),))
    checkpoint_hist: int = setting(10, 'checkpoints to keep (default: 10)', type=NATURAL, metavar='N')
    save_epochs: tuple[int, ...] | None = setting(
        None, 'keep a checkpoint milestone-N after each of these epochs', type=NATURAL, nargs='+', metavar='N')
    checkpoint_steps: int | None = setting(
        None, 'also save within an epoch, every N updates', type=NATURAL, metavar='N')
    checkpoint_minutes: float | None = setting(
        None, 'also save within an epoch, every M minutes', type=POSITIVE, metavar='M')
    recovery_interval: int = setting(0, 'older spelling of --checkpoint-steps; 0: none', type=COUNT, metavar='N')
    nonfinite_limit: int | None = setting(
        None,
        'end after N batches whose loss isn\'t finite; above 1 updates with such gradients are left out (default: '
        '10 with float16, which does so anyway, else 1)', type=NATURAL, metavar='N', role=Role.START)
    log: tuple[str, ...] = setting(
        (), 'further loggers, registered by modules of --device-modules', nargs='+', metavar='NAME')
    log_tensorboard: bool = switch('log to TensorBoard, in the folder of this run')
    log_trackio: bool = switch('log to trackio')
    trackio_project: str | None = setting(
        None, 'trackio project name (default: gradaug_timm)', metavar='NAME', idle=(needs('log_trackio'),))
    log_wandb: bool = switch('log to Weights & Biases')
    wandb_project: str | None = setting(None, 'wandb project name', metavar='NAME', idle=(needs('log_wandb'),))
    wandb_tags: tuple[str, ...] = setting((), 'wandb tags', nargs='+', metavar='TAG', idle=(needs('log_wandb'),))
    wandb_resume_id: str = setting('', 'id of the wandb run to continue', metavar='ID', idle=(needs('log_wandb'),))


@dataclass(frozen=True, kw_only=True)
class ReportSettings(Settings, title='report', role=Role.JUDGED):
    """Values that `python -m gradaug_timm.report` shows; they do not change the training."""

    method: str | None = setting(None, 'name of the method in reports (default: the folder\'s)', metavar='NAME')
    published_top1: float | None = setting(
        None, 'published top-1, which reports show next to ours', type=PERCENT, metavar='PCT', role=Role.WRITTEN)
    published_top5: float | None = setting(
        None, 'published top-5, which reports show next to ours', type=PERCENT, metavar='PCT', role=Role.WRITTEN)
