#!/usr/bin/env bash
# mypy 2.4.1: a variable of type `type[Frozen]`, where Frozen is a frozen dataclass, isn't taken by a function that
# functools.cache wraps: mypy compares the hash of the instances with that of the class. The literal class is taken.
# Expected: both are taken, since classes are hashable whatever their instances are. The program runs.
#
# Output seen:
#   cached.py:16: error: Argument 1 to "__call__" of "_lru_cache_wrapper" has incompatible type "type[Frozen]"; expected "Hashable"  [arg-type]
#   Frozen Frozen
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check mypy==2.4.1
cat > "$folder/cached.py" <<'PYTHON'
import functools
from dataclasses import dataclass


@dataclass(frozen=True)
class Frozen:
    number: int = 0


@functools.cache
def title(cls: type[Frozen]) -> str:
    return cls.__name__


def through_a_variable(cls: type[Frozen]) -> str:
    return title(cls)


print(title(Frozen), through_a_variable(Frozen))
PYTHON
cd "$folder"
venv/bin/mypy --config-file= cached.py | tee errors.txt || true
grep -q 'cached.py:16: error: Argument 1 to "__call__" of "_lru_cache_wrapper".*expected "Hashable"' errors.txt
test "$(grep -c ": error:" errors.txt)" = 1
test "$(venv/bin/python cached.py | tee /dev/stderr)" = 'Frozen Frozen'
