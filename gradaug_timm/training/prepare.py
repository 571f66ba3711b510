"""Everything that comes before the first epoch."""
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, cast

from timm.data import resolve_data_config
from timm.scheduler import create_scheduler_v2, scheduler_kwargs
from timm.task import TrainingTask
from timm.utils import NativeScaler, random_seed
from torch import nn

from ..files import replacing
from ..regularizers import DropBlockRamp
from ..task.compile_limit import Compilation, most_alike
from ..task.settings import GradAugSettings
from .arguments.settings import LoopSettings, TrainSettings
from .building.gradaug import enable_gradaug, settings_for
from .building.graph_count import expected_graphs
from .building.loaders import Loaders, build_loaders
from .building.networks import build_network, drop_block_rises, enable_checkpointing, place_network
from .building.optimizers import create_optimizer, with_learning_rate
from .building.tasks import build_task
from .callbacks import Callback, restore_states
from .checkpoints.compatibility import check_continues, check_exact
from .checkpoints.restoring import load_checkpoint, restore, starting_position
from .checkpoints.saver import Checkpoints
from .checkpoints.schedules import restore_scheduler
from .checkpoints.state import CheckpointState
from .loop.validation import evaluate
from .outputs.folder import RunFolder, claim_folder, drop_rows, resume_path
from .outputs.loggers import Logger, Loggers, continue_log, open_loggers
from .outputs.run_json import network_facts, session, training_images, write_record
from .position import Position
from .processes import Precision, Process
from .run import Run, updates_per_epoch

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Parts:
    """What classification and detection build each in its own way.

    Args:
        task: Turns a batch into losses.
        loaders: Training and validation batches.
        precision: Types of weights and activations.
        scaler: The loss scaler of float16.
        settings: Settings of GradAug; None where it is off.
        settings_for: Returns the settings that other flags would have for this network.
        config: timm's data configuration of the network.
        facts: Size and cost of network and step, as of `network_facts`.
        image_size: Pixels, for the name of the run's folder.
        metric: The metric that ranks checkpoints.
        evaluate: Validates a network.
        shared_statistics: As for `Run`.
        ramp: Makes what raises DropBlock's rate over so many updates; None where nothing rises.
        compilation: Makes what watches torch.compile; None where nothing is compiled.
        loggers: The user's own.
        callbacks: The user's own.
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
    """Network, data, task, optimizer and folder of a run, as far as the checkpoint that it resumes.

    Args:
        args: The settings, resolved; in those of the run learning rate, number of classes and what a budget chooses
            are filled in.
        text: The settings as they were given, for `args.yaml`.
        process: The device and the processes.
        loggers: The user's own.
        callbacks: The user's own.

    Raises:
        ValueError: Flags, network, data and files don't fit each other.
    """
    precision = Precision.from_args(args, process.device)
    random_seed(args.seed, process.rank)
    network = build_network(args)
    num_classes = args.num_classes or network.num_classes
    args = replace(args, num_classes=num_classes)
    config = resolve_data_config(vars(args), model=network)
    input_size = config['input_size']
    network = place_network(network, args, process, precision)
    settings, cost = None, 1.
    if args.gradaug:
        args, settings, cost = enable_gradaug(args, network, input_size)
    facts = network_facts(network, input_size, settings, cost)
    if args.grad_checkpointing:
        enable_checkpointing(network, args.model)
    loaders = build_loaders(args, config, num_classes, process, precision)
    scaler = precision.create_scaler()
    return assemble(args, text, process, Parts(
        task=build_task(args, network, settings, process, precision, scaler),
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


def assemble(args: LoopSettings, text: str, process: Process, parts: Parts) -> Run:
    """A run of its parts: optimizer, schedule, checkpoint to resume, folder and records.

    Files of an earlier run are deleted last, when nothing is left that can be refused.

    Args:
        args: The settings; in those of the run the learning rate is filled in.
        text: The settings as they were given, for `args.yaml`.
        process: The device and the processes.
        parts: What was built.

    Raises:
        ValueError: Flags, network, data and files don't fit each other.
    """
    task, loaders = parts.task, parts.loaders
    args = with_learning_rate(args, loaders.batch_size * process.world_size * args.grad_accum_steps)
    optimizer = create_optimizer(args, task)
    resumed_from = resume_path(args)
    state = load_checkpoint(resumed_from) if resumed_from else CheckpointState()
    start = starting_position(args, state)
    origin = {'world_size': process.world_size, 'training_images': training_images(loaders.train)}
    if resumed_from:
        check_continues(args, parts.settings, parts.settings_for, resumed_from, state)
        check_exact(args, origin, start, resumed_from, state)
    if start.batch and not loaders.by_batch:
        raise ValueError(
            f'--resume {resumed_from} stopped within epoch {start.epoch}: an iterable data set, or '
            f'--use-multi-epochs-loader, can\'t go on there; repeat the epoch by --start-epoch {start.epoch}')
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
        facts=origin,
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
            _logger.warning(f'--resume {resumed_from} holds no state of {name}, which starts anew.')
    if folder is None or saver is None:
        return run
    if resumed_from is not None and folder.holds(resumed_from):
        saver.continue_from(resumed_from, state)
    return replace(run, logs=open_records(args, text, run, folder, parts.loggers))


def wrap(args: LoopSettings, task: TrainingTask, process: Process) -> nn.Module:
    """Compiles the task and spreads it over processes; returns the network for validation, which DDP isn't around."""
    if args.torchcompile:
        task.compile(backend=args.torchcompile, mode=args.torchcompile_mode)
        task.compile_ema(backend=args.torchcompile, mode=args.torchcompile_mode)
    eval_network = cast(nn.Module, task.get_eval_model())
    if process.distributed:
        device_ids = [process.device] if process.device.type == 'cuda' else None
        task.prepare_distributed(device_ids=device_ids, broadcast_buffers=not args.no_ddp_bb)
    return eval_network


def advance_schedule(run: Run, start: Position) -> None:
    """Takes the learning rate to where the run starts."""
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
    """Write args.yaml and run.json, take over the history of a run that is continued, and return the loggers."""
    start = run.start
    continued = run.resumed_from is not None and folder.holds(run.resumed_from)
    if start.epoch >= run.end_epoch:
        folder.clear()
        return Loggers()
    step, ahead = run.updates_until(start), 0
    if continued:
        drop_rows(folder.summary, start.epoch)
        begun = run.updates_until(Position(start.epoch))
        ahead = continue_log(folder.log, start.epoch, begun, step - begun)
    logs = open_loggers(args, folder, continued_at=step + ahead if continued else None, ahead=ahead, more=more)
    folder.clear()
    with replacing(f'{folder.path}/args.yaml') as file:
        file.write(text)
    facts = {**run.facts, 'epochs': run.end_epoch, 'training_images': training_images(run.loaders.train)}
    write_record(folder.path, facts, session(run.process, start.epoch), continued=continued)
    return logs
