"""The report of a data check: table, JSON and exit status."""
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from ..cli import table
from ..data.findings import Finding, Level, counted
from ..files import replacing
from .split import Split

SHOWN = 20  # classes in the table


@dataclass
class Report:
    """The result of a check.

    Args:
        title: What was checked.
        splits: The counts of each split.
        findings: All findings.
        counted: What is counted in `Split.classes`: 'images', or 'objects' of detection.
    """

    title: str
    splits: list[Split] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    counted: str = 'images'

    def exit_status(self, *, strict: bool = False) -> int:
        """Return 1 if there is an error, and if `strict` also for a warning; otherwise 0."""
        levels = {finding.level for finding in self.findings}
        return int(Level.ERROR in levels or (strict and Level.WARNING in levels))

    def lines(self) -> Iterator[str]:
        """Yield the lines for the console."""
        yield f'Data check: {self.title}'
        if self.splits:
            yield ''
            yield from (f'  {line}' for line in table(list(_summary(self.splits))))
            yield ''
            yield from (f'  {line}' for line in table(list(_classes(self.splits, self.counted)), figures=True))
        if self.findings:
            yield ''
        ordered = sorted(self.findings, key=lambda finding: [*Level].index(finding.level))
        yield from (f'{finding.level.value}: {finding.text}' for finding in ordered)
        yield ''
        yield self.verdict()

    def verdict(self) -> str:
        """Return the numbers of errors and warnings in one line."""
        errors, warnings = (sum(finding.level is level for finding in self.findings)
                            for level in (Level.ERROR, Level.WARNING))
        numbers = f'{errors} error{"s" * (errors != 1)}, {warnings} warning{"s" * (warnings != 1)}'
        return f'{numbers}: training would be wrong or would not start.' if errors else f'{numbers}.'

    def short(self) -> list[tuple[str, str]]:
        """Return the rows for the report of a dry run."""
        rows = [(split.name, f'{split.total:,} images, {", ".join(_facts(split))}') for split in self.splits]
        return rows + [(finding.level.value, finding.text) for finding in self.findings
                       if finding.level is not Level.NOTE]

    def as_dict(self) -> dict[str, Any]:
        """Return everything in the form of JSON."""
        return {
            'data': self.title,
            'counted': self.counted,
            'splits': {split.name: split.as_dict() for split in self.splits},
            'findings': [
                {'level': each.level.value, 'kind': each.kind, 'text': each.text, 'examples': each.examples}
                for each in self.findings],
            'errors': sum(each.level is Level.ERROR for each in self.findings),
            'warnings': sum(each.level is Level.WARNING for each in self.findings),
        }

    def write(self, path: str) -> None:
        """Write `as_dict` to a file."""
        with replacing(path) as file:
            json.dump(self.as_dict(), file, indent=2, ensure_ascii=False)
            file.write('\n')


def _summary(splits: list[Split]) -> Iterator[tuple[str, ...]]:
    def row(title: str, value) -> tuple[str, ...]:
        return (title, *(value(split) or '-' for split in splits))

    yield ('', *(split.name for split in splits))
    yield row('images', lambda split: f'{split.total:,}')
    if any(split.images < split.total for split in splits):
        yield row('looked at', lambda split: f'{split.images:,}')
    yield row('classes', lambda split: f'{sum(map(bool, split.classes.values()))} of {len(split.classes)}')
    yield row('labels', lambda split: f'{split.label_range[0]} to {split.label_range[1]}' if split.labels else '')
    for name in dict.fromkeys(name for split in splits for name in split.further):
        yield (name, *(f'{split.further[name]:,}' if name in split.further else '-' for split in splits))
    yield row('unreadable', lambda split: f'{split.faults:,}')
    yield row('files not read', lambda split: counted(split.skipped.items()))
    yield row('sizes', lambda split: sizes_of(split.sizes))
    if any(split.formats for split in splits):  # not in COCO's format
        yield row('modes', lambda split: counted(split.modes.items()))
        yield row('formats', lambda split: counted(split.formats.items()))


def _classes(splits: list[Split], what: str) -> Iterator[tuple[str, ...]]:
    """Yield a row for each class; of many classes the smallest ones of the first split."""
    names = list(dict.fromkeys(name for split in splits for name in split.classes))
    title = f'{what} of each class'
    if len(names) > SHOWN:
        title = f'{what} of the {SHOWN} smallest of {len(names)} classes'
        names = sorted(names, key=lambda name: splits[0].classes.get(name, 0))[:SHOWN]
    yield (title, *(split.name for split in splits))
    yield from ((name, *(f'{split.classes.get(name, 0):,}' for split in splits)) for name in names)


def _facts(split: Split) -> Iterator[str]:
    numbers = [number for number in split.classes.values() if number]
    if numbers:
        each = f'{min(numbers):,}' if min(numbers) == max(numbers) else f'{min(numbers):,} to {max(numbers):,}'
        yield f'{len(numbers)} classes of {each}'
    if split.sizes:
        yield sizes_of(split.sizes)
    if split.modes:
        yield counted(split.modes.items())
    if split.images < split.total:
        yield f'{split.images:,} looked at'


def sizes_of(sizes: Counter[tuple[int, int]]) -> str:
    """Return the sizes of images in one line: all the same, or the range of widths and heights."""
    if not sizes:
        return ''
    widths, heights = zip(*sizes)
    if len(sizes) == 1:
        return f'{widths[0]}x{heights[0]}'
    return f'{min(widths)}x{min(heights)} to {max(widths)}x{max(heights)}, {len(sizes):,} different'
