#!/usr/bin/env bash
# torchvision 0.29.1 with torch 2.14.1: `import torchvision` imports torch's compiler (torch._dynamo, 95 modules),
# which `import torch` leaves out until something is compiled. So programs that never compile, and timm, which imports
# torchvision, start with it: it was a third of the CPU time in which torch, torchvision and timm are imported.
# Expected: the compiler is imported when it is first used, as with torch alone.
#
# Output seen:
#   after torch: 0 modules of the compiler
#   after torchvision: more than 50
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check torch==2.14.1 torchvision==0.29.1 numpy
"$folder/venv/bin/python" - <<'PYTHON'
import sys


def compiler():
    return sum(name.partition('.')[2].startswith('_dynamo') for name in sys.modules if name.startswith('torch.'))


import torch

found = compiler()
print(f'after torch: {found} modules of the compiler')
assert found == 0
import torchvision

found = compiler()
print(f'after torchvision: {"more than 50" if found > 50 else found}')
assert found > 50
PYTHON
