"""docs/reliability.md names tests that exist."""
import re


def test_every_fault_has_a_test_that_is_there(project_root):
    table = (project_root / 'docs' / 'reliability.md').read_text()
    rows = [line.split('|') for line in table.splitlines() if re.match(r'\| \d+ \|', line)]
    assert [int(row[1]) for row in rows] == list(range(1, 37))
    for row in rows:
        named = re.findall(r'`(test_\w+\.py)(?:::(\w+))?`', row[4])
        assert named, row
        for file, test in named:
            text = (project_root / 'tests' / file).read_text()
            assert not test or f'def {test}(' in text, (file, test)
