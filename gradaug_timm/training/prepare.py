"""Preparation: everything that happens before the first epoch."""
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, cast

from timm.data import resolve_data_config
from timm.scheduler import create_scheduler_v2, scheduler_kwargs
from timm.task import TrainingTask
from timm.utils import NativeScaler, random_seed
from torch import nn

from ..confusion import check_confusion
from ..data import check_channels
from ..files import replacing
from ..regularizers import DropBlockRamp
from ..task.compile_limit import Compilation, most_alike
from ..task.settings import GradAugSettings
from ..upstream import adapt_to_chs
from .arguments.settings import LoopSettings, TrainSettings
from .building.gradaug import enable_gradaug, settings_for
from .building.graph_count import expected_graphs
from .building.loaders import Loaders, build_loaders
from .building.networks import build_network, drop_block_rises, enable_checkpointing, place_network
from .building.optimizers import create_optimizer, with_learning_rate
from .building.tasks import build_task
from .callbacks import Callback, restore_states
from .checkpoints.compatibility import check_continues, check_exact, check_same_classes
from .checkpoints.restoring import load_checkpoint, restore, starting_position
from .checkpoints.saver import Checkpoints
from .checkpoints.schedules import restore_scheduler
from .checkpoints.state import CheckpointState
from .loop.epochs import check_processes
from .loop.validation import evaluate
from .outputs.folder import RunFolder, claim_folder, drop_rows, resume_path
from .outputs.loggers import Logger, Loggers, continue_log, open_loggers
from .outputs.run_json import network_facts, session, training_images, write_record
from .position import Position
from .processes import Precision, Process
from .run import Run, updates_per_epoch
from .unusual import warnings

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Parts:
    """The parts of a run that classification and detection build differently.

    Args:
        task: The task, which computes losses from a batch.
        loaders: Training and validation batches.
        precision: Types of weights and activations.
        scaler: The loss scaler of float16.
        settings: Settings of GradAug; None if GradAug is off.
        settings_for: Returns the settings of GradAug that other flags would give for this network.
        config: timm's data configuration of the network.
        facts: Size and cost of the network and of a step, from `network_facts`.
        image_size: Image size in pixels, for the name of the folder.
        metric: The metric that ranks checkpoints.
        evaluate: Returns the validation metrics of a network.
        shared_statistics: As for `Run`.
        ramp: Returns the ramp of DropBlock's rate over a number of updates; None if the rate is constant.
        compilation: Returns the monitor of torch.compile; None if nothing is compiled.
        loggers: Loggers of the user.
        callbacks: Callbacks of the user.
    """

    task: TrainingTask
    loaders: Loaders
    precision: Precision
    scaler: NativeScaler | None
    settings: GradAugSettings | None
    settings_for: Callable[[Any], GradAugSettings]
    config: dict
    facts: dict
    image_size: int
    metric: str
    evaluate: Callable[..., dict[str, float]]
    shared_statistics: str = ''
    ramp: Callable[[int], DropBlockRamp] | None = None
    compilation: Callable[[], Compilation] | None = None
    loggers: Sequence[Logger] = ()
    callbacks: Sequence[Callback] = ()


def prepare(
        args: TrainSettings,
        text: str,
        process: Process,
        *,
        loggers: Sequence[Logger] = (),
        callbacks: Sequence[Callback] = (),
) -> Run:
    """Build a run: network, data, task, optimizer and folder; restore the checkpoint to resume.

    Args:
        args: The resolved settings; the learning rate, the number of classes and the choices of a budget are filled in
            here.
        text: The settings as given by the user, for `args.yaml`.
        process: The device and the processes.
        loggers: Loggers of the user.
        callbacks: Callbacks of the user.

    Raises:
        ValueError: Flags, network, data and files do not fit together.
    """
    precision = Precision.from_args(args, process.device)
    random_seed(args.seed, process.rank)
    network = build_network(args)
    num_classes = args.num_classes or network.num_classes
    args = replace(args, num_classes=num_classes)
    check_confusion(args.confusion_matrix, num_classes)
    config = data_config(args, network)
    input_size = config['input_size']
    check_channels(network, input_size[0])
    loaders = build_loaders(args, config, num_classes, process, precision)
    network = place_network(network, args, process, precision)
    settings, cost = None, 1.
    if args.gradaug:
        args, settings, cost = enable_gradaug(args, network, input_size)
    facts = network_facts(network, input_size, settings, cost)
    if args.grad_checkpointing:
        enable_checkpointing(network, args.model)
    scaler = precision.create_scaler()
    return assemble(args, text, process, Parts(
        task=build_task(args, network, settings, process, precision, scaler, loaders.class_names),
        loaders=loaders,
        precision=precision,
        scaler=scaler,
        settings=settings,
        settings_for=lambda other: settings_for(other, network, input_size),
        config=config,
        facts=facts,
        image_size=input_size[-1],
        metric=args.eval_metric if args.eval_metric and loaders.validation is not None else 'loss',
        evaluate=evaluate,
        shared_statistics='' if args.sync_bn else args.dist_bn,
        ramp=partial(DropBlockRamp, network) if drop_block_rises(args) else None,
        compilation=None if not args.torchcompile else lambda: Compilation(
            expected_graphs(args, settings, loaders, input_size), most_alike(network)),
        loggers=loggers,
        callbacks=callbacks,
    ))


def data_config(args: TrainSettings, network: nn.Module) -> dict[str, Any]:
    """Return timm's data configuration of a network, with mean and deviation for the channels of its images."""
    config = resolve_data_config(vars(args), model=network)
    channels = config['input_size'][0]
    return {**config, 'mean': adapt_to_chs(config['mean'], channels), 'std': adapt_to_chs(config['std'], channels)}


def assemble(args: LoopSettings, text: str, process: Process, parts: Parts) -> Run:
    """Assemble a run: add optimizer, schedule, folder and records, and restore the checkpoint to resume.

    Files of an earlier run are deleted last, after all checks have passed.

    Args:
        args: The settings; the learning rate is filled in here.
        text: The settings as given by the user, for `args.yaml`.
        process: The device and the processes.
        parts: The parts of the run.

    Raises:
        ValueError: Flags, network, data and files do not fit together.
    """
    task, loaders = parts.task, parts.loaders
    args = with_learning_rate(args, loaders.batch_size * process.world_size * args.grad_accum_steps)
    optimizer = create_optimizer(args, task)
    origin = {'world_size': process.world_size, 'training_images': training_images(loaders.train)}
    resumed_from, state = open_resumed(args, parts, origin)
    start = starting_position(args, state)
    restore(args, task, optimizer, parts.scaler, resumed_from, log_info=process.primary)
    eval_network = wrap(args, task, process)
    decreasing, updates = parts.metric == 'loss', updates_per_epoch(len(loaders.train), args.grad_accum_steps)
    scheduler, epochs = create_scheduler_v2(
        optimizer, **scheduler_kwargs(args, decreasing_metric=decreasing), updates_per_epoch=updates)
    folder = claim_folder(args, parts.image_size, resumed_from) if process.primary else None
    saver = None if folder is None else Checkpoints(
        model=task.get_trainable_module(),
        optimizer=optimizer,
        args=args,
        amp_scaler=parts.scaler,
        checkpoint_dir=folder.path,
        decreasing=decreasing,
        max_history=args.checkpoint_hist,
        task=task,
        scheduler=scheduler,
        config=parts.config,
        facts={**origin, 'class_names': loaders.class_names},
    )
    run = Run(
        args=args,
        process=process,
        precision=parts.precision,
        task=task,
        loaders=loaders,
        optimizer=optimizer,
        scaler=parts.scaler,
        scheduler=scheduler,
        eval_network=eval_network,
        evaluate=parts.evaluate,
        metric=parts.metric,
        start=start,
        end_epoch=min(epochs, args.stop_epoch or epochs),
        saver=saver,
        folder=folder,
        shared_statistics=parts.shared_statistics,
        ramp=parts.ramp(epochs * updates) if parts.ramp is not None else None,
        compilation=parts.compilation() if parts.compilation is not None else None,
        callbacks=parts.callbacks,
        stateful=(*parts.callbacks, *parts.loggers),
        saved_progress=state.progress if args.start_epoch is None else None,
        facts=parts.facts,
        resumed_from=resumed_from,
    )
    advance_schedule(run, start)
    if not args.no_resume_opt:
        restore_scheduler(scheduler, state.scheduler)
    if resumed_from:
        for name in restore_states(run.stateful, state.callbacks):
            _logger.warning(f'--resume {resumed_from} has no state of {name}, which starts from the beginning.')
    if process.primary and not args.dry_run:  # the report of a dry run shows them
        for line in warnings(run):
            _logger.warning(line)
    with releasing(folder):
        check_processes(run, start)
        if folder is None or saver is None:
            return run
        if resumed_from is not None and folder.holds(resumed_from):
            saver.continue_from(resumed_from, state)
        return replace(run, logs=open_records(args, text, run, folder, parts.loggers))


@contextmanager
def releasing(folder: RunFolder | None) -> Iterator[None]:
    """Let other runs use the folder if the context raises an error."""
    try:
        yield
    except BaseException:
        if folder is not None:
            folder.release()
        raise


def open_resumed(args: LoopSettings, parts: Parts, origin: dict) -> tuple[str | None, CheckpointState]:
    """Open the checkpoint to resume, and check that the run continues it.

    Args:
        args: The settings.
        parts: The parts of the run.
        origin: Number of processes and of training images, by their names in a checkpoint.

    Returns:
        The path, None if the run starts afresh, and the content.

    Raises:
        ValueError: The checkpoint is damaged, or of another run than the settings describe.
    """
    path = resume_path(args)
    if path is None:
        return None, CheckpointState()
    state = load_checkpoint(path)
    start = starting_position(args, state)
    check_continues(args, parts.settings, parts.settings_for, path, state)
    check_same_classes(parts.loaders.class_names, path, state)
    check_exact(args, origin, start, path, state)
    if start.batch and not parts.loaders.by_batch:
        raise ValueError(
            f'--resume {path} stopped within epoch {start.epoch}: iterable data sets and '
            f'--use-multi-epochs-loader cannot resume there; repeat the epoch with --start-epoch {start.epoch}')
    return path, state


def wrap(args: LoopSettings, task: TrainingTask, process: Process) -> nn.Module:
    """Compile the task and distribute it over processes; return the network for validation, without DDP."""
    if args.torchcompile:
        task.compile(backend=args.torchcompile, mode=args.torchcompile_mode)
        task.compile_ema(backend=args.torchcompile, mode=args.torchcompile_mode)
    eval_network = cast(nn.Module, task.get_eval_model())
    if process.distributed:
        device_ids = [process.device] if process.device.type == 'cuda' else None
        task.prepare_distributed(device_ids=device_ids, broadcast_buffers=not args.no_ddp_bb)
    return eval_network


def advance_schedule(run: Run, start: Position) -> None:
    """Advance the learning rate schedule to the start of the run."""
    if run.scheduler is None or start == Position():
        return
    if run.args.sched_on_updates:
        done = updates_per_epoch(start.batch, run.args.grad_accum_steps)
        run.scheduler.step_update(start.epoch * run.updates + done)
    else:
        run.scheduler.step(start.epoch)


def open_records(
        args: LoopSettings,
        text: str,
        run: Run,
        folder: RunFolder,
        more: Sequence[Logger],
) -> Loggers:
    """Write args.yaml and run.json, keep the history of a resumed run, and return the loggers."""
    start = run.start
    continued = run.resumed_from is not None and folder.holds(run.resumed_from)
    if start.epoch >= run.end_epoch:
        return Loggers()
    step, log = run.updates_until(start), None
    if continued:
        begun = run.updates_until(Position(start.epoch))
        log = continue_log(folder.log, start.epoch, begun, step - begun)
    ahead = 0 if log is None else log.ahead
    logs = open_loggers(args, folder, continued_at=None if log is None else step + ahead, ahead=ahead, more=more)
    folder.clear()
    if log is not None:
        drop_rows(folder.summary, start.epoch)
        log.cut()
    with replacing(f'{folder.path}/args.yaml') as file:
        file.write(text)
    facts = {**run.facts, 'epochs': run.end_epoch, 'training_images': training_images(run.loaders.train)}
    write_record(folder.path, facts, session(run.process, start.epoch), continued=continued)
    return logs
