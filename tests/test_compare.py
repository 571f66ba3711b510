"""Comparisons give every method the same computation, go on where they were, and say what can be concluded."""
import json
import math
import signal
import statistics
import subprocess
import sys
import time

import pytest
from train_helpers import make_image_folder

from gradaug_timm.compare import main as command
from gradaug_timm.compare.arguments import duration
from gradaug_timm.compare.cost import Cost
from gradaug_timm.compare.intervals import interval, paired, t_quantile
from gradaug_timm.compare.methods import method_of
from gradaug_timm.compare.plan import Planned, duration_of, of_shard, stretched, stretched_epochs, that_fit
from gradaug_timm.compare.runs import environment
from gradaug_timm.compare.table import conclusions, rows_of
from gradaug_timm.training.arguments import TrainSettings
from gradaug_timm.training.main import main as train

COSTS = {'baseline': Cost(1., 2.), 'gradaug': Cost(2., 4.), 'cutmix': Cost(1.1, 2.2)}


def planned(method='baseline', compute=1., seed=1, seconds=1.):
    return Planned(f'{method}-{compute}-{seed}', method, compute, seed, 10, seconds, ())


@pytest.mark.parametrize('freedom', [1, 2, 7, 30, 31, 100, 1000])
def test_the_quantile_is_that_of_students_distribution(freedom):
    scipy = pytest.importorskip('scipy.stats')
    assert t_quantile(freedom) == pytest.approx(scipy.t.ppf(0.975, freedom), rel=2e-3)


def test_an_interval_is_that_of_a_t_test_of_paired_differences():
    scipy = pytest.importorskip('scipy.stats')
    one, other = {1: 70., 2: 72.5, 3: 71., 5: 80.}, {1: 69., 2: 70., 3: 71.5, 4: 1.}
    found = paired(one, other)
    test = scipy.ttest_rel([70., 72.5, 71.], [69., 70., 71.5]).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((test.low, test.high), abs=1e-2) and found.number == 3
    assert paired({1: 1.}, {2: 1.}) is None
    assert interval([5.]).half == math.inf and not interval([5.]).certain


@pytest.mark.parametrize(('text', 'flags'), [
    ('baseline', ('--no-gradaug',)),
    ('gradaug', ('--gradaug',)),
    ('cutmix', ('--cutmix', '1', '--mixup-prob', '0.5', '--no-gradaug')),
    ('gradaug+cutmix', ('--gradaug', '--cutmix', '1', '--mixup-prob', '0.5')),
])
def test_methods_are_flags_of_train(text, flags):
    assert method_of(text) == (text, (), flags)


def test_a_method_may_be_a_file_and_what_is_added_to_it(tmp_path):
    (tmp_path / 'mine.yaml').write_text('opt: adamw\n')
    file = str(tmp_path / 'mine.yaml')
    assert method_of(f'{file}+cutmix') == ('mine+cutmix', (file,), ('--cutmix', '1', '--mixup-prob', '0.5'))


def test_all_that_counts_epochs_is_stretched_with_the_schedule():
    settings = TrainSettings(epochs=100, warmup_epochs=5, gradaug_off_epoch=80, sched='multistep',
                             decay_milestones=(50, 75), val_interval=10)
    assert stretched(settings, 40) == [
        '--epochs', '40', '--warmup-epochs', '2', '--gradaug-off-epoch', '32',
        '--val-interval', '4', '--decay-milestones', '20', '30']
    assert stretched(TrainSettings(epochs=30), 30) == ['--epochs', '30']
    assert '36' in stretched(TrainSettings(epochs=100, sched='step'), 40)  # of timm's 90
    assert stretched(TrainSettings(epochs=100, sched='plateau', warmup_epochs=0), 40)[2:] == ['--patience-epochs', '4']


@pytest.mark.parametrize('cost', [0.8, 1.25, 2.7])
@pytest.mark.parametrize('compute', [1., 1.5, 3.])
def test_all_methods_spend_the_same_computation_but_for_half_an_epoch(cost, compute):
    assert abs(stretched_epochs(60, compute, cost) * cost - 60 * compute) <= cost / 2
    assert stretched_epochs(1, 1, 3) == 1


def test_parts_of_a_comparison_are_all_of_it_and_of_like_length():
    runs = [planned(seed=seed, seconds=seed) for seed in range(1, 20)]
    parts = [of_shard(runs, part, 4) for part in (1, 2, 3, 4)]
    assert sorted(run.seed for part in parts for run in part) == list(range(1, 20))
    lengths = [sum(run.seconds for run in part) for part in parts]
    assert max(lengths) - min(lengths) <= 5


def test_whole_seeds_are_left_out_for_a_time():
    runs = [planned(method, seed=seed, seconds=10) for seed in (1, 2, 3) for method in ('baseline', 'gradaug')]
    assert that_fit(runs, 45, 1) == runs[:4]
    assert that_fit(runs, 35, 2) == runs
    assert not that_fit(runs, 15, 1)
    assert duration_of(runs, 4) == 20


def test_the_conclusion_says_which_methods_are_ahead_and_which_cannot_be_told():
    values = {('baseline', 1.): (70, 71, 72), ('gradaug', 1.): (72, 73.1, 73.9), ('cutmix', 1.): (69, 73, 71),
              ('baseline', 3.): (80, 81, 82), ('gradaug', 3.): (70, 71, 72.5)}
    runs = {planned(method, compute, seed): value for (method, compute), each in values.items()
            for seed, value in enumerate(each)}
    said = list(conclusions(rows_of(list(runs), COSTS, runs, 10), 'top1'))
    assert said[0].startswith('At compute 1, ahead of baseline: gradaug (+2.00, ')
    assert '; not distinguishable from baseline: cutmix (+0.00, ' in said[0]
    assert said[1].startswith('At compute 3, behind baseline: gradaug (-9.83, ')
    assert 'ahead of baseline: gradaug' in next(conclusions(rows_of(list(runs), COSTS, {
        run: -value for run, value in runs.items()}, 10), 'loss'))
    against = rows_of(list(runs), COSTS, runs, 10, 'cutmix')
    assert [row.difference and round(row.difference.mean, 9) for row in against] == [0, 2, None, None, None]
    assert next(conclusions(against, 'top1', 'cutmix')).startswith(
        'At compute 1, not distinguishable from cutmix: baseline (+0.00, ')
    alone = [planned(), planned('gradaug')]
    assert 'not distinguishable from baseline: gradaug (+1.00, one seed)' in next(conclusions(
        rows_of(alone, COSTS, dict(zip(alone, (1., 2.))), 10), 'top1'))
    assert 'no method can be compared' in next(conclusions(rows_of(alone, COSTS, {}, 10), 'top1'))


@pytest.mark.parametrize(('text', 'seconds'), [('90s', 90), ('30m', 1800), ('2h', 7200), ('1h30m', 5400)])
def test_times_are_read(text, seconds):
    assert duration(text) == seconds


def test_jobs_share_threads_and_gpus(monkeypatch):
    monkeypatch.delenv('OMP_NUM_THREADS', raising=False)
    monkeypatch.setattr('torch.get_num_threads', lambda: 8)
    monkeypatch.setattr('torch.cuda.device_count', lambda: 2)
    assert [environment(place, 4)['CUDA_VISIBLE_DEVICES'] for place in range(4)] == ['0', '1', '0', '1']
    assert environment(0, 4)['OMP_NUM_THREADS'] == '2'
    assert 'OMP_NUM_THREADS' not in environment(0, 1)
    monkeypatch.setenv('OMP_NUM_THREADS', '3')
    assert environment(0, 4)['OMP_NUM_THREADS'] == '3'


@pytest.fixture
def base(tmp_path):
    data = make_image_folder(tmp_path / 'data', images=4)
    path = tmp_path / 'base.yaml'
    path.write_text(json.dumps(dict(
        model='gradaug_resnet20_cifar', model_kwargs=dict(depth=8), data_dir=str(data), num_classes=2, batch_size=4,
        input_size=[3, 16, 16], gradaug_divisor=4, epochs=4, warmup_epochs=0, workers=0, device='cpu', lr=0.01)))
    return path


@pytest.fixture
def made(monkeypatch):
    """The names of the runs that are made, in this process; costs are not measured."""
    names = []

    def make_runs(runs, folder, *, jobs):
        for run in runs:
            names.append(run.name)
            train([*run.flags])
            yield run, ''
    monkeypatch.setattr(command, 'make_runs', make_runs)
    monkeypatch.setattr(command, 'measure_costs', lambda settings, by_time: {name: COSTS[name] for name in settings})
    return names


def test_a_comparison_makes_what_is_missing_and_compares_the_last_epochs(base, made, tmp_path, capsys):
    output = tmp_path / 'out'
    words = [str(base), '--methods', 'baseline', 'gradaug', '--seeds', '1', '--output', str(output)]
    command.main([*words, '--dry-run'])
    assert '2 of 2 runs' in capsys.readouterr().out and not output.exists() and not made
    command.main(words)
    assert made == ['baseline-c1-s1', 'gradaug-c1-s1']
    command.main([*words[:-2], '--seeds', '2', '--compute', '1', '0.5', '--output', str(output)])
    assert made[2:] == ['baseline-c0.5-s1', 'gradaug-c0.5-s1', 'baseline-c1-s2', 'gradaug-c1-s2', 'baseline-c0.5-s2',
                        'gradaug-c0.5-s2']
    content = json.loads((output / 'comparison.json').read_text())
    rows = {(row['method'], row['compute']): row for row in content['rows']}
    assert {key: row['epochs'] for key, row in rows.items()} == {
        ('baseline', .5): 2, ('gradaug', .5): 1, ('baseline', 1.): 4, ('gradaug', 1.): 2}
    lines = (output / 'comparison.csv').read_text().splitlines()[1:]
    values = {(method, compute, seed): float(value) for method, compute, seed, _, _, value in (
        line.split(',') for line in lines)}
    summary = (output / 'runs' / 'gradaug-c1-s2' / 'summary.csv').read_text().splitlines()
    last = dict(zip(summary[0].split(','), summary[-1].split(',')))
    assert values['gradaug', '1', '2'] == float(last['eval_top1'])
    assert rows['gradaug', 1.]['difference'] == pytest.approx(statistics.mean(
        values['gradaug', '1', seed] - values['baseline', '1', seed] for seed in '12'))
    assert (output / 'comparison.png').exists() and '| 1 | gradaug | 2.00 | 2 | 2 |' in (
        output / 'comparison.md').read_text()


@pytest.mark.parametrize(('words', 'message'), [
    (['--methods', 'baseline', 'samm'],
     "'samm' must be one of baseline, cutmix, mixup, gradaug, paper, default, fast, or a YAML file"),
    (['--methods', 'baseline', 'baseline'], '--methods: baseline is given twice'),
    (['--seed', '3'], '--seed is set by the comparison; use --first-seed and --seeds'),
    (['--compute', '0'], 'must be a number above 0'),
    (['--against', 'mixup'], '--against mixup must be one of the methods: baseline, cutmix, gradaug'),
    (['--shard', '3/2'], 'must be I/N with I from 1 to N'),
    (['--time', 'soon'], 'must be a time such as 90s'),
    (['--metric', 'acc'], '--eval-metric acc must be one of loss, top1, top5'),
    (['--learning-rate', '1'], 'unknown flag --learning-rate'),
])
def test_bad_input_ends_in_one_line_before_the_first_run(base, made, tmp_path, capsys, words, message):
    with pytest.raises(SystemExit) as ended:
        command.main([str(base), *words, '--output', str(tmp_path / 'out')])
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert ended.value.code == 2 and message in error and not made and not (tmp_path / 'out' / 'runs').exists()


def test_runs_with_epochs_after_the_schedule_are_not_trained_again(base, made, tmp_path):
    words = [str(base), '--methods', 'baseline', '--seeds', '1', '--cooldown-epochs', '1', '--sched', 'cosine',
             '--output', str(tmp_path / 'out')]
    command.main(words)
    command.main(words)
    assert made == ['baseline-c1-s1']


def test_a_method_that_cannot_be_trained_is_named_before_the_first_run(base, tmp_path, capsys):
    for image in (tmp_path / 'data').rglob('*.png'):
        image.write_bytes(b'')
    with pytest.raises(SystemExit) as ended:
        command.main([str(base), '--methods', 'gradaug', '--output', str(tmp_path / 'out')])
    assert ended.value.code == 2 and 'compare: error: gradaug: ' in capsys.readouterr().err.splitlines()[-1]


def test_a_folder_of_other_settings_is_refused(base, made, tmp_path, capsys):
    words = [str(base), '--methods', 'baseline', '--seeds', '1', '--output', str(tmp_path / 'out')]
    command.main(words)
    with pytest.raises(SystemExit):
        command.main([*words, '--lr', '0.5'])
    assert 'holds runs of baseline with --lr 0.01, not 0.5; use another folder' in capsys.readouterr().err
    base.write_text(base.read_text().replace('"batch_size": 4', '"batch_size": 2'))
    with pytest.raises(SystemExit):
        command.main(words)
    assert 'holds runs of baseline with --batch-size 4, not 2' in capsys.readouterr().err
    assert len(made) == 1


@pytest.mark.slow
def test_steps_are_measured_and_runs_are_made_in_processes_of_their_own(base, tmp_path, capsys):
    command.main([str(base), '--methods', 'gradaug', '--seeds', '2', '--jobs', '2', '--output', str(tmp_path / 'out')])
    costs = json.loads((tmp_path / 'out' / 'costs.json').read_text())
    assert costs['baseline']['relative'] == 1 < costs['gradaug']['relative'] < 6
    assert 'no method can be compared with baseline yet' in capsys.readouterr().out
    assert len(list((tmp_path / 'out' / 'runs').glob('gradaug-c1-s*/model_best.pth.tar'))) == 2
    with pytest.raises(SystemExit):
        command.main([str(base), '--data-dir', 'nowhere', '--output', str(tmp_path / 'other')])
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith('python -m gradaug_timm.compare: error: baseline: --data-dir nowhere')


@pytest.mark.slow
def test_an_interrupted_comparison_saves_its_run_and_goes_on_with_it(base, tmp_path):
    command_line = [sys.executable, '-m', 'gradaug_timm.compare', str(base), '--methods', 'baseline', '--seeds', '1',
                    '--epochs', '400', '--output', str(tmp_path / 'out')]
    folder = tmp_path / 'out' / 'runs' / 'baseline-c1-s1'
    process = subprocess.Popen(command_line, stderr=subprocess.PIPE, text=True)
    while not list(folder.glob('checkpoint-*.pth.tar')):
        assert process.poll() is None
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130 and 'the same command goes on from here' in error
    begun = len((folder / 'summary.csv').read_text().splitlines()) - 1
    assert 0 < begun < 400
    subprocess.run(command_line, check=True, timeout=120, stdout=subprocess.DEVNULL)
    assert len(json.loads((folder / 'run.json').read_text())['sessions']) == 2
    assert len((folder / 'summary.csv').read_text().splitlines()) == 401
