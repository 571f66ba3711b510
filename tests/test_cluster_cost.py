"""Estimated times on clusters, against values computed by hand."""
import pytest

from benchmarks.cluster_cost import all_reduce_seconds, build_parser, hidden_seconds, main, rows_for, step_seconds


def test_a_ring_of_two_sends_each_byte_once_and_one_gpu_sends_nothing():
    assert all_reduce_seconds(100e6, 2, bandwidth=10e9, latency=0) == pytest.approx(0.010)
    assert all_reduce_seconds(100e6, 1, bandwidth=10e9, latency=1) == 0


def test_a_ring_of_four_takes_six_messages_of_a_quarter():
    # 6 messages of 25 MB at 10 GB/s take 2.5 ms each, and 1 ms each to begin
    assert all_reduce_seconds(100e6, 4, bandwidth=10e9, latency=1e-3) == pytest.approx(0.021)


def test_a_ring_simulated_message_by_message_takes_as_long():
    gpus, size = 5, 100.
    pieces = [[{gpu} for _ in range(gpus)] for gpu in range(gpus)]  # whose gradients are in each piece
    rounds = 0
    while any(len(piece) < gpus for own in pieces for piece in own):
        sent = [(gpu, (gpu - rounds) % gpus) for gpu in range(gpus)]
        values = [pieces[gpu][number] for gpu, number in sent]
        for (gpu, number), value in zip(sent, values):
            pieces[(gpu + 1) % gpus][number] = pieces[(gpu + 1) % gpus][number] | value
        rounds += 1
    assert all_reduce_seconds(size, gpus, bandwidth=1., latency=0.) == pytest.approx(rounds * size / gpus)


def test_only_what_is_not_hidden_is_waited_for():
    assert step_seconds(0.3, 0.05, hidden=0.06) == 0.3
    assert step_seconds(0.3, 0.08, hidden=0.06) == pytest.approx(0.32)


def test_backward_of_the_last_pass_hides():
    assert hidden_seconds(0.03, cost=1, subnets=0) == pytest.approx(0.02)
    # three sub-networks cost 0.09 in addition, one 0.03, of which backward is 0.02
    assert hidden_seconds(0.03, cost=4, subnets=3) == pytest.approx(0.02)


def test_rows_by_hand():
    args = build_parser().parse_args(
        '--plain-ms 30 --cost 4 --batch 100 --parameters 25000000 --images 360000 --epochs 100 --network 2 '
        '--inside 200 --efficiency 0.5 --latency-us 0 --gpus 8 16'.split())
    inside, across = rows_for(args)
    # 100 MB: 2 * 7/8 * 100 MB at 100 GB/s; 2 * 15/16 * 100 MB at 1 GB/s, of which 20 ms are hidden
    assert inside['all-reduce ms'] == pytest.approx(1.75) and across['all-reduce ms'] == pytest.approx(187.5)
    assert inside['plain step ms'] == pytest.approx(30) and across['plain step ms'] == pytest.approx(197.5)
    assert inside['GradAug step ms'] == pytest.approx(120) and across['GradAug step ms'] == pytest.approx(287.5)
    assert across['GradAug computing %'] == pytest.approx(100 * 120 / 287.5)
    assert inside['GradAug hours'] == pytest.approx(1.5)  # 45,000 steps of 0.12 s
    assert inside['GradAug GPU-hours'] == pytest.approx(12)


def test_across_machines_the_slowest_link_may_be_inside_one():
    args = build_parser().parse_args('--network 400 --inside 50 --efficiency 1 --latency-us 0 --gpus 16'.split())
    narrow = build_parser().parse_args('--network 50 --inside 50 --efficiency 1 --latency-us 0 --gpus 16'.split())
    assert rows_for(args) == rows_for(narrow)


def test_the_tables_of_the_documents_are_what_the_formula_gives(project_root):
    text = (project_root / 'docs' / 'cluster.md').read_text()
    for network in ('3.125', '12.5', '400'):
        for row in rows_for(build_parser().parse_args(['--network', network])):
            cells = [f'{row["GPUs"]}', f'{row["all-reduce ms"]:.1f}']
            for name in ('plain', 'GradAug'):
                cells += [f'{row[f"{name} step ms"]:.1f}', f'{row[f"{name} computing %"]:.0f}',
                          f'{row[f"{name} hours"]:.2f}', f'{row[f"{name} GPU-hours"]:.1f}']
            assert f'| {" | ".join(cells)} |' in text, network


def test_the_command_prints_the_rows(capsys):
    main(['--gpus', '8'])
    _, columns, values, line = capsys.readouterr().out.splitlines()
    assert len(columns.split('  ')) > 5 and values.split()[0] == '8' and '"GradAug GPU-hours"' in line
