"""The tables of docs/results.md say what the results of each seed beside it say."""
import csv
import re
import statistics
from collections import defaultdict

import pytest


@pytest.mark.parametrize(('title', 'name', 'count'), [
    ('CIFAR-100: 25 labels a class', 'cifar100_25', 18),
    ('Fine-tuning: 10 images a class', 'finetune', 24),
])
def test_means_and_differences_are_those_of_the_seeds(project_root, title, name, count):
    values = defaultdict(dict)
    with open(project_root / 'benchmarks' / 'evidence' / 'results' / f'{name}.csv', newline='') as file:
        for row in csv.DictReader(file):
            values[row['compute'], row['method']][row['seed']] = float(row['value'])
    text = (project_root / 'docs' / 'results.md').read_text().partition(f'## {title}\n')[2].partition('\n## ')[0]
    rows = re.findall(
        r'^\| ([\d.]+) \| ([\w+]+) \| [\d.]+ \| \d+ \| 5 \| ([\d.]+) ± [\d.]+ \| ([-+\d.]*)', text, re.MULTILINE)
    assert len(rows) == len(values) == count
    for compute, method, mean, difference in rows:
        found, plain = values[compute, method], values[compute, 'baseline']
        assert f'{statistics.mean(found.values()):.2f}' == mean
        expected = f'{statistics.mean(found[seed] - plain[seed] for seed in plain):+.2f}'
        assert difference == ('' if method == 'baseline' else expected)
