"""The table of supported networks."""
import platform

import timm
import torch

from .checks import WIDTHS, Finding

REAL_SLICING = 0.65  # width 0.75 counts as real slicing up to this share of the multiply-adds
METHOD = f"""\
The smallest architecture of each module is checked with random weights, at widths {", ".join(map(str, WIDTHS))} and
divisor 1. The full network's output is bit-identical to timm's. Sub-networks run forward and backward in evaluation
and training mode; they equal the full-size network with the dropped parameters at zero, and the extracted dense
network (output and gradients); parameters outside have no gradient. "Whole" is the number of groups of channels that
stay at full width: single heads, or channels that are mixed. "Blocks" is the number that random depth may skip."""


def table(findings: list[Finding], command: str) -> str:
    """Return the findings as a Markdown page.

    Args:
        findings: Results of the checks.
        command: The command that wrote the page.
    """
    good = [finding for finding in findings if not finding.reason]
    real = [finding for finding in good if finding.share <= REAL_SLICING]
    lines = [
        '# Which networks of timm can be trained with GradAug',
        '',
        f'Written by `{command}` with torch {torch.__version__.partition("+")[0]}, timm {timm.__version__}, '
        f'Python {platform.python_version()}.',
        '',
        f'{len(good)} of {len(findings)} modules; in {len(real)} of them a sub-network of width 0.75 keeps at most '
        f'{REAL_SLICING:.0%} of the multiply-adds.',
        '',
        METHOD,
        '',
        '| module | architecture | multiply-adds at 0.75 | whole | blocks | planning |',
        '|---|---|---|---|---|---|',
    ]
    for finding in findings:
        what = (f'not supported: {finding.reason} | | ' if finding.reason else
                f'{finding.share:.0%} | {finding.whole} of {finding.groups} | {finding.blocks}')
        lines.append(f'| {finding.module} | {finding.architecture} | {what} | {finding.seconds:.1f} s |')
    return '\n'.join(lines) + '\n'
