"""Everything that comes before the first epoch."""
import argparse
import logging
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from timm.data import resolve_data_config
from timm.optim import create_optimizer_v2, optimizer_kwargs
from timm.scheduler import create_scheduler_v2, scheduler_kwargs
from timm.task import TrainingTask, load_task_ema_checkpoint, resume_task_checkpoint
from timm.utils import NativeScaler, random_seed
from torch import nn

from ..compilation import Compilation, most_alike
from ..files import read_checkpoint, replacing
from ..regularizers import DropBlockRamp
from .checkpoints import Checkpoints
from .compilation import expected_graphs
from .evaluate import evaluate
from .folder import drop_rows, open_folder, resume_path
from .gradaug import enable_gradaug, settings_for
from .host import Host, Precision
from .loaders import Loaders, build_loaders
from .loggers import continue_log, open_loggers
from .networks import build_network, drop_block_rises, enable_checkpointing, place_network
from .newest import position_of
from .position import Position
from .record import network_facts, session, training_images, write_record
from .resuming import check_continues, check_exact
from .schedules import restore_scheduler
from .tasks import build_task
from .trainer import Trainer, updates_per_epoch

_logger = logging.getLogger(__name__)


@dataclass
class Run:
    """A run that is ready to start: `evaluate` validates `eval_network`; `facts` are those of `network_facts`."""

    trainer: Trainer
    eval_network: nn.Module
    metric: str
    start: Position
    end_epoch: int
    compilation: Compilation | None
    progress: dict | None = None
    evaluate: Callable[..., dict[str, float]] = evaluate
    facts: dict = field(default_factory=dict)
    resumed_from: str | None = None

    @property
    def lower_is_better(self) -> bool:
        """Whether the best checkpoint is that of the lowest metric."""
        return self.metric == 'loss'


def prepare(args: argparse.Namespace, text: str, host: Host) -> Run:
    """Network, data, task, optimizer and folder of a run, as far as the checkpoint that it resumes.

    Args:
        args: The flags; learning rate, number of classes and what a budget chooses are filled in.
        text: The flags as they were given, for `args.yaml`.
        host: The device and the processes.

    Raises:
        ValueError: Flags, network, data and files don't fit each other.
    """
    precision = Precision.from_args(args, host.device)
    random_seed(args.seed, host.rank)
    network = build_network(args)
    args.num_classes = args.num_classes or network.num_classes
    config = resolve_data_config(vars(args), model=network)
    network = place_network(network, args, host, precision)
    settings, cost = enable_gradaug(args, network, config['input_size']) if args.gradaug else (None, 1.)
    facts = network_facts(network, config['input_size'], settings, cost)
    if args.grad_checkpointing:
        enable_checkpointing(network, args.model)
    loaders = build_loaders(args, config, args.num_classes, host, precision)
    scaler = precision.create_scaler()
    task = build_task(args, network, settings, host, precision, scaler)
    optimizer = create_optimizer(args, task, loaders, host)
    resumed_from = resume_path(args)
    state = load_checkpoint(resumed_from) if resumed_from else {}
    start = _load(resumed_from, lambda: starting_position(args, state))
    origin = {'world_size': host.world_size, 'training_images': training_images(loaders.train)}
    if resumed_from:
        check_continues(
            args, settings, lambda flags: settings_for(flags, network, config['input_size']), resumed_from, state)
        check_exact(args, origin, start, resumed_from, state)
    restore(args, task, optimizer, scaler, resumed_from, host)
    eval_network = wrap(args, task, host)
    metric = args.eval_metric if loaders.validation is not None else 'loss'
    folder = open_folder(args, config['input_size'][-1], resumed_from) if host.primary else None
    updates = updates_per_epoch(len(loaders.train), args.grad_accum_steps)
    scheduler, epochs = create_scheduler_v2(
        optimizer, **scheduler_kwargs(args, decreasing_metric=metric == 'loss'), updates_per_epoch=updates)
    ramp = DropBlockRamp(network, epochs * updates) if drop_block_rises(args) else None
    saver = Checkpoints(
        model=task.get_trainable_module(),
        optimizer=optimizer,
        args=args,
        amp_scaler=scaler,
        checkpoint_dir=folder.path,
        decreasing=metric == 'loss',
        max_history=args.checkpoint_hist,
        task=task,
        scheduler=scheduler,
        config=config,
        facts=origin,
    ) if folder else None
    trainer = Trainer(args, host, precision, task, loaders, optimizer, scaler, scheduler, saver, folder, ramp)
    if start.batch and not loaders.by_batch:
        raise ValueError(
            f'--resume {resumed_from} stopped within epoch {start.epoch}: an iterable data set, or '
            f'--use-multi-epochs-loader, can\'t go on there; repeat the epoch by --start-epoch {start.epoch}')
    compilation = None
    if args.torchcompile:
        compilation = Compilation(expected_graphs(args, settings, loaders, config['input_size']), most_alike(network))
    progress = state.get('progress') if args.start_epoch is None else None
    run = Run(
        trainer,
        eval_network,
        metric,
        start,
        min(epochs, args.stop_epoch or epochs),
        compilation,
        progress,
        facts=facts,
        resumed_from=resumed_from,
    )
    advance_schedule(trainer, start)
    if not args.no_resume_opt:
        restore_scheduler(scheduler, state.get('scheduler'))
    if folder is not None:
        open_records(args, text, facts, run, resumed_from, state)
    return run


def starting_position(args: argparse.Namespace, state: dict) -> Position:
    """Where a run begins: as its flags say, or where the checkpoint with this content was written."""
    return position_of(state) if args.start_epoch is None else Position(args.start_epoch)


def create_optimizer(args, task: TrainingTask, loaders: Loaders, host: Host) -> torch.optim.Optimizer:
    """The optimizer; a learning rate that isn't given is filled in."""
    if args.lr is None:
        args.lr = scaled_learning_rate(args, loaders.batch_size * host.world_size * args.grad_accum_steps)
        _logger.info(f'Learning rate {args.lr:.4g}, from --lr-base {args.lr_base:g}.')
    options = {**optimizer_kwargs(cfg=args), 'filter_bias_and_bn': not args.decay_all_parameters, **args.opt_kwargs}
    try:
        return create_optimizer_v2(task.get_trainable_module(), **options)
    except (ImportError, TypeError) as error:
        raise ValueError(f'--opt {args.opt} cannot be built: {error}') from error


def scaled_learning_rate(args: argparse.Namespace, images: float) -> float:
    """`--lr-base` grown with the images an update, linearly or with their root."""
    ratio = images / args.lr_base_size
    adaptive = any(name in args.opt.lower() for name in ('ada', 'lamb'))
    scale = args.lr_base_scale or ('sqrt' if adaptive else 'linear')
    return args.lr_base * (ratio ** 0.5 if scale == 'sqrt' else ratio)


def restore(args, task: TrainingTask, optimizer, scaler: NativeScaler | None, path: str | None, host: Host) -> None:
    """Loads the checkpoint and sets up the moving average."""
    if path:
        full = not args.no_resume_opt
        _load(path, lambda: resume_task_checkpoint(
            task, path, optimizer if full else None, scaler if full else None, log_info=host.primary))
    if args.model_ema:
        task.setup_ema(
            decay=args.model_ema_decay,
            use_warmup=args.model_ema_warmup,
            device=torch.device('cpu') if args.model_ema_force_cpu else None,
        )
        if path:
            _load(path, lambda: load_task_ema_checkpoint(task, path))


def load_checkpoint(path: str) -> dict:
    """The content of the checkpoint that a run resumes."""
    return _load(path, lambda: dict(read_checkpoint(path)))


def _load(path: str, load):
    try:
        return load()
    except Exception as error:  # torch raises anything from EOFError to UnpicklingError on a broken file
        reason = ' '.join(str(error).split()) or type(error).__name__
        raise ValueError(f'--resume {path} cannot be loaded: {reason[:200]}') from error


def wrap(args, task: TrainingTask, host: Host) -> nn.Module:
    """Compiles the task and spreads it over processes; returns the network for validation, which DDP isn't around."""
    if args.torchcompile:
        task.compile(backend=args.torchcompile, mode=args.torchcompile_mode)
        task.compile_ema(backend=args.torchcompile, mode=args.torchcompile_mode)
    eval_network = task.get_eval_model()
    if host.distributed:
        device_ids = [host.device] if host.device.type == 'cuda' else None
        task.prepare_distributed(device_ids=device_ids, broadcast_buffers=not args.no_ddp_bb)
    return eval_network


def advance_schedule(trainer: Trainer, start: Position) -> None:
    """Takes the learning rate to where the run starts."""
    if trainer.scheduler is None or start == Position():
        return
    if trainer.args.sched_on_updates:
        done = updates_per_epoch(start.batch, trainer.args.grad_accum_steps)
        trainer.scheduler.step_update(start.epoch * trainer.updates + done)
    else:
        trainer.scheduler.step(start.epoch)


def open_records(args, text: str, facts: dict, run: Run, resumed_from: str | None, state: dict) -> None:
    """args.yaml, run.json, the history of the run that is continued, and the loggers."""
    trainer = run.trainer
    continued = resumed_from is not None and trainer.folder.holds(resumed_from)
    step, ahead = trainer.updates_until(run.start), 0
    if continued:
        trainer.saver.continue_from(resumed_from, state)
        if run.start.epoch < run.end_epoch:
            drop_rows(trainer.folder.summary, run.start.epoch)
            begun = trainer.updates_until(Position(run.start.epoch))
            ahead = continue_log(trainer.folder.log, run.start.epoch, begun, step - begun)
    if run.start.epoch < run.end_epoch:
        with replacing(f'{trainer.folder.path}/args.yaml') as file:
            file.write(text)
        facts = {**facts, 'epochs': run.end_epoch, 'training_images': training_images(trainer.loaders.train)}
        write_record(trainer.folder.path, facts, session(trainer.host, run.start.epoch), continued=continued)
        trainer.logs = open_loggers(
            args, trainer.folder, continued_at=step + ahead if continued else None, ahead=ahead)
