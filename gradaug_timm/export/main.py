"""The command: writes files, each of which is read back before it takes its place."""
import logging
import os
from collections.abc import Iterator, Sequence
from tempfile import TemporaryDirectory

from ..cli import log_to_terminal
from ..data.class_names import title_of
from ..threads import use_threads
from .arguments import ExportSettings, build_parser, read_label_names
from .card import model_card
from .folder import FILES, place, write_draft
from .hub import check_free, push
from .plain import home, plain_network
from .programs import trace, write_onnx, write_torch_export
from .source import Source, open_source

_logger = logging.getLogger(__name__)


def main(argv: list[str] | None = None) -> None:
    """Run the command; SystemExit(2) with one line on stderr if it can't be carried out."""
    parser = build_parser()
    settings = parser.parse_settings(argv)
    log_to_terminal()
    use_threads(settings.threads)
    try:
        for line in export(settings):
            print(line)
    except (OSError, ValueError) as error:
        parser.error(str(error))


def export(args: ExportSettings) -> Iterator[str]:
    """Write what the settings name; yield a line for each file or folder.

    Raises:
        ValueError: What the settings name does not exist or does not fit, or what was written computes something else.
        OSError: A file can't be written.
    """
    if args.push and not args.overwrite:
        check_free(args.push)
    source = open_source(args)
    if args.to or args.push:
        yield from _export_folder(args, source)
    if args.onnx or args.torch_export:
        yield from _export_programs(args, source)


def _export_folder(args: ExportSettings, source: Source) -> Iterator[str]:
    plain = plain_network(source)
    architecture = plain.pretrained_cfg['architecture']
    package = home(architecture)
    if package != 'timm':
        _logger.warning(f'timm has no {architecture}: import the package {package} before you load what is written.')
    names = _label_names(args, source)
    folder = os.path.abspath(args.to or '')
    address = f'hf-hub:{args.push}' if args.push else f'local-dir:{os.path.basename(folder)}'
    card = model_card(source, plain, address=address, license=args.license)
    beside = os.path.dirname(folder) if args.to else None  # on the same disk
    with TemporaryDirectory(prefix='.export-', dir=beside) as draft:
        difference = write_draft(
            draft, plain, expected=source.network, config=source.config, card=card, label_names=names,
            multi_label=source.is_multi_label)
        if args.to:
            place(draft, args.to)
            yield f'{args.to}: {", ".join(FILES)} of {architecture}, {_difference(difference)}'
        if args.push:
            yield f'{push(draft, args.push, private=args.private)}: the same, {_difference(difference)}'


def _label_names(args: ExportSettings, source: Source) -> Sequence[str] | None:
    """Return a name for each class: those of the file, else those of the training; None if none is known."""
    known, num_classes = source.class_names, source.network.num_classes
    if args.label_names:
        names = read_label_names(args.label_names, num_classes)
        if known is not None and names != [*known] and sorted(names) == sorted(known):
            line = next(index for index, name in enumerate(names) if name != known[index])
            raise ValueError(f'--label-names {args.label_names} has the classes of the training in another order: line '
                             f'{line + 1} is {names[line]}, and class {line} is {known[line]}; leave the flag out')
        return names
    return None if known is None else [title_of(label, known) for label in range(num_classes)]


def _export_programs(args: ExportSettings, source: Source) -> Iterator[str]:
    names = _label_names(args, source)
    program = trace(source.network, source.config['input_size'], args.batch_size)
    for path, write in ((args.torch_export, write_torch_export), (args.onnx, write_onnx)):
        if path:
            difference = write(program, path, source.network, batch_size=args.batch_size, class_names=names)
            yield f'{path}: {_images(source.config, args.batch_size)}, {_difference(difference)}'


def _images(config: dict, batch_size: int | None) -> str:
    size = 'x'.join(map(str, (batch_size or 'N', *config['input_size'])))
    mean, std = (' '.join(f'{value:.4g}' for value in config[name]) for name in ('mean', 'std'))
    return f'takes images of {size}, normalised by mean {mean} and standard deviation {std}'


def _difference(difference: float) -> str:
    return f'outputs differ by {difference:.1e} of the largest'
