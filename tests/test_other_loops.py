"""The loops of docs/other_loops.md, run as they stand."""
import re

import pytest


@pytest.fixture(scope='module')
def blocks(project_root):
    text = (project_root / 'docs' / 'other_loops.md').read_text()
    return re.findall(r'^```python\n(.*?)^```', text, re.MULTILINE | re.DOTALL)


def run(*blocks) -> dict:
    names = {'__name__': 'other_loops'}
    for block in blocks:
        exec(block, names)
    return names


def test_accelerate_gives_the_losses_of_the_plain_loop(blocks):
    pytest.importorskip('accelerate')
    names = run(blocks[0], blocks[1])
    assert len(set(names['plain'])) == 3
    assert names['accelerated'] == pytest.approx(names['plain'], rel=1e-5)


def test_lightning_gives_the_losses_of_the_plain_loop(blocks):
    pytest.importorskip('lightning')
    names = run(blocks[0], blocks[2])
    assert names['module'].losses == pytest.approx(names['plain'], rel=1e-5)
