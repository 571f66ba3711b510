"""Every row of the published tables is one file, with exactly its settings."""
import re
from dataclasses import replace
from pathlib import Path

import pytest
from rows_expected import HPARAMS, OTHER_RECIPES, ROWS

from gradaug_timm.task.settings import GradAugSettings
from gradaug_timm.task.transformations import Resize
from gradaug_timm.training.arguments import build_parser, given_settings, parse_arguments

FIELDS = ('Reproduces', 'Command', 'Hardware', 'Expected', 'Source')
DATA = ('--data-dir', 'DIR')


def parse(*argv: str):
    return parse_arguments(build_parser(), list(argv))[0]


def row_files() -> set[str]:
    """The files of single rows; a leading underscore marks what rows share."""
    paths = [path.relative_to(HPARAMS) for path in HPARAMS.rglob('*.yaml')]
    published = [path for path in paths if path.parts[0] in ('imagenet', 'cifar10', 'cifar100')]
    return {str(path.with_suffix('')) for path in published if not path.name.startswith('_')}


def test_every_published_row_has_a_file():
    published = [name for name in ROWS if not name.endswith('_grid')]
    assert len(published) == 9 + 6 + 6 + 2 * 3
    assert row_files() == set(ROWS)


@pytest.mark.parametrize('row', ROWS)
def test_a_row_resolves_to_its_published_settings_and_timms_defaults_otherwise(row):
    expected = {**parse(*DATA).values(), **ROWS[row]}
    assert parse('-c', str(HPARAMS / f'{row}.yaml'), *DATA).values() == expected


@pytest.mark.parametrize(('row', 'size', 'expected'), [
    ('imagenet/resnet50_gradaug', 224, dict(
        mode='width', min_width=0.9, width_steps=0, divisor=1, sizes=(224, 192, 160, 128))),
    ('imagenet/resnet50_gradaug_cutmix', 224, dict(
        mode='width', min_width=0.9, width_steps=0, divisor=1, sizes=(224, 192, 160, 128))),
    ('imagenet/resnet50_gradaug_grid', 224, dict(
        mode='width', min_width=0.9, width_steps=5, divisor=8, sizes=(224, 192, 160, 128))),
    ('cifar100/wide_resnet28_10_gradaug', 32, dict(
        mode='width', min_width=0.8, width_steps=0, divisor=1, sizes=(32, 28, 24))),
    ('cifar100/pyramidnet200_a240_gradaug_cutmix', 32, dict(
        mode='width', min_width=0.8, width_steps=0, divisor=1, sizes=(32, 28, 24))),
    ('cifar10/resnet110_gradaug', 32, dict(
        mode='depth', min_width=0.8, width_steps=0, divisor=1, min_survival=0.8, statistics='all', sizes=(32, 28, 24))),
])
def test_sub_networks_of_a_row_are_the_papers(row, size, expected):
    args = parse('-c', str(HPARAMS / f'{row}.yaml'), *DATA)
    settings = GradAugSettings.preset(size, args.gradaug_preset, **given_settings(args))
    pixels = tuple(Resize(fraction).output_size(size, size)[0] for fraction in settings.sizes)
    common = dict(
        subnets=3, rotation=(), weight=1., temperature=1., interval=1, off_epoch=0, min_survival=0.8, seed=42)
    assert replace(settings, sizes=pixels) == GradAugSettings(**{**common, **expected})


@pytest.mark.parametrize('row', ROWS)
def test_a_row_is_headed_by_what_it_reproduces_and_how(row):
    text = (HPARAMS / f'{row}.yaml').read_text()
    header = re.match(r'(?:#.*\n)+', text)[0]
    values = dict(re.findall(r'^# (\w+): +(\S.*)$', header, re.MULTILINE))
    assert list(values) == list(FIELDS)
    assert values['Command'] == f'python train.py -c hparams/{row}.yaml --data-dir DIR'
    assert 'Not run by us' in header
    if not row.endswith('_grid'):
        shown = dict(re.findall(r'(top-\d) (\d+\.\d+)', values['Expected']))
        expected = {'top-1': ROWS[row]['published_top1'], 'top-5': ROWS[row]['published_top5']}
        assert {name: float(value) for name, value in shown.items()} == {
            name: value for name, value in expected.items() if value is not None}


@pytest.mark.parametrize('row', OTHER_RECIPES)
def test_the_flags_in_a_header_run_the_recipe_that_its_figure_is_from(row):
    header = re.match(r'(?:#.*\n)+', (HPARAMS / f'{row}.yaml').read_text())[0]
    text = ' '.join(re.split(r'[#\s]+', header))
    added, flags = re.search(r'To run that(, add)?: (.*?)(?: Source:|$)', text).groups()
    command = [*(['-c', f'hparams/{row}.yaml'] if added else []), *flags.split()]
    config = HPARAMS.parent / command[1]
    assert parse('-c', str(config), *command[2:], *DATA).values() == {
        **parse(*DATA).values(), **ROWS[row], **OTHER_RECIPES[row]}


@pytest.mark.parametrize('path', sorted(HPARAMS.rglob('*.yaml')), ids=lambda path: path.stem)
def test_a_row_jumps_through_two_other_files_at_most(path: Path):
    jumps = 0
    while base := re.search(r'^base: (\S+)$', path.read_text(), re.MULTILINE):
        path = path.parent / base[1]
        jumps += 1
    assert jumps <= 2
