"""Every private part of timm, torch and argparse that the package uses, with the reason why no public part is enough.

A private part is a name with a leading underscore, or an attribute that is not documented. The rest of the package
imports private parts from here. `tests/test_upstream*.py` test each of them, and fail if a library changes one.
"""
import argparse
import importlib
import io
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from timm.data.distributed_sampler import OrderedDistributedSampler
from timm.data.loader import MultiEpochsDataLoader, PrefetchLoader, adapt_to_chs, fast_collate
from timm.data.random_erasing import RandomErasing
from timm.data.readers.class_map import load_class_map
from timm.data.readers.reader_image_folder import ReaderImageFolder
from timm.data.readers.reader_image_in_tar import CACHE_FILENAME_SUFFIX
from timm.data.readers.reader_image_in_tar import ReaderImageInTar as ReaderOfOneProcess
from timm.models._features import feature_take_indices
from timm.scheduler import PlateauLRScheduler
from timm.task import TrainingTask
from timm.utils import CheckpointSaver, NativeScaler
from timm.utils.distributed import init_distributed_device_so
from torch import nn
from torch._prims_common import suggest_memory_format
from torch.nn.modules.batchnorm import _BatchNorm as AnyBatchNorm
from torch.nn.modules.batchnorm import _NormBase as AnyRunningNorm
from torch.nn.modules.conv import _ConvNd as AnyConvolution
from torch.nn.utils.prune import BasePruningMethod
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.data import DataLoader, Dataset, IterableDataset, Sampler
from torch.utils.flop_counter import flop_registry, sdpa_flop

if TYPE_CHECKING:
    from torch._dynamo.exc import FailOnRecompileLimitHit

__all__ = [  # parts that are only imported here
    'AnyBatchNorm', 'AnyConvolution', 'AnyRunningNorm', 'MultiEpochsDataLoader', 'OrderedDistributedSampler',
    'PrefetchLoader', 'RandomErasing', 'ReaderImageFolder', 'ReaderImageInTar', 'adapt_to_chs', 'fast_collate',
    'feature_take_indices', 'init_distributed_device_so', 'load_class_map', 'suggest_memory_format',
]


# argparse ------------------------------------------------------------------------------------------------------------

def parser_actions(parser: argparse.ArgumentParser) -> dict[str, argparse.Action]:
    """Return the flags of a parser by `dest`. argparse lists them only in `_actions`."""
    return {action.dest: action for action in parser._actions}


def parser_flags(parser: argparse.ArgumentParser) -> dict[str, argparse.Action]:
    """Return a parser's flags by spelling. argparse lists them only in `_option_string_actions`."""
    return dict(parser._option_string_actions)


def convert_text(parser: argparse.ArgumentParser, action: argparse.Action, text: str) -> Any:
    """Convert a text by a flag's `type`. The public methods of argparse convert only whole command lines.

    Raises:
        argparse.ArgumentError: The text is not a value of the flag.
    """
    return parser._get_value(action, text)


def check_choice(parser: argparse.ArgumentParser, action: argparse.Action, value: Any) -> Any:
    """Return a value after checking a flag's choices. The public methods of argparse check only whole command lines.

    Raises:
        argparse.ArgumentError: The value is not one of the choices.
    """
    parser._check_value(action, value)
    return value


class HookedParser(argparse.ArgumentParser):
    """A parser with overridable steps from the texts of a flag to a value.

    argparse ends the program at the first wrong value and does not suggest similar choices; it has no public hooks.
    """

    def convert_flag(self, action: argparse.Action, texts: list[str]) -> Any:
        """Return the value of a flag, or raise argparse.ArgumentError."""
        return super()._get_values(action, texts)  # type: ignore[arg-type]

    def check_flag(self, action: argparse.Action, value: Any) -> None:
        """Raise argparse.ArgumentError if a value is not among the choices of a flag."""
        super()._check_value(action, value)

    def _get_values(self, action, arg_strings):
        return self.convert_flag(action, arg_strings)

    def _check_value(self, action, value):
        self.check_flag(action, value)


# torch.nn ------------------------------------------------------------------------------------------------------------
# AnyBatchNorm, AnyConvolution and AnyRunningNorm are the common bases of torch's layers for one, two and three
# dimensions. torch has no public ones; a tuple of the public classes would miss timm's own subclasses of the bases.

PARAMETERS, BUFFERS = '_parameters', '_buffers'  # names of the attributes, for properties that read them
# Attributes that every module may have; `_compiled_call_impl` comes with Module.compile().
MODULE_ATTRIBUTES = frozenset(vars(nn.Module())) | {'_compiled_call_impl'}


def own_parameters(module: nn.Module) -> dict[str, Any]:
    """Return the table of a module's own parameters, for reading and writing.

    `named_parameters(recurse=False)` leaves out None and repeated tensors, and assigning runs `__setattr__`.
    """
    return module._parameters


def own_buffers(module: nn.Module) -> dict[str, torch.Tensor | None]:
    """Return the table of a module's own buffers, for reading and writing; see `own_parameters` for the reason."""
    return module._buffers


def own_modules(module: nn.Module) -> dict[str, nn.Module | None]:
    """Return the table of a module's own modules; `named_children` leaves out None and repeated modules."""
    return module._modules


def remove_forward_hooks(module: nn.Module) -> None:
    """Remove all hooks around `forward`. Publicly, a hook is removed only by the handle from its registration."""
    module._forward_hooks.clear()
    module._forward_pre_hooks.clear()


def pruned_parameters(module: nn.Module) -> list[str]:
    """Return the names of the parameters that torch.nn.utils.prune masks; `is_pruned` names none of them.

    Pruning methods have no public attribute with the name, and modules no public list of hooks.
    """
    return [hook._tensor_name for hook in module._forward_pre_hooks.values() if isinstance(hook, BasePruningMethod)]


def weights_of_hooks(module: nn.Module) -> list[str]:
    """Return the names of the weights that the older spectral_norm and weight_norm compute in hooks before a pass.

    The hooks' classes are not documented, and modules have no public list of hooks.
    """
    return [hook.name for hook in module._forward_pre_hooks.values() if isinstance(hook, (SpectralNorm, WeightNorm))]


def is_quantized(module: nn.Module) -> bool:
    """Return whether a module's weights are quantized by torch, torchao or bitsandbytes, of which no base is public."""
    if type(module).__module__.startswith(('torch.ao.nn.quantized', 'torch.ao.nn.intrinsic.quantized', 'bitsandbytes')):
        return True
    return any(parameter.is_quantized or type(parameter.data).__module__.startswith('torchao')
               for parameter in module._parameters.values() if parameter is not None)


SHARDING = frozenset({'FullyShardedDataParallel', 'FSDPModule', 'DeepSpeedEngine'})  # classes of modules


def is_sharded(value: nn.Module | torch.Tensor | None) -> bool:
    """Return whether a module or parameter is divided among processes by torch (FSDP, DTensor) or DeepSpeed.

    Importing the classes takes seconds, so their names are compared; nothing public tells all of them.
    """
    if isinstance(value, nn.Module):
        return any(cls.__name__ in SHARDING for cls in type(value).__mro__)
    return value is not None and (
        'DTensor' in (type(value).__name__, type(value.data).__name__) or hasattr(value, 'ds_id'))


def have_gradient_hooks(parameters: Iterable[torch.Tensor]) -> bool:
    """Return whether a parameter has a hook from `register_hook`. torch has no public list of a tensor's hooks."""
    return any(parameter._backward_hooks for parameter in parameters)


# torch's kernels -----------------------------------------------------------------------------------------------------
# One kernel for a list of tensors. Publicly, torch uses them only inside optimizers, `clip_grad_norm_` and GradScaler;
# a loop over the tensors launches a kernel for each.

foreach_add_ = torch._foreach_add_
foreach_mul_ = torch._foreach_mul_
foreach_copy_ = torch._foreach_copy_
foreach_norm = torch._foreach_norm
# Multiplies the tensors by a reciprocal scale, and sets a flag [] on the device if one of them is Inf or NaN.
foreach_unscale_ = torch._amp_foreach_non_finite_check_and_unscale_
# Halves or doubles a scale on the device, depending on the flag. GradScaler does so only for an optimizer's gradients.
update_scale_ = torch._amp_update_scale_
# `suggest_memory_format` returns the layout of a tensor, even if sizes of 1 fit both layouts; `Tensor.is_contiguous` is
# then true for both.


def loss_scale_tensor(scaler: NativeScaler) -> torch.Tensor | None:
    """Return the loss scale [] of timm's scaler on the device; None before its first use.

    `GradScaler.get_scale` copies the scale to the host, so that each step would wait for the device.
    """
    return scaler._scaler._scale


# torch.compile -------------------------------------------------------------------------------------------------------
# `torch._dynamo` and `torch._inductor` are imported when they are first used.

def compile_modes() -> list[str]:
    """Return the modes of torch.compile; its documentation names only this function."""
    from torch._inductor import list_mode_options  # takes seconds
    return list(list_mode_options())


def is_compiled(network: nn.Module) -> bool:
    """Return whether a network is torch.compile's wrapper. Its class, `OptimizedModule`, is private as well."""
    return hasattr(network, '_orig_mod')


def compiled_network(wrapper: nn.Module) -> nn.Module:
    """Return the network in torch.compile's wrapper. torch unwraps it only in state dictionaries."""
    return wrapper._orig_mod


def graphs_made() -> int:
    """Return how many graphs torch.compile has made in this process. Publicly, only logs show the number."""
    return torch._dynamo.utils.counters['stats']['unique_graphs']


def graph_breaks() -> int:
    """Return how often torch.compile has broken a graph in this process. Publicly, only logs show the number."""
    return sum(torch._dynamo.utils.counters['graph_break'].values())


def _limits() -> tuple[Any, tuple[str, str, str]]:
    """Return dynamo's settings, and the names of its limits, which torch 2.6 called differently."""
    config = torch._dynamo.config
    if hasattr(config, 'recompile_limit'):
        return config, ('recompile_limit', 'accumulated_recompile_limit', 'fail_on_recompile_limit_hit')
    return config, ('cache_size_limit', 'accumulated_cache_size_limit', 'fail_on_cache_limit_hit')


def recompile_limit() -> int | None:
    """Return the limit on the graphs of a function; None if a graph more is no error, but runs without compilation.

    `torch.compiler.config` has the same limits, but only in newer versions than torch 2.6, the oldest supported one.
    """
    config, (limit, _, fails) = _limits()
    return getattr(config, limit) if getattr(config, fails) else None


def recompile_limited(number: int) -> AbstractContextManager[None]:
    """Return a context in which a function that needs more graphs than a number raises `recompile_limit_error`."""
    config, (limit, accumulated, fails) = _limits()
    return config.patch({limit: number, accumulated: max(number, getattr(config, accumulated)), fails: True})


def recompile_limit_error() -> 'type[FailOnRecompileLimitHit]':
    """Return the error of torch.compile beyond `recompile_limited`; it has no public name."""
    return torch._dynamo.exc.FailOnRecompileLimitHit


# Data loaders --------------------------------------------------------------------------------------------------------
# `timm.data` does not export the classes of timm's loaders, OrderedDistributedSampler, RandomErasing, fast_collate
# (images to batches of bytes) and adapt_to_chs (mean and deviation for another number of channels).

def batch_sampler_of(loader: DataLoader) -> Sampler:
    """Return the batch sampler of an epoch; timm's loader for several epochs wraps it in an endless sampler."""
    return loader.batch_sampler.sampler if isinstance(loader, MultiEpochsDataLoader) else loader.batch_sampler


def replace_batch_sampler(loader: DataLoader, sampler: Sampler) -> None:
    """Make a loader take its batches from another sampler.

    DataLoader's `__setattr__` forbids this after `__init__`, and timm's `create_loader` takes no batch sampler.
    """
    if isinstance(loader, MultiEpochsDataLoader):
        loader.batch_sampler.sampler = sampler
    else:
        object.__setattr__(loader, 'batch_sampler', sampler)


def replace_dataset(loader: DataLoader, dataset: Dataset) -> None:
    """Make a loader read another data set; private for the reason in `replace_batch_sampler`.

    timm's `create_loader` sets a transform on the data set, which therefore cannot be wrapped before.
    """
    object.__setattr__(loader, 'dataset', dataset)


def end_workers(loader: Any) -> None:
    """End the workers of a loader that persist between epochs; the next iteration starts new ones.

    Loaders have no method for it. Each worker that is left to the garbage collector takes 5 s to end.
    """
    while not isinstance(loader, DataLoader):
        if not hasattr(loader, 'loader'):  # images that lie on the device
            return
        loader = loader.loader
    for name in ('_iterator', 'iterator'):  # of torch, and of timm's MultiEpochsDataLoader
        iterator = vars(loader).get(name)
        if iterator is not None:
            if hasattr(iterator, '_shutdown_workers'):
                iterator._shutdown_workers()
            setattr(loader, name, None)


# Data sets -----------------------------------------------------------------------------------------------------------
# Of `timm.data.readers`, timm exports only `create_reader`, which lacks the arguments that tar files need.

TAR_NOTES = CACHE_FILENAME_SUFFIX  # suffix of the files in which timm stores the contents of large tar files


def reader_of(dataset: Dataset) -> Any:
    """Return the object with the classes and files of a data set: the reader of timm's data sets, else the data set."""
    return getattr(dataset, 'reader', dataset)


def source_names(reader: Any) -> dict[int, str]:
    """Return the names of the classes before a class map is applied; empty if a reader of timm does not know them."""
    return getattr(reader, '_source_names', {})


def image_places(reader: Any) -> tuple[str, list[str]] | None:
    """Return the folder or tar file of timm's reader, and the path of each image in it; None for other readers.

    Names of inner tar files are parts of the paths, as they name classes. Publicly, timm returns only the name of one
    image at a time (`ImageDataset.filename`), and not the folder.
    """
    if isinstance(reader, ReaderImageFolder):
        root = os.path.join(reader.root, '')
        return reader.root, [path.removeprefix(root) for path, _ in reader.samples]
    if isinstance(reader, ReaderImageInTar):
        return reader.root, [os.path.normpath(os.path.join(
            os.path.splitext(file or '')[0], os.path.splitext(inner.path)[0] if inner else '', image.path))
            for image, file, inner in reader.samples]
    return None


def keep_samples(reader: Any, kept: Sequence[bool], *, renumber: bool) -> None:
    """Leave out images of a reader, in place. Readers have no filter besides the extensions of files.

    Args:
        reader: The reader of a folder or of tar files.
        kept: Whether each image is kept.
        renumber: Whether classes without images are left out too, so that labels are 0, 1, ... again.
    """
    tar = isinstance(reader, ReaderImageInTar)
    labels = [int(label) for label in (reader.targets if tar else (label for _, label in reader.samples))]
    names = 'class_name_to_idx' if tar else 'class_to_idx'
    numbers = {label: label for label in getattr(reader, names).values()}
    if renumber:
        used = sorted({label for label, keep in zip(labels, kept) if keep})
        numbers = {label: number for number, label in enumerate(used)}
        setattr(reader, names, {
            name: numbers[label] for name, label in getattr(reader, names).items() if label in numbers})
    if tar:
        reader.samples = reader.samples[np.asarray(kept)]
        reader.targets = np.array([numbers[label] for label, keep in zip(labels, kept) if keep])
        reader.class_idx_to_name = {label: name for name, label in reader.class_name_to_idx.items()}
    else:
        reader.samples = [(path, numbers[label]) for (path, label), keep in zip(reader.samples, kept) if keep]


def tar_place(reader: Any, index: int) -> str | None:
    """Return where image `index` is in tar files; None for other readers. timm's `filename` leaves out the file."""
    if not isinstance(reader, ReaderImageInTar):
        return None
    image, file, inner = reader.samples[index]
    places = [image.name, *([inner.name] if inner else []), os.path.join(reader.root, file) if file else reader.root]
    return ' in '.join(places)


def prepare_stream(reader: Any, unreadable: Callable[[str], None]) -> None:
    """Make a reader of a stream call `unreadable` with a text for each image that cannot be decoded, and leave it out.

    timm's reader of web data sets logs each error without the name of the sample, and also skips samples without
    labels; the reader of Hugging Face's streams ends at the first damaged image. They have no setting for it. The
    reader must not have been used in this process.
    """
    kind = type(reader).__name__
    if getattr(reader, 'ds', None) is not None or kind not in ('ReaderWds', 'ReaderHfids'):
        return
    if kind == 'ReaderHfids':
        datasets = importlib.import_module('datasets')
        reader._lazy_init()
        stream = reader.ds.cast_column(reader.input_key, datasets.Image(decode=False))
        reader.ds = _DecodedStream(stream, reader.input_key, unreadable)
        return
    from timm.data.readers import reader_wds
    original = reader_wds._decode, reader_wds.log_and_continue
    vars(reader_wds).update(_decode=_named_decode, log_and_continue=partial(_count_error, unreadable))
    try:
        reader._lazy_init()  # it looks both functions up
    finally:
        reader_wds._decode, reader_wds.log_and_continue = original


def _named_decode(sample: dict, **kwargs) -> dict | None:
    from timm.data.readers import reader_wds
    try:
        decoded = reader_wds._decode(sample, **kwargs)
        if decoded is not None:  # timm later looks for the ending that was asked for, but stores the image as jpg
            decoded.update({ending: decoded['jpg'] for ending in kwargs['image_key'].split(';')})
        return decoded
    except Exception as error:
        if isinstance(error, (TypeError, reader_wds.WdsTargetKeyError)):
            raise
        place = f'sample {sample.get("__key__")} of {sample.get("__url__")}'
        raise ValueError(f'{place} can\'t be read ({type(error).__name__}: {error})') from error


def _count_error(unreadable: Callable[[str], None], error: Exception) -> bool:
    from timm.data.readers import reader_wds
    if isinstance(error, (TypeError, reader_wds.WdsTargetKeyError)):
        raise error
    unreadable(' '.join(str(error).split()) or type(error).__name__)
    return True


class _DecodedStream:
    """A stream of Hugging Face that decodes images itself and leaves out those that cannot be decoded."""

    def __init__(self, stream: Any, key: str, unreadable: Callable[[str], None]):
        self._stream, self._key, self._unreadable = stream, key, unreadable
        self.num_shards = getattr(stream, 'num_shards', None)

    def set_epoch(self, epoch: int) -> None:
        self._stream.set_epoch(epoch)

    def __iter__(self) -> Iterator[dict]:
        for row, sample in enumerate(self._stream):
            stored = sample[self._key] or {}
            try:
                content = stored.get('bytes')
                image = Image.open(io.BytesIO(content) if content else stored['path'])
                image.load()
            except Exception as error:
                name = stored.get('path') or f'row {row} of a stream'
                self._unreadable(f'{name} can\'t be read ({type(error).__name__}: {" ".join(str(error).split())})')
                continue
            yield {**sample, self._key: image}


class ReaderImageInTar(ReaderOfOneProcess):
    """timm's reader of tar files, also for data sets that are read before data workers start.

    timm's keeps files open. Workers that inherit an open file move its position for each other, and get other images
    without an error. Publicly, files are only kept open for all images or for none (`cache_tarfiles`), which is slow.
    """

    _opened_in: int | None = None

    def __getitem__(self, index: int) -> Any:
        if self._opened_in != os.getpid():
            self._forget_files()
            self._opened_in = os.getpid()
        return super().__getitem__(index)

    def __getstate__(self) -> dict[str, Any]:
        self._forget_files()  # cannot be pickled, and are opened again
        return vars(self)

    def _forget_files(self) -> None:
        for state in [self.tar_state] if self.root_is_tar else self.tar_state.values():
            state.reset()
            for inner in state.children.values():
                inner.reset()


def sort_tar_samples(reader: ReaderImageInTar) -> None:
    """Sort images by tar file and name, in place; for repeated names timm's order depends on the file system."""
    def place(index: int) -> tuple[str, str, str]:
        image, file, inner = reader.samples[index]
        return file or '', inner.path if inner else '', image.path

    order = sorted(range(len(reader.samples)), key=place)
    reader.samples, reader.targets = reader.samples[order], reader.targets[order]


def shard_count(dataset: Dataset) -> int | None:
    """Return the number of shards of a web data set; None for other data sets. Only timm's reader has the number."""
    if not isinstance(dataset, IterableDataset):
        return None
    from timm.data.readers.reader_wds import ReaderWds  # imports webdataset, which may be absent
    reader = reader_of(dataset)
    return len(reader.split_info.filenames) if isinstance(reader, ReaderWds) else None


# timm's networks -----------------------------------------------------------------------------------------------------
# timm does not export `feature_take_indices`, which its networks use for `forward_intermediates(indices=...)`.

PARAMETER_CACHES = frozenset({'attention_bias_cache'})  # attributes that hold values computed from parameters


class FlopCount(TorchDispatchMode):
    """Floating-point operations of the passes within this context, by torch's formulas.

    torch's own counter, FlopCounterMode, leaves out attention on the CPU. It also counts by module, which takes several
    times as long as a small network.
    """
    formulas = {**flop_registry, torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: sdpa_flop}
    total = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        output = func(*args, **kwargs)
        if formula := self.formulas.get(func.overloadpacket):
            self.total += formula(*args, **kwargs, out_val=output)
        return output


def recomputes(module: nn.Module) -> bool:
    """Return whether a module is recomputed in backward; timm has a public setter, but no getter."""
    return getattr(module, 'grad_checkpointing', False)


def stop_recomputing(module: nn.Module) -> None:
    """Stop recomputing a module; `set_grad_checkpointing` acts on the whole network, and not all networks have it."""
    if recomputes(module):
        module.grad_checkpointing = False  # type: ignore[assignment]


# timm's training -----------------------------------------------------------------------------------------------------
# `init_distributed_device_so` returns the values that `init_distributed_device` writes into an argparse.Namespace.

def teacher_of(task: TrainingTask) -> nn.Module:
    """Return the teacher of a distillation task. timm has no public method for it."""
    return task.teacher.model


def set_student_normalization(task: TrainingTask, **values: Sequence[float]) -> None:
    """Set the `mean` or `std` of each channel with which the student's images are normalised.

    timm's distillation tasks assume the student's default configuration when they convert images for the teacher.
    """
    for name, value in values.items():
        getattr(task, f'student_{name}').copy_(torch.tensor(value).view(1, -1, 1, 1))


PLATEAU_COUNTERS = ('best', 'num_bad_epochs', 'cooldown_counter', 'last_epoch')


def plateau_state(scheduler: PlateauLRScheduler) -> dict[str, Any]:
    """Return the state that does not follow from the update number. timm's `state_dict` omits torch's scheduler."""
    return {
        'plateau': {name: getattr(scheduler.lr_scheduler, name) for name in PLATEAU_COUNTERS},
        'restore_lr': scheduler.restore_lr,
        'rates': [group['lr'] for group in scheduler.optimizer.param_groups],
    }


def load_plateau_state(scheduler: PlateauLRScheduler, state: dict[str, Any]) -> None:
    """Restore `plateau_state` and the learning rates, which a new scheduler has reset to their initial values."""
    for name, value in state['plateau'].items():
        setattr(scheduler.lr_scheduler, name, value)
    scheduler.restore_lr = state['restore_lr']
    for group, rate in zip(scheduler.optimizer.param_groups, state['rates']):
        group['lr'] = rate


# timm's checkpoints --------------------------------------------------------------------------------------------------
# `CheckpointSaver.save_checkpoint` ranks and writes in one call; it writes in place, and only timm's own keys.

def ranked_path(saver: CheckpointSaver, epoch: int) -> str:
    """Return the path of the ranked checkpoint of an epoch."""
    return saver._checkpoint_path(epoch)


def make_room(saver: CheckpointSaver) -> None:
    """Delete the worst ranked checkpoint if the limit on their number is reached."""
    saver._cleanup_checkpoints(1)


def rank_checkpoint(saver: CheckpointSaver, path: str, epoch: int, metric: float) -> None:
    """Add a file to the ranked checkpoints, and record whether it is the best."""
    saver._track_checkpoint(path, epoch, metric, update_best_file=False)
