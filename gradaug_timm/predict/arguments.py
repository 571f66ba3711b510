"""The command line of `python -m gradaug_timm.predict`: the flags of timm's `inference.py`, and some more."""
import importlib.util
import os
from collections.abc import Iterator
from dataclasses import dataclass, fields

from ..cli import add_refused, file_to_write, flag
from ..data.factory import split_folder
from ..evaluation.arguments import NO_COMPILERS
from ..evaluation.settings import (
    COUNT,
    NATURAL,
    DataSettings,
    EvaluationSettings,
    ExecutionSettings,
    NetworkSettings,
    PreprocessingSettings,
    WidthSettings,
)
from ..flags import Idle, Settings, SettingsParser, needs, replaced_by, setting, switch

FORMATS = {'csv': '.csv', 'json': '.json', 'json-record': '.json', 'json-split': '.json', 'parquet': '.parquet'}
ALL = Idle(lambda values: values['topk'] == 0, 'with --topk 0')
ONE = Idle(lambda values: values['topk'] == 1, 'with --topk 1')
UNNAMED = Idle(
    lambda values: values['topk'] == 0 or values['label_type'] == 'none', 'with --topk 0 or --label-type none')
SHARED = (DataSettings, NetworkSettings, PreprocessingSettings, WidthSettings, ExecutionSettings)  # with validate.py


@dataclass(frozen=True, kw_only=True)
class PredictDataSettings(DataSettings, title='data'):
    """Images; their labels are not used."""

    data_dir: str | None = setting(
        None, 'a folder of images or of class folders, a tar file, or an image', metavar='DIR')
    class_map: str = setting(
        '', 'file with the names of the classes, for networks that do not know theirs', metavar='FILE')
    workers: int = setting(2, 'loader processes (default: 2)', flags=('-j',), type=COUNT, metavar='N')


@dataclass(frozen=True, kw_only=True)
class PredictNetworkSettings(NetworkSettings, title='model, by default as the checkpoint says'):
    """The network."""

    model: str | None = setting(  # type: ignore[assignment]
        None, 'name of the model (default: as the checkpoint says; resnet50 without --checkpoint)', flags=('-m',),
        metavar='NAME')
    checkpoint: str = setting(
        '', 'weights: the folder of a run, a checkpoint, an extracted network or an exported folder', metavar='PATH')
    task: str | None = setting(
        None, 'kind of labels (default: as trained): one label of each image, or several',
        choices=('classification', 'multilabel'))


@dataclass(frozen=True, kw_only=True)
class PredictWidthSettings(WidthSettings, title='sub-network'):
    """The sub-network that predicts."""

    train_dir: str | None = setting(
        None, 'folder of training images for the sub-network\'s BatchNorm statistics', metavar='DIR')


@dataclass(frozen=True, kw_only=True)
class ResultSettings(Settings, title='results'):
    """What is written, and in which form."""

    topk: int = setting(
        1, 'classes of each image, likeliest first; 0 writes the outputs of all classes in the order of labels '
        '(default: 1)', type=COUNT, metavar='N')
    output_type: str = setting(
        'prob', 'outputs to write: probabilities, or logits (default: prob)', choices=('prob', 'logit'),
        idle=replaced_by('exclude_output'))
    label_type: str = setting(
        'description', 'form of labels; ImageNet\'s classes have a WordNet name, a description and a definition '
        '(default: description)', choices=('none', 'name', 'description', 'detail', 'detailed'))
    include_index: bool = switch('also write the numbers of the classes', idle=ALL)
    exclude_output: bool = switch('do not write probabilities or logits')
    fullname: bool = switch('write the path of an image below the data folder, not only its file name')
    filename_col: str = setting('filename', 'name of the column of file names (default: filename)', metavar='NAME')
    index_col: str = setting(
        'index', 'name of the column of class numbers (default: index)', metavar='NAME', idle=needs('include_index'))
    label_col: str = setting(
        'label', 'name of the column of class names (default: label)', metavar='NAME', idle=UNNAMED)
    output_col: str | None = setting(
        None, 'name of the column of outputs (default: the value of --output-type)', metavar='NAME',
        idle=replaced_by('exclude_output'))
    results_dir: str | None = setting(
        None, 'folder to write results to, created if needed (default: the current folder)', metavar='DIR')
    results_file: str | None = setting(
        None, 'name of the file of results, in --results-dir; the ending follows from --results-format (default: '
        'MODEL-SIZE)', metavar='FILE')
    results_format: tuple[str, ...] = setting(
        ('csv',), 'formats of results (default: csv); parquet needs pyarrow', choices=tuple(FORMATS), nargs='+')
    results_separate_col: bool = switch('write a column for each of the --topk classes', idle=ONE)
    no_console_results: bool = switch('do not print results')
    contact_sheet: str | None = setting(
        None, 'picture to write of the surest and the least sure predictions', type=file_to_write('.png'),
        metavar='FILE.png')
    sheet_images: int = setting(
        24, 'images on the contact sheet, half of them the surest (default: 24)', type=NATURAL, metavar='N',
        idle=needs('contact_sheet'))
    log_freq: int = setting(10, 'batches between log lines (default: 10)', type=NATURAL, metavar='N')


@dataclass(frozen=True, kw_only=True)
class PredictSettings(
        PredictDataSettings, PredictNetworkSettings, PreprocessingSettings, PredictWidthSettings, ExecutionSettings,
        ResultSettings):
    """The settings of predictions."""

    @property
    def root(self) -> str | None:
        """The folder or file of the images."""
        return self.data or self.data_dir

    def evaluation(self, model: str, *, training: bool = False) -> EvaluationSettings:
        """Return what an evaluation of the images would be told.

        Args:
            model: The name of the model.
            training: Whether images are those of training, from `train_dir`.
        """
        names = {each.name for group in SHARED for each in fields(group)} - {'model', 'class_map'}
        given = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        if training:
            root, split = str(self.train_dir), self.train_split
            if os.path.isdir(root) and split_folder(root, split) is None:  # it is the folder of the split itself
                root, split = os.path.split(os.path.abspath(root))
            given |= {'data': None, 'data_dir': root, 'train_split': split}
        return EvaluationSettings(model=model, **given)


def build_parser() -> SettingsParser:
    """Return a fresh parser."""
    parser = SettingsParser(
        PredictSettings,
        resolve,
        prog='python -m gradaug_timm.predict',
        usage='%(prog)s [flags] [DIR]',
        description='Writes the classes that a network sees in images, with their names and probabilities.',
    )
    add_refused(parser, NO_COMPILERS)
    return parser


def resolve(settings: PredictSettings) -> PredictSettings:
    """Return the settings, whose combination was checked.

    Raises:
        ValueError: Some do not go together; the message names all of them.
    """
    found = list(_problems(settings))
    if found:
        raise ValueError('; '.join(found))
    return settings


def _problems(settings: PredictSettings) -> Iterator[str]:
    if not settings.root and not settings.dataset:
        yield '--data-dir is missing: name a folder of images, a tar file or an image'
    if settings.width is not None and len(settings.width) > 1:
        yield f'--width {" ".join(map(str, settings.width))} must be one width'
    for name in ('divisor', 'train_dir'):
        if getattr(settings, name) and not settings.width:
            yield f'{flag(name)} needs --width'
    if settings.pretrained and settings.checkpoint:
        yield '--pretrained excludes --checkpoint: both name weights'
    if settings.amp and settings.model_dtype not in (None, 'float32'):
        yield f'--amp needs --model-dtype float32, not {settings.model_dtype}'
    if settings.exclude_output and not settings.topk:
        yield '--exclude-output needs --topk of at least 1: nothing would be left to write'
    if settings.exclude_output and settings.label_type == 'none' and not settings.include_index:
        yield '--exclude-output and --label-type none leave nothing to write: add --include-index'
    yield from _result_problems(settings)


def _result_problems(settings: PredictSettings) -> Iterator[str]:
    output_col = settings.output_col or settings.output_type
    columns = [settings.filename_col, settings.index_col, settings.label_col, output_col]
    if len({*columns}) < len(columns):
        yield f'the columns {", ".join(columns)} need different names'
    endings = [FORMATS[form] for form in settings.results_format]
    if len({*endings}) < len(endings):
        yield f'--results-format {" ".join(settings.results_format)} names two formats of the same file'
    folder = os.path.dirname(settings.results_file or '')
    if folder and not settings.results_dir and not os.path.isdir(folder):
        yield f'--results-file {settings.results_file} must be in a folder that exists; {folder} does not exist'
    if 'parquet' in settings.results_format and importlib.util.find_spec('pyarrow') is None:
        yield '--results-format parquet needs the package pyarrow: pip install "gradaug_timm[predict]"'
