"""docs/reliability.md names tests that exist."""
import ast
import re


def test_every_fault_has_a_test_that_is_there(project_root):
    table = (project_root / 'docs' / 'reliability.md').read_text()
    rows = [line.split('|') for line in table.splitlines() if re.match(r'\| \d+ \|', line)]
    assert len(rows) == len(re.findall(r'^\| *\d', table, re.MULTILINE)) > 0
    assert [int(row[1]) for row in rows] == list(range(1, len(rows) + 1))
    for row in rows:
        assert len(row) == 6 and all(cell.strip() for cell in row[2:5]), row
        named = re.findall(r'`([^`]+)`', row[4])
        assert named, row
        for place in named:
            file, _, test = place.partition('::')
            functions = {node.name: ast.unparse(node.decorator_list) for node in ast.walk(
                ast.parse((project_root / 'tests' / file).read_text())) if isinstance(node, ast.FunctionDef)}
            assert test in ('', *functions), place
            if test:
                slow = 'mark.slow' in functions[test]
                assert (f'`{place}` (slow)' in row[4]) == slow, f'{place} is {"" if slow else "not "}slow'
