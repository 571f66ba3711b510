#!/usr/bin/env bash
# torch 2.14.1 with timm 1.0.31: FlopCounterMode counts no attention on the CPU, because it has no formula for the kernel
# that scaled_dot_product_attention takes there. A ViT-Ti/16 has 1.07 billion multiply-adds by it instead of 1.25. With a
# mask that is learned another kernel runs, which is counted, so the same attention has a cost or none by its mask.
# Expected: the same count for all kernels, devices and modes.
#
# Output seen:
#   ViT-Ti/16: 1074851328 multiply-adds, 1253683200 by the kernel of plain products
#   attention: 524288 with a learned mask, 0 with a constant one
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check timm==1.0.31 torch==2.14.1 torchvision==0.29.1
"$folder/venv/bin/python" - <<'PYTHON'
import timm
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention
from torch.utils.flop_counter import FlopCounterMode


def multiply_adds(function, *inputs):
    with FlopCounterMode(display=False) as counter:
        function(*inputs)
    return counter.get_total_flops() // 2


network = timm.create_model('vit_tiny_patch16_224').eval()
image = torch.zeros(1, 3, 224, 224)
found = multiply_adds(network, image)
with sdpa_kernel(SDPBackend.MATH):
    plain = multiply_adds(network, image)
print(f'ViT-Ti/16: {found} multiply-adds, {plain} by the kernel of plain products')
tokens, mask = torch.randn(1, 2, 64, 32), torch.zeros(64, 64)
constant = multiply_adds(scaled_dot_product_attention, tokens, tokens, tokens, mask)
learned = multiply_adds(scaled_dot_product_attention, tokens, tokens, tokens, mask.requires_grad_())
print(f'attention: {learned} with a learned mask, {constant} with a constant one')
assert (found, plain, learned, constant) == (1074851328, 1253683200, 524288, 0)
PYTHON
