"""The table of docs/results.md says what the results of each seed beside it say."""
import csv
import re
import statistics
from collections import defaultdict


def test_means_and_differences_are_those_of_the_seeds(project_root):
    values = defaultdict(dict)
    with open(project_root / 'benchmarks' / 'evidence' / 'results' / 'cifar100_25.csv', newline='') as file:
        for row in csv.DictReader(file):
            values[row['compute'], row['method']][row['seed']] = float(row['value'])
    text = (project_root / 'docs' / 'results.md').read_text()
    rows = re.findall(
        r'^\| (\d) \| ([\w+]+) \| [\d.]+ \| \d+ \| 5 \| ([\d.]+) ± [\d.]+ \| ([-+\d.]*)', text, re.MULTILINE)
    assert len(rows) == len(values) == 18
    for compute, method, mean, difference in rows:
        found, plain = values[compute, method], values[compute, 'baseline']
        assert f'{statistics.mean(found.values()):.2f}' == mean
        expected = f'{statistics.mean(found[seed] - plain[seed] for seed in plain):+.2f}'
        assert difference == ('' if method == 'baseline' else expected)
