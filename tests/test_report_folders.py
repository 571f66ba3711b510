"""The comparison of runs whose folders are broken, unfinished, or not only of runs."""
import os

import pytest
import yaml
from matplotlib.figure import Figure
from report_helpers import error_line, names, read_figures, record_text, report, write_run

from gradaug_timm.report.runs import read_run

BROKEN = {  # file, content, what is said
    'no mapping': ('args.yaml', '- a', 'it holds no usable model, seed, epochs'),
    'bad yaml': ('args.yaml', 'a: [\n', 'while parsing'),
    'cut yaml': ('args.yaml', 'epochs: 3\nmodel: x', 'it holds no usable seed'),
    'foreign tag': ('args.yaml', 'a: !!python/name:os.system', 'could not determine a constructor for the tag'),
    'no date': ('args.yaml', 'a: 2020-13-45', 'month must be in 1..12'),
    'no integer': ('args.yaml', 'a: !!int ""', 'string index out of range'),
    'no boolean': ('args.yaml', 'a: !!bool x', "'x'"),
    'no timestamp': ('args.yaml', 'a: !!timestamp x', "'NoneType' object"),
    'deep yaml': ('args.yaml', f'a: {"[" * 5000}', 'maximum recursion depth'),
    'endless yaml': ('args.yaml', 'a: &a [*a]', 'Circular reference'),
    'binary': ('summary.csv', b'\xff\xfe\0', "'utf-8' codec can't decode"),
    'long cell': ('summary.csv', 'a' * 200_000, 'field larger than field limit'),
    'no columns': ('summary.csv', 'hello\nyou\n', 'line 2 does not fit'),
    'cut row': ('summary.csv', 'epoch,eval_top1\n0,1\n1\n', 'line 3 does not fit'),
    'long row': ('summary.csv', 'epoch,eval_top1\n0,1,2\n', 'line 2 does not fit'),
    'words': ('summary.csv', 'epoch,eval_top1\n0,ok\n', "line 2: eval_top1 'ok' is not a number"),
    'no epoch': ('summary.csv', 'epoch,eval_top1\nnan,1\n', "line 2: epoch 'nan' is not a whole number"),
    'half an epoch': ('summary.csv', 'epoch,eval_top1\n0.5,1\n', "line 2: epoch '0.5' is not a whole number"),
    'epochs again': ('summary.csv', 'epoch,eval_top1\n2,1\n1,1\n', 'epoch 1 comes after epoch 2'),
    'cut record': ('run.json', '{"epochs": 3,', 'Expecting property name'),
    'deep record': ('run.json', '[' * 100_000, 'maximum recursion depth'),
    'no record': ('run.json', '{}', 'it holds no usable parameters'),
    'no sessions': ('run.json', record_text(), 'it holds no usable first_epoch, device'),
    'sessions of numbers': ('run.json', record_text(sessions=[3]), 'it holds no usable first_epoch, device'),
    'null in the record': ('run.json', record_text(0, multiply_adds=None), 'it holds no usable multiply_adds'),
    'words in the record': ('run.json', record_text(0, epochs='3'), 'it holds no usable epochs'),
}


def test_broken_folders_are_named_each_in_a_line_and_the_others_are_reported(tmp_path, capsys):
    write_run(tmp_path / 'runs' / 'good', [1., 2., 3.])
    for kind, (file, content, _) in BROKEN.items():
        bad = write_run(tmp_path / 'runs' / kind, [1., 2., 3.])
        (bad / file).write_bytes(content if isinstance(content, bytes) else content.encode())
    assert names(report(tmp_path, tmp_path / 'runs')) == ['good']
    for lines in (capsys.readouterr().err.splitlines(), (tmp_path / 'made' / 'report.md').read_text().splitlines()):
        for kind, (file, _, reason) in BROKEN.items():
            line, = (line for line in lines if f'{tmp_path}/runs/{kind}/{file} is broken: ' in line)
            assert reason in line


def test_folders_without_their_files_are_named_and_the_others_are_reported(tmp_path, capsys):
    runs = tmp_path / 'runs'
    for name in ('good', 'a', 'b'):
        write_run(runs / name, [1., 2., 3.])
    (runs / 'a' / 'args.yaml').unlink()
    (runs / 'b' / 'run.json').mkdir()
    (runs / 'c').mkdir()
    assert names(report(tmp_path, runs)) == ['good']
    printed = capsys.readouterr().err
    assert f'{runs}/a/args.yaml: No such file' in printed and f'{runs}/b/run.json: Is a directory' in printed
    assert f'{runs}/c: not a run: it has no args.yaml' in printed


USED = {'resume': 3, 'stop_epoch': 'x', 'method': [1], 'published_top1': '78', 'eval_metric': ['top1'], 'seed': 'one'}


def test_flags_of_another_kind_are_named_with_their_folders(tmp_path, capsys):
    write_run(tmp_path / 'runs' / 'good', [1., 2., 3.])
    for flag, value in USED.items():
        write_run(tmp_path / 'runs' / flag, [1., 2., 3.], **{'seed': 1, flag: value})
    assert names(report(tmp_path, tmp_path / 'runs')) == ['good']
    printed = capsys.readouterr().err
    for flag in USED:
        assert f'/runs/{flag}/args.yaml is broken: it holds no usable {flag}\n' in printed


def test_keys_of_any_kind_in_args_yaml_are_taken(tmp_path):
    run = write_run(tmp_path / 'a', [1., 2., 3.], model_kwargs={1: 2, 'a': 3})
    (run / 'args.yaml').write_text(f'{(run / "args.yaml").read_text()}7: 8\n? \n: 2020-01-02\n')
    assert names(report(tmp_path, run)) == ['a']


def test_a_loop_of_links_a_file_and_a_folder_without_permission_do_not_hide_the_others(tmp_path, capsys, monkeypatch):
    runs = tmp_path / 'runs'
    write_run(runs / 'good', [1., 2., 3.])
    (runs / 'loop').symlink_to('loop')
    (runs / 'notes.txt').write_text('mine')
    (runs / 'locked').mkdir()
    listdir = os.listdir

    def refuse(path):
        if str(path).endswith('locked'):
            raise PermissionError(13, 'Permission denied', path)
        return listdir(path)
    monkeypatch.setattr(os, 'listdir', refuse)
    assert names(report(tmp_path, runs)) == ['good']
    assert f'{runs}/locked: Permission denied' in capsys.readouterr().err


def test_where_nothing_can_be_reported_one_line_says_why(tmp_path, capsys):
    (tmp_path / 'empty').mkdir()
    error = error_line(capsys, tmp_path / 'empty', tmp_path / 'nowhere', '--output', tmp_path / 'made')
    assert 'nothing to report' in error
    assert f'{tmp_path}/empty: not a run' in error and f'{tmp_path}/nowhere: does not exist' in error
    assert not (tmp_path / 'made').exists()


def test_an_unfinished_run_is_named_and_not_averaged_with_finished_ones(tmp_path, capsys):
    runs = [write_run(tmp_path / f'a-s{seed}', values, seed=seed, epochs=3)
            for seed, values in ((1, [1., 2., 80.]), (2, [1., 2., 82.]), (3, [1.]))]
    row, = report(tmp_path, *runs)
    assert row['top-1 final'] == '81.00 ± 1.41' and row['seeds'] == '2' and row['epochs'] == '3'
    assert f'{runs[2]}: unfinished: 1 of 3 epochs; not in the table' in capsys.readouterr().err


def test_where_no_run_is_finished_the_row_says_so(tmp_path, capsys):
    first = write_run(tmp_path / 'a-s1', [1., 50.], seed=1)
    second = write_run(tmp_path / 'a-s2', [40.], seed=2)
    started = write_run(tmp_path / 'b', [], lr=7.)
    (started / 'summary.csv').unlink()
    rows = report(tmp_path, first, second, started)
    assert rows[0]['epochs'] == '2 and 1 of 3' and rows[0]['top-1 final'] == '45.00 ± 7.07'
    assert rows[1]['epochs'] == '0 of 3' and rows[1]['top-1 final'] == ''
    printed = capsys.readouterr().err
    assert f'{first}: unfinished: 2 of 3 epochs; in the table with the last values' in printed
    assert f'{started}: unfinished: 0 of 3 epochs' in printed
    assert [row['finished'] for row in read_figures(tmp_path / 'made' / 'report.csv')] == ['False', 'False']


def test_only_a_run_that_has_just_begun_makes_a_table_without_figures(tmp_path):
    row, = report(tmp_path, write_run(tmp_path / 'a', []))
    assert row['epochs'] == '0 of 3'
    assert not (tmp_path / 'made' / 'report.png').exists()


def test_the_same_seed_counts_once(tmp_path, capsys):
    first = write_run(tmp_path / 'a', [1., 2., 80.])
    again = write_run(tmp_path / 'b', [1., 2., 82.])
    row, = report(tmp_path, first, again, first)
    assert row['seeds'] == '1' and row['top-1 final'] == '80.00'
    assert f'{again}: skipped: the same seed 1 and flags as {first}' in capsys.readouterr().err


def test_the_epochs_of_a_run_are_those_it_recorded_or_its_stop_epoch(tmp_path):
    stopped = write_run(tmp_path / 'a', [1., 2.], epochs=200, stop_epoch=2)
    assert read_run(str(stopped)).finished
    longer = write_run(tmp_path / 'b', [1., 2.], epochs=2)
    (longer / 'run.json').write_text(record_text(0, epochs=5))
    assert not read_run(str(longer)).finished


def test_a_report_is_renewed_and_nothing_else_is_overwritten(tmp_path, capsys):
    run = write_run(tmp_path / 'a', [1., 2., 3.])
    report(tmp_path, run)
    assert report(tmp_path, run, title='Again')
    made = tmp_path / 'made'
    assert '# Again' in (made / 'report.md').read_text()
    for name in ('notes.md', 'notes.csv', 'notes.png'):
        (made / name).write_text('mine')
        error = error_line(capsys, run, '--output', made, '--name', 'notes')
        assert f'{made / name} already exists and is not a report' in error
        assert (made / name).read_text() == 'mine'
        (made / name).unlink()
    assert '--name a/b must be' in error_line(capsys, run, '--name', 'a/b')
    assert '--name must be' in error_line(capsys, run, '--name', '')
    file = made / 'report.md'
    assert f'--output {file}: File exists' in error_line(capsys, run, '--output', file)


def test_a_report_that_was_interrupted_can_be_made_again(tmp_path, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt
    run = write_run(tmp_path / 'a', [1., 2., 3.])
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Figure, 'savefig', interrupt)
        report(tmp_path, run)
    assert report(tmp_path, run)


def test_the_folder_of_the_report_is_not_taken_for_a_run_that_failed(tmp_path, capsys):
    write_run(tmp_path / 'a', [1., 2., 3.])
    report(tmp_path, tmp_path)
    capsys.readouterr()
    report(tmp_path, tmp_path)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and ': wrote ' in lines[0]


@pytest.mark.parametrize('name', ['two\nlines', 'a|b', '$x^{$', '_under', os.fsdecode(b'no-utf8-\xff')])
def test_a_folder_of_any_name_has_its_row_and_its_line(tmp_path, name, capsys):
    run = write_run(tmp_path / name, [1.])
    row, = report(tmp_path, run, title='$x^{')
    assert row['top-1 final'] == '1.00'
    assert any(line.endswith('unfinished: 1 of 3 epochs; in the table with the last values')
               and str(tmp_path) in line for line in (tmp_path / 'made' / 'report.md').read_text().splitlines())


def test_args_yaml_of_timms_script_is_read(tmp_path):
    run = write_run(tmp_path / 'a', [1., 2., 3.])
    flags = yaml.safe_load((run / 'args.yaml').read_text())
    (run / 'args.yaml').write_text(yaml.safe_dump({**flags, 'naflex_loader': False, 'unheard_of': 1}))
    assert read_run(str(run)).flags['unheard_of'] == 1
