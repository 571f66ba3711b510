"""The settings of an evaluation: one frozen, validated object, whether they come from flags or from Python."""
from dataclasses import dataclass
from typing import Any

from ..cli import compile_backend, compile_mode, file_to_write, ranged
from ..confusion import ConfusionSettings
from ..flags import Settings, keywords, needs, only_for, replaced_by, setting, switch
from ..threads import HELP as THREADS
from .corruptions import SEVERITIES

NATURAL = ranged(int, minimum=1)
COUNT = ranged(int, minimum=0)
SHARE = ranged(float, above=0, maximum=1)
POSITIVE = ranged(float, above=0)
INTERPOLATIONS = ('nearest', 'bilinear', 'bicubic', 'box', 'hamming', 'lanczos')
BRANCHES = 'residual branches, by default scaled as the checkpoint was trained (1: not scaled)'


@dataclass(frozen=True, kw_only=True)
class DataSettings(Settings, title='data'):
    """Images and labels."""

    data: str | None = setting(
        None, 'folder of the data; --data-dir is the newer spelling', positional=True, nargs='?', metavar='DIR')
    data_dir: str | None = setting(None, 'folder of the data', metavar='DIR')
    dataset: str = setting(
        '', 'data set, as "KIND/NAME"; a folder or a tar of images without it', flags=('-d',), metavar='NAME')
    split: str = setting('validation', 'split to evaluate on (default: validation)', metavar='NAME')
    num_samples: int | None = setting(
        None, 'length of an iterable data set that does not know it', type=NATURAL, metavar='N')
    dataset_download: bool = switch('let torch/ and tfds/ data sets download themselves')
    dataset_trust_remote_code: bool = switch('let an hfds/ data set run code from its repository')
    class_map: str = setting('', 'file that maps class names to indexes', metavar='FILE')
    input_key: str | None = setting(None, 'field of the data set that holds the images', metavar='KEY')
    input_img_mode: str | None = setting(
        None, 'PIL mode of the images (default: RGB, or L for one channel)', metavar='MODE')
    target_key: str | None = setting(
        None, 'field of the data set that holds the labels; several, comma-separated, for --task multilabel',
        metavar='KEY')
    target_format: str = setting('indices', 'form of multi-label targets', choices=('indices', 'multihot'))
    workers: int = setting(4, 'loader processes (default: 4)', flags=('-j',), type=COUNT, metavar='N')
    batch_size: int = setting(256, 'images per batch (default: 256)', flags=('-b',), type=NATURAL, metavar='N')
    no_prefetcher: bool = switch('normalise images in the loader processes instead of on the device')
    pin_mem: bool = switch('pin the memory of the loader\'s batches')
    tf_preprocessing: bool = switch('use TensorFlow\'s preprocessing (needs TensorFlow)')


@dataclass(frozen=True, kw_only=True)
class NetworkSettings(Settings, title='model'):
    """The network and its weights."""

    model: str = setting(
        'dpn92', 'a model, a pattern, "all", or a file of names (default: as --checkpoint says, else dpn92)',
        flags=('-m',), metavar='NAME')
    pretrained: bool = switch(
        'load timm\'s pretrained weights; without --checkpoint always on', idle=replaced_by('checkpoint'))
    checkpoint: str = setting(
        '', 'what to evaluate: a checkpoint, weights, an extracted network or an exported folder; with another folder '
        'every .pth and .pth.tar file in it, or else every .safetensors file', metavar='PATH')
    use_ema: bool = switch('use the averaged weights if the checkpoint has them', idle=needs('checkpoint'))
    num_classes: int | None = setting(
        None, 'number of classes (default: as --checkpoint says, else the model\'s)', type=NATURAL, metavar='N')
    in_chans: int | None = setting(
        None, 'channels of the images (default: as --checkpoint says, else 3)', type=NATURAL, metavar='N')
    gp: str | None = setting(None, 'global pooling (default: the model\'s)', metavar='POOL')
    model_kwargs: dict[str, Any] = keywords('more arguments of the model')
    test_pool: bool = switch('pool at test time if images are larger than in training')
    reparam: bool = switch('merge the branches of re-parameterisable blocks')
    fast_norm: bool = switch('use timm\'s faster low-precision normalisation')


@dataclass(frozen=True, kw_only=True)
class ResidualSettings(Settings, title=BRANCHES):
    """How residual branches are scaled; at most one of these is given."""

    shake_drop: float | None = setting(
        None, 'scale by the expected value of ShakeDrop whose survival probability ends at P', type=SHARE, metavar='P')
    stoch_depth: float | None = setting(
        None, 'scale by the survival probabilities of stochastic depth that ends at P', type=SHARE, metavar='P')
    scale_residuals: float | None = setting(
        None, 'scale linearly, by 1 in the first block to P in the last, as the original code evaluates random depth',
        type=SHARE, metavar='P')


@dataclass(frozen=True, kw_only=True)
class PreprocessingSettings(Settings, title='preprocessing, by default as --checkpoint was trained, else the model\'s'):
    """How images are resized, cropped and normalised."""

    img_size: int | None = setting(None, 'height and width of the images', type=NATURAL, metavar='N')
    input_size: tuple[int, ...] | None = setting(
        None, 'channels, height and width of the images', type=NATURAL, nargs=3, metavar='N')
    use_train_size: bool = switch('use the image size of the model\'s training, not of its test')
    crop_pct: float | None = setting(
        None, 'share of the resized image that the crop keeps', type=POSITIVE, metavar='N')
    crop_mode: str | None = setting(None, 'how images are cropped', choices=('squash', 'border', 'center'))
    crop_border_pixels: int | None = setting(
        None, 'pixels that are cut off at the border of an image', type=COUNT, metavar='N')
    mean: tuple[float, ...] | None = setting(
        None, 'mean of the pixels, in 0 to 1, for all channels or for each', type=float, nargs='+', metavar='MEAN')
    std: tuple[float, ...] | None = setting(
        None, 'standard deviation of the pixels, for all channels or for each', type=POSITIVE, nargs='+',
        metavar='STD')
    interpolation: str = setting('', 'how images are resized', choices=INTERPOLATIONS)


@dataclass(frozen=True, kw_only=True)
class OpeningSettings(NetworkSettings, ResidualSettings, PreprocessingSettings):
    """A network as it is opened: created, with weights, its residual branches scaled, and how it sees images."""

    @property
    def image_channels(self) -> int:
        """Channels of the images: those given, else 3."""
        return self.in_chans or (self.input_size[0] if self.input_size else 3)


@dataclass(frozen=True, kw_only=True)
class WidthSettings(Settings, title='sub-network'):
    """Sub-networks, and the statistics of their BatchNorm."""

    width: tuple[float, ...] | None = setting(
        None, 'evaluate the sub-network that keeps this share of the channels; several widths give a table',
        type=SHARE, nargs='+', metavar='W')
    divisor: int | None = setting(
        None, 'round the sub-network\'s channels to multiples of N (default: as the checkpoint was trained, else 8)',
        type=NATURAL, metavar='N')
    recalibration_batches: int = setting(
        16, 'training batches from which a sub-network\'s BatchNorm statistics are measured; 0 keeps the full '
        'network\'s statistics (default: 16)', type=COUNT, metavar='N', idle=needs('width'))
    train_split: str = setting(
        'train', 'split of the training batches for BatchNorm statistics (default: train)', metavar='NAME',
        idle=needs('width'))


@dataclass(frozen=True, kw_only=True)
class ExecutionSettings(Settings, title='execution'):
    """Where and how precisely to compute."""

    device: str | None = setting(
        None, 'device (default: the accelerator if there is one, else cpu)', metavar='NAME')
    threads: int | None = setting(None, THREADS, type=NATURAL, metavar='N')
    device_modules: tuple[str, ...] | None = setting(
        None, 'Python modules to import first, such as those that register regularisers', nargs='+', metavar='MODULE')
    num_gpu: int = setting(1, 'GPUs that share a batch (default: 1)', type=NATURAL, metavar='N')
    channels_last: bool = switch('use the channels-last memory layout')
    amp: bool = switch('use mixed precision')
    amp_dtype: str = setting(
        'float16', 'lower type of mixed precision (default: float16)', choices=('float16', 'bfloat16'),
        idle=needs('amp'))
    model_dtype: str | None = setting(
        None, 'type of the weights (default: float32)', choices=('float32', 'float16', 'bfloat16'))
    torchcompile: str | None = setting(
        None, 'compile the network by torch.compile (default: inductor)', type=compile_backend, nargs='?',
        const='inductor', metavar='BACKEND')
    torchcompile_mode: str | None = setting(
        None, 'mode of torch.compile', type=compile_mode, metavar='MODE', idle=needs('torchcompile'))
    retry: bool = switch('try smaller batches if a model runs out of memory')
    seed: int = setting(42, 'random seed (default: 42)', type=COUNT, metavar='N')


@dataclass(frozen=True, kw_only=True)
class MetricSettings(Settings, title='metrics and results'):
    """What is measured, and where results go."""

    task: str = setting('classification', 'kind of labels', choices=('classification', 'multilabel'))
    multilabel_threshold: float = setting(
        0.5, 'probability from which F1 counts a label as given (default: 0.5)', type=ranged(float, above=0, below=1),
        metavar='P', idle=only_for('task', 'multilabel'))
    metrics_avg: str | None = setting(
        None, 'also report precision, recall and F1, averaged this way', choices=('micro', 'macro', 'weighted'))
    real_labels: str = setting('', 'JSON file of ImageNet\'s re-assessed labels', metavar='FILE')
    valid_labels: str = setting('', 'text file of the outputs that count, one index per line', metavar='FILE')
    log_freq: int = setting(10, 'batches between log lines (default: 10)', type=NATURAL, metavar='N')
    results_file: str = setting('', 'file to write the results to', type=file_to_write(), metavar='FILE')
    results_format: str = setting(
        'csv', 'format of --results-file (default: csv)', choices=('csv', 'json'), idle=needs('results_file'))


@dataclass(frozen=True, kw_only=True)
class RobustnessSettings(Settings, title='robustness'):
    """Corrupted and adversarial images."""

    corruptions: tuple[str, ...] | None = setting(
        None, 'evaluate under corruptions of ImageNet-C: "all" of its 15, the 4 "extra" ones, or those named; with '
        '--corruptions-dir any that are there',
        nargs='+', metavar='NAME')
    severities: tuple[int, ...] = setting(
        SEVERITIES, 'severities of the corruptions, from 1 to 5 (default: all)',
        type=ranged(int, minimum=1, maximum=5), nargs='+', metavar='N', idle=needs('corruptions'))
    corruptions_dir: str | None = setting(
        None, 'folder of published corrupted images: of ImageNet-C and the like, CORRUPTION/SEVERITY/CLASS, or of '
        'CIFAR-10-C and the like, CORRUPTION.npy and labels.npy (default: corrupt images as they are read, with '
        'ImageNet-C\'s parameters)', metavar='DIR')
    mce_baseline: str | None = setting(
        None, 'network that mCE compares with: alexnet (published errors on ImageNet), or a checkpoint',
        metavar='PATH')
    fgsm_eps: tuple[float, ...] | None = setting(
        None, 'evaluate on adversarial images at this distance from the real ones, whose pixels are in 0 to 1',
        type=SHARE, nargs='+', metavar='EPS')
    pgd_steps: int | None = setting(
        None, 'make adversarial images by N steps of projected gradient descent instead of one step', type=NATURAL,
        metavar='N')
    pgd_step_size: float | None = setting(
        None, 'length of a step of projected gradient descent (default: 2.5 EPS / N)', type=POSITIVE, metavar='S')
    compare: tuple[str, ...] | None = setting(
        None, 'more checkpoints of the same model to evaluate next to --checkpoint', nargs='+', metavar='PATH')
    robustness_dir: str | None = setting(
        None, 'folder for errors.csv, with the errors at all severities, and errors.png', metavar='DIR')


@dataclass(frozen=True, kw_only=True)
class EvaluationSettings(
        DataSettings, OpeningSettings, WidthSettings, ExecutionSettings, MetricSettings, ConfusionSettings,
        RobustnessSettings):
    """The settings of an evaluation: the flags of validate.py.

    Each has the name of the flag, with `_` for `-`; docs/reference.md lists them all.

    Raises:
        ValueError: Values are not allowed; the message names all of them.

    Example:
        >>> from gradaug_timm import EvaluationSettings
        >>> settings = EvaluationSettings(data_dir='/data/imagenet', model='gradaug_resnet50', width=(1, 0.8))
        >>> settings.split, settings.width
        ('validation', (1.0, 0.8))
    """
