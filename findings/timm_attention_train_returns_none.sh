#!/usr/bin/env bash
# timm 1.0.31: train() and eval() of attention modules that cache their position biases return None in five families
# (EfficientFormer, EfficientFormerV2, EfficientViT of MSRA, LeViT, TinyViT), though torch documents that they return the
# module. `block.attn.train().eval()` raises an AttributeError; the whole model isn't concerned.
# Expected: the module itself, as of every other module of these networks.
#
# Output seen:
#   efficientformer_l1 ['Attention']
#   efficientformerv2_s0 ['Attention2d', 'Attention2dDownsample']
#   efficientvit_m0 ['CascadedGroupAttention']
#   levit_128s ['Attention', 'AttentionDownsample']
#   tiny_vit_5m_224 ['Attention']
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check timm==1.0.31 torch==2.14.1 torchvision==0.29.1
"$folder/venv/bin/python" - <<'PYTHON'
import timm

EXPECTED = {
    'efficientformer_l1': ['Attention'],
    'efficientformerv2_s0': ['Attention2d', 'Attention2dDownsample'],
    'efficientvit_m0': ['CascadedGroupAttention'],
    'levit_128s': ['Attention', 'AttentionDownsample'],
    'tiny_vit_5m_224': ['Attention'],
}
for name, expected in EXPECTED.items():
    model = timm.create_model(name)
    assert model.eval() is model and model.train() is model
    found = sorted({type(module).__name__ for module in model.modules() if module.eval() is None})
    print(name, found)
    assert found == expected
PYTHON
