"""The comparison of runs: its rows, figures and picture, on folders written by hand."""
import io
import json
import math
import runpy
import sys

import pytest
import torch
from report_helpers import error_line, names, read_figures, record_text, report, write_run
from safetensors.torch import save_file

from gradaug_timm.report.methods import group_runs
from gradaug_timm.report.picture import draw, mean_curve
from gradaug_timm.report.runs import read_run


def test_runs_that_differ_in_their_seed_alone_are_one_row_with_mean_and_spread(tmp_path):
    for seed, last in ((1, 80.), (2, 82.), (3, 87.)):
        write_run(tmp_path / f'plain-s{seed}', [10., 90., last], seed=seed, columns={'eval_top5': [20., 95., 91.]})
    row, = report(tmp_path, *sorted(tmp_path.glob('plain-*')))
    assert row['method'] == 'plain' and row['seeds'] == '3' and row['epochs'] == '3'
    assert row['top-1 final'] == '83.00 ± 3.61'  # deviations 3, 1, 4: sqrt(26 / 2)
    assert row['top-1 best'] == '90.00 ± 0.00'
    assert row['top-5 final'] == '91.00 ± 0.00' and row['top-5 best'] == '95.00 ± 0.00'
    figures, = read_figures(tmp_path / 'made' / 'report.csv')
    assert float(figures['top1_final_mean']) == 83
    assert float(figures['top1_final_std']) == pytest.approx(math.sqrt(13))
    assert figures['seeds'] == '1 2 3'


def test_one_seed_has_no_spread(tmp_path):
    row, = report(tmp_path, write_run(tmp_path / 'plain', [10., 70., 60.]))
    assert row['top-1 final'] == '60.00' and row['top-1 best'] == '70.00' and row['seeds'] == '1'
    figures, = read_figures(tmp_path / 'made' / 'report.csv')
    assert figures['top1_final_std'] == ''


def test_folders_without_records_have_blanks(tmp_path):
    row, = report(tmp_path, write_run(tmp_path / 'old', [10., 70., 60.]))
    assert [row[name] for name in ('passes', 'cost', 'GFLOPs', 's/epoch')] == [''] * 4
    assert 'top-5 final' not in row and 'top-1 paper' not in row


def test_other_flags_are_other_rows_and_files_and_logs_are_not(tmp_path):
    write_run(tmp_path / 'runs' / 'a', [1., 2., 3.], seed=1, workers=4, output='here', log_interval=7, resume='auto')
    write_run(tmp_path / 'runs' / 'b', [1., 2., 5.], seed=2, workers=0, output='there')
    write_run(tmp_path / 'runs' / 'c', [1., 2., 9.], seed=3, mixup=0.2)
    rows = report(tmp_path, tmp_path / 'runs')
    assert [(row['method'], row['seeds'], row['top-1 final']) for row in rows] == [
        ('a', '2', '4.00 ± 1.41'), ('c', '1', '9.00')]


def test_a_flag_at_its_default_is_the_flag_that_an_older_run_did_not_know(tmp_path):
    write_run(tmp_path / 'runs' / 'old', [1., 2., 3.], seed=1)
    write_run(tmp_path / 'runs' / 'new', [1., 2., 5.], seed=2, smoothing=0.1, mixup=0., gradaug=False)
    assert len(report(tmp_path, tmp_path / 'runs')) == 1


def test_seeds_that_differ_in_how_often_they_save_or_where_their_data_lie_are_one_row(tmp_path):
    write_run(tmp_path / 'runs' / 'a-s1', [1., 2., 3.], seed=1, checkpoint_minutes=5, data_dir='here', device='cpu')
    write_run(tmp_path / 'runs' / 'a-s2', [1., 2., 5.], seed=2, checkpoint_steps=7, data_dir='there', device='cuda')
    row, = report(tmp_path, tmp_path / 'runs')
    assert row['seeds'] == '2'


def test_equal_numbers_are_one_and_the_papers_figures_make_no_method(tmp_path):
    write_run(tmp_path / 'runs' / 'a-s1', [1., 2., 3.], seed=1, mixup=0, min_lr=0.)
    write_run(tmp_path / 'runs' / 'a-s2', [1., 2., 5.], seed=2, mixup=0., min_lr=0, published_top1=78)
    row, = report(tmp_path, tmp_path / 'runs')
    assert row['seeds'] == '2' and row['top-1 paper'] == '78'


def test_a_run_begun_from_the_checkpoint_of_another_is_another_method(tmp_path):
    own = write_run(tmp_path / 'a-s1', [1., 2., 3.], seed=1, resume=str(tmp_path / 'a-s1' / 'last.pth.tar'))
    other = write_run(tmp_path / 'a-s2', [1., 2., 3.], seed=2, resume='pretraining/last.pth.tar')
    assert len(report(tmp_path, own, other)) == 2


@pytest.mark.parametrize(('folders', 'name'), [
    (['mixup-s1', 'mixup-s2'], 'mixup'),
    (['mixup_seed1', 'mixup_seed2'], 'mixup'),
    (['seed=1-mixup', 'seed=2-mixup'], 'mixup'),
    (['mixup-1', 'mixup-2'], 'mixup'),
    (['20250101-120000-mixup-32-s1', '20250101-130000-mixup-32-s2'], 'mixup-32'),
    (['classes1', 'classes2'], 'classes1'),
    (['cutmix/seed1', 'cutmix/seed2'], 'cutmix'),
    (['x-s11'], 'x-s11'),
])
def test_rows_are_named_by_folders_without_their_seeds(tmp_path, folders, name):
    runs = [write_run(tmp_path / folder, [1., 2., 3.], seed=seed) for seed, folder in enumerate(folders, start=1)]
    assert names(report(tmp_path, *runs)) == [name]


def test_rows_are_named_by_the_flag_method_and_show_the_papers_figures(tmp_path):
    flags = dict(method='Mix|up', published_top1=77.9, published_top5=None)
    first = write_run(tmp_path / 'a', [1., 2., 3.], columns={'eval_top5': [1., 2., 3.]}, **flags)
    second = write_run(tmp_path / 'b', [1., 2., 4.], columns={'eval_top5': [1., 2., 3.]}, mixup=0.5)
    rows = report(tmp_path, first, second)
    assert names(rows) == [r'Mix\|up', 'b']
    assert [row['top-1 paper'] for row in rows] == ['77.9', '']
    assert 'top-5 paper' not in rows[0]


def test_equal_names_are_told_apart_by_their_flags_and_other_differences_are_noted(tmp_path, capsys):
    for folder, flags in (('a', dict(epochs=3)), ('b', dict(epochs=2)), ('c', dict(epochs=2, mixup=0.2, lr=0.3))):
        write_run(tmp_path / 'runs' / folder, [1., 2., 3.], method='X', **flags)
    assert names(report(tmp_path, tmp_path / 'runs')) == ['X (epochs 3, lr 0.1)', 'X (epochs 2, lr 0.1)',
                                                          'X (epochs 2, lr 0.3)']
    assert 'X: rows with this name also differ in mixup' in capsys.readouterr().err


def test_a_rows_time_weighs_as_many_epochs_as_it_stands_for(tmp_path):
    run = write_run(tmp_path / 'a', [1., 2.], columns={'epoch': [9, 11], 'train_seconds': [2., 8.]})
    for first_epochs, weight in (((0,), 10), ((6,), 4), ((6, 10), 4), ((10, 6), 4), ((10,), 1)):
        (run / 'run.json').write_text(record_text(*first_epochs))
        assert read_run(str(run)).seconds_per_epoch() == pytest.approx((weight * 2 + 2 * 8) / (weight + 2))


def test_long_epochs_are_shown_without_powers_of_ten(tmp_path):
    row, = report(tmp_path, write_run(tmp_path / 'a', [1.], epochs=1, columns={'train_seconds': [1234.5]}))
    assert row['s/epoch'] == '1230'


def test_time_is_that_of_the_epochs_where_it_was_recorded(tmp_path):
    run = write_run(tmp_path / 'a', [1., 2., 3.], columns={'train_seconds': ['', 4., 6.]})
    assert read_run(str(run)).seconds_per_epoch() == 5


def test_the_metric_can_be_another_and_the_best_loss_is_the_lowest(tmp_path, capsys):
    run = write_run(tmp_path / 'a', [1., 2., 3.], columns={'eval_loss': [2., 0.5, 1.], 'train_loss': [3., 2., 1.]})
    row, = report(tmp_path, run, metric=['loss', 'train_loss'])
    assert row['loss final'] == '1.0000' and row['loss best'] == '0.5000' and row['train_loss best'] == '1.0000'
    assert 'top-1 final' not in row
    error = error_line(capsys, run, '--metric', 'top11', '--output', tmp_path / 'made')
    assert '--metric top11: the runs have loss, top1, train_loss, did you mean top1?' in error


def test_without_top1_the_runs_own_metric_is_shown(tmp_path):
    map_only = {'eval_map': [5., 6., 7.], 'eval_top1': ['', '', '']}
    labels = write_run(tmp_path / 'a', [1., 2., 3.], task='multilabel', columns=map_only)
    assert report(tmp_path, labels)[0]['map final'] == '7.00'
    blind = write_run(tmp_path / 'b', [1., 2., 3.], columns={'eval_top1': ['', '', ''], 'train_loss': [3., 2., 1.]})
    assert report(tmp_path, blind)[0]['train_loss final'] == '1.0000'


def test_a_run_without_the_metric_of_the_others_has_blanks_and_is_named(tmp_path, capsys):
    good = write_run(tmp_path / 'a', [1., 2., 3.])
    blind = write_run(tmp_path / 'b', [1., 2., 3.], lr=7., columns={'eval_top1': [''] * 3, 'train_loss': [3., 2., 1.]})
    rows = report(tmp_path, good, blind)
    assert rows[1]['top-1 final'] == rows[1]['top-1 best'] == ''
    assert f'{blind}: no top1, only epoch, train_loss' in capsys.readouterr().err


def test_a_metric_that_is_not_finite_is_no_best_one(tmp_path):
    run = write_run(tmp_path / 'a', [1., 2., 3.], columns={'eval_loss': [0.5, 'nan', 'nan']})
    row, = report(tmp_path, run, metric='loss')
    assert row['loss final'] == 'nan' and row['loss best'] == '0.5000'
    other = write_run(tmp_path / 'b', [1., 2., 3.], seed=2, columns={'eval_loss': [0.7, '-inf', 1.]})
    row, = report(tmp_path, run, other, metric='loss')
    assert row['loss final'] == 'nan ± nan' and row['loss best'] == '0.6000 ± 0.1414'


def test_the_markdown_is_printed_and_the_picture_is_one(tmp_path, capsys):
    runs = [write_run(tmp_path / f'a-s{seed}', [1., 2., float(seed)], seed=seed) for seed in (1, 2)]
    report(tmp_path, *runs, write_run(tmp_path / 'b', [4., 4.], lr=1.), title='Small networks')
    made = tmp_path / 'made'
    assert capsys.readouterr().out == (made / 'report.md').read_text()
    assert '![top-1 over epochs](report.png)' in (made / 'report.md').read_text()
    assert (made / 'report.png').read_bytes()[:4] == b'\x89PNG'


def test_without_matplotlib_the_tables_are_written_and_a_line_says_so(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, 'matplotlib', None)
    assert report(tmp_path, write_run(tmp_path / 'a', [1., 2., 3.]))
    assert 'no picture: matplotlib is not installed' in capsys.readouterr().err
    assert not (tmp_path / 'made' / 'report.png').exists()
    assert 'report.png' not in (tmp_path / 'made' / 'report.md').read_text()


def test_the_mean_curve_is_over_the_epochs_that_all_seeds_have(tmp_path):
    write_run(tmp_path / 'a-s1', [10., 20., 30.], seed=1, save_epochs=[2])
    write_run(tmp_path / 'a-s2', [20., 50.], seed=2, columns={'epoch': [0, 2]})
    methods, _ = group_runs([read_run(str(tmp_path / name)) for name in ('a-s1', 'a-s2')])
    assert mean_curve(methods[0], 'top1') == [(1, 15.), (3, 40.)]


def test_the_picture_has_the_curves_and_at_the_end_a_dot_for_each_seed_and_a_bar_at_their_mean(tmp_path):
    runs = [write_run(tmp_path / f'a-s{seed}', [1., 2., 10. * seed], seed=seed) for seed in (1, 2)]
    runs.append(write_run(tmp_path / 'b', [7., 8.], lr=1., method='$x^{ _b'))
    methods, _ = group_runs([read_run(str(run)) for run in runs])
    curves, ends = draw(methods, 'top1', title='$').axes
    assert [list(line.get_ydata()) for line in curves.lines] == [[1, 2, 15], [1, 2, 10], [1, 2, 20], [7, 8]]
    assert [list(line.get_xdata()) for line in ends.lines] == [[10, 20], [15], [8], [8]]
    assert [tick.get_text() for tick in ends.get_yticklabels()] == ['a', '$x^{ _b (unfinished)']


def test_it_runs_as_a_module(tmp_path, monkeypatch, capsys):
    run = write_run(tmp_path / 'a', [1., 2., 3.])
    monkeypatch.setattr(sys, 'argv', ['report', str(run), '--output', str(tmp_path)])
    runpy.run_module('gradaug_timm.report', run_name='__main__')
    assert '| a |' in capsys.readouterr().out


def test_it_prints_where_the_output_has_no_plus_minus(tmp_path, monkeypatch):
    runs = [write_run(tmp_path / f'a-s{seed}', [1., 2., 3.], seed=seed) for seed in (1, 2)]
    printed = io.BytesIO()
    monkeypatch.setattr(sys, 'stdout', io.TextIOWrapper(printed, 'ascii', write_through=True))
    monkeypatch.setattr(sys, 'argv', ['report', *map(str, runs), '--output', str(tmp_path)])
    runpy.run_module('gradaug_timm.report', run_name='__main__')
    assert rb'3.00 \xb1 0.00' in printed.getvalue()


def test_a_misspelt_flag_of_the_report_is_refused_with_the_nearest(capsys):
    assert 'unknown flag --metrc, did you mean --metric?' in error_line(capsys, 'a', '--metrc', 'top1')


def test_runs_of_other_classes_are_named_in_one_note(tmp_path, capsys):
    for number, classes in enumerate((['cat', 'dog'], ['dog', 'cat'], ['cat', 'fox'], None)):
        folder = write_run(tmp_path / 'runs' / f'r{number}', [1., 2., 3.], lr=0.1 + number)
        save_file({'x': torch.zeros(1)}, folder / 'model_best.safetensors',
                  None if classes is None else {'class_names': json.dumps(classes)})
    assert len(report(tmp_path, tmp_path / 'runs')) == 4
    note, = (line for line in capsys.readouterr().err.splitlines() if 'cannot be compared' in line)
    assert 'r0 (dog)' in note and 'r2 (fox)' in note and 'r1' not in note and 'r3' not in note
