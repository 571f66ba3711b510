"""Common parts of all commands: one-line errors, text tables, and the choice of a device."""
import logging

import pytest
import torch

from gradaug_timm.cli import flag, log_to_terminal, one_line, table
from gradaug_timm.devices import pick_device


@pytest.mark.parametrize('error, options, expected', [
    (ValueError('first\n  second\tthird '), {}, 'first second third'),
    (ValueError('x' * 300), {}, 'x' * 200),
    (ValueError('x' * 300), {'limit': None}, 'x' * 300),
    (ValueError('one two'), {'limit': 4}, 'one '),
    (EOFError(), {}, 'EOFError'),
    (EOFError(' \n'), {'kind': True}, 'EOFError'),
    (KeyError('a'), {'kind': True}, "KeyError: 'a'"),
])
def test_an_error_is_told_in_one_line(error, options, expected):
    assert one_line(error, **options) == expected


def test_columns_of_a_table_are_aligned():
    rows = [('name', 'top-1', 'note'), ('a', '9.5', ''), ('longer', '10.25', 'x')]
    assert table(rows) == [
        'name    top-1  note',
        'a       9.5',
        'longer  10.25  x',
    ]
    assert table(rows, figures=True) == [
        'name    top-1  note',
        'a         9.5',
        'longer  10.25     x',
    ]
    assert table([]) == []


def test_a_setting_is_spelt_as_a_flag():
    assert flag('clip_grad') == '--clip-grad'


def test_a_device_is_the_named_one_or_the_one_that_is_there(monkeypatch):
    assert pick_device('cpu') == torch.device('cpu')
    monkeypatch.setattr(torch.accelerator, 'is_available', lambda: False)
    assert pick_device() == torch.device('cpu')
    monkeypatch.setattr(torch.accelerator, 'is_available', lambda: True)
    monkeypatch.setattr(torch.accelerator, 'current_accelerator', lambda: torch.device('cuda'))
    assert pick_device() == torch.device('cuda')


@pytest.mark.parametrize('name', ['nonsense', 'cuda:99', 'xla', ''])
def test_a_device_that_does_not_exist_is_named_with_the_one_that_was_found(name):
    found = pick_device()
    with pytest.raises(ValueError, match=f'^--device {name} does not exist; found {found}$'):
        pick_device(name)


def test_matplotlib_tells_nothing_of_its_font_cache_amid_the_output(caplog):
    font_manager = logging.getLogger('matplotlib.font_manager')
    font_manager.setLevel(logging.NOTSET)
    with caplog.at_level(logging.INFO):
        log_to_terminal()
        font_manager.info('generated new fontManager')
        font_manager.warning('a font is missing')
        logging.getLogger('gradaug_timm.some').info('an epoch')
    assert caplog.messages == ['a font is missing', 'an epoch']
