"""The command that translates a recipe."""
import argparse
import json
import os
import sys
from collections.abc import Iterator
from typing import Any

import yaml

from ..cli import StrictParser, file_to_write, table
from ..files import replacing
from ..training.arguments import build_parser as training_parser
from ..training.arguments.timm_versions import parsed
from .reading import read_recipe, read_text
from .translation import ADDED, DROPPED, KEPT, Translation, translate

DESCRIPTION = """\
Translate a recipe of any timm from 0.4 to 1.0.31 into today's settings of train.py, and show for each key whether it is
kept, translated or dropped. The recipe is an args.yaml, a checkpoint, a log with Namespace(...), a shell script, or a
command line: as one text in quotes, or after --."""
WIDEST = 60


def build_parser() -> StrictParser:
    """Return the parser of `python -m gradaug_timm.recipe`."""
    parser = StrictParser(
        prog='python -m gradaug_timm.recipe',
        usage='%(prog)s [flags] FILE | "COMMAND" | -- COMMAND...',
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('recipe', nargs='+', metavar='FILE', help='file or command line of the recipe; -: read it')
    add = parser.add_argument_group('translation').add_argument
    add('--timm', type=_version, metavar='VERSION',
        help='version of timm that the recipe is for; its defaults count for what the recipe does not give (default: '
             'the newest version that has all flags of the recipe)')
    add('--output', type=file_to_write('.yaml'), metavar='FILE', help='YAML file to write the translated recipe to')
    add('--json', action='store_true', help='print JSON instead of a table')
    return parser


def main(argv: list[str] | None = None) -> None:
    """Translate a recipe; SystemExit(2) with one line if there is none."""
    parser = build_parser()
    own, command = _split(sys.argv[1:] if argv is None else argv)
    args = parser.parse_args([*own, *(['--', *command] if command else [])])
    words = args.recipe
    try:
        recipe = (read_text(sys.stdin.read(), 'the standard input', version=args.timm) if words == ['-']
                  else read_recipe(words, version=args.timm))
        translation = translate(recipe, version=args.timm)
        if args.output:
            if os.path.exists(args.output) and os.path.realpath(args.output) == os.path.realpath(recipe.source):
                raise ValueError(f'--output {args.output} is the recipe itself; name another file')
            with replacing(args.output) as file:
                file.write(written(translation))
    except (OSError, ValueError) as error:
        parser.error(str(error))
    print(json.dumps(_as_json(translation), indent=2, default=str) if args.json else
          '\n'.join([*lines(translation), *([f'Written to {args.output}.'] if args.output else [])]))


def _split(argv: list[str]) -> tuple[list[str], list[str]]:
    """Return the own flags, and the command after `--`."""
    return (argv[:argv.index('--')], argv[argv.index('--') + 1:]) if '--' in argv else (argv, [])


def _version(text: str) -> str:
    try:
        parsed(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f'{text!r} must be a version such as 0.6.13') from None
    return text


def lines(translation: Translation) -> Iterator[str]:
    """Yield the report."""
    defaults = vars(training_parser().parse_args([]))
    usual = [row.key for row in translation.rows if row.verdict == KEPT and not row.reason
             and all(_listed(value) == defaults.get(name) for name, value in row.today.items())]
    yield f'Recipe in {translation.source}, for timm {translation.version}'
    rows = [('key', 'value', 'verdict', 'today', 'reason')]
    rows += [(row.key, '' if row.verdict == ADDED else _shown(row.value), row.verdict, _settings(row.today)
              if row.verdict != KEPT else '', row.reason) for row in translation.rows if row.key not in usual]
    yield from table(rows)
    if usual:
        yield ''
        yield f'Kept, as today\'s default: {", ".join(usual)}'
    yield ''
    yield from (f'Note: {note}' for note in translation.notes)
    yield from (f'Rejected by train.py as it is: {problem}' for problem in translation.problems)
    counts = {verdict: sum(row.verdict == verdict for row in translation.rows) for verdict in
              dict.fromkeys(row.verdict for row in translation.rows)}
    yield ', '.join(f'{count} {verdict}' for verdict, count in counts.items())


def written(translation: Translation) -> str:
    """Return the YAML file of the translated recipe."""
    dropped = [f'#   {row.key}: {_shown(row.value)} ({row.reason})' for row in translation.rows
               if row.verdict == DROPPED]
    head = [f'# Translated from {translation.source} (timm {translation.version}) by python -m gradaug_timm.recipe.',
            *(f'# {note}' for note in translation.notes), *(['# Dropped:', *dropped] if dropped else [])]
    values = {name: _listed(value) for name, value in translation.settings.items()}
    return '\n'.join(' '.join(line.split('\n')) for line in head) + '\n' + yaml.safe_dump(values)


def _as_json(translation: Translation) -> dict[str, Any]:
    return {
        'source': translation.source,
        'timm': translation.version,
        'keys': [{'key': row.key, 'value': row.value, 'verdict': row.verdict, 'today': row.today, 'reason': row.reason}
                 for row in translation.rows],
        'settings': translation.settings,
        'notes': translation.notes,
        'problems': translation.problems,
    }


def _settings(today) -> str:
    return ', '.join(f'{name}: {_shown(value)}' for name, value in today.items())


def _shown(value: Any) -> str:
    value = ' '.join(map(str, value)) if isinstance(value, (list, tuple)) else value
    text = 'null' if value is None else str(value).lower() if isinstance(value, bool) else str(value) or "''"
    return text if len(text) <= WIDEST else f'{text[:WIDEST - 3]}...'


def _listed(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
