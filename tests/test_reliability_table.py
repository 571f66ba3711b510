"""docs/reliability.md names tests that exist, and says which of them are slow."""
import ast
import re
from pathlib import Path

SLOW = 'pytest.mark.slow'


def slowness(path: Path) -> dict[str, bool]:
    """The tests of a file, and whether each is slow."""
    body = ast.parse(path.read_text()).body
    whole = any(isinstance(node, ast.Assign) and ast.unparse(node) == f'pytestmark = {SLOW}' for node in body)
    return {node.name: whole or SLOW in map(ast.unparse, node.decorator_list)
            for node in body if isinstance(node, ast.FunctionDef) and node.name.startswith('test_')}


def test_every_fault_has_a_test_that_is_there(project_root):
    table = (project_root / 'docs' / 'reliability.md').read_text()
    rows = [line.split('|') for line in table.splitlines() if re.match(r'\| *\d', line)]
    assert rows and [int(row[1]) for row in rows] == list(range(1, len(rows) + 1))
    for row in rows:
        assert len(row) == 6 and all(cell.strip() for cell in row[2:5]), row
        named = re.findall(r'`([^`]+)`( \(slow\))?', row[4])
        assert named, row
        for place, slow in named:
            file, _, test = place.partition('::')
            tests = slowness(project_root / 'tests' / file)
            assert tests and test in ('', *tests), place
            assert not test or tests[test] == bool(slow), f'{place} is {"" if tests[test] else "not "}slow'
