#!/usr/bin/env bash
# Compares plain training, CutMix and the preset `fast` at equal time on all of CIFAR-100, on one GPU, within 9 minutes:
# WideResNet-16-4, 32 px, bfloat16, augmentation on the GPU, compiled. The tables are in OUTPUT/comparison.*.
#
#   benchmarks/gpu_evidence.sh DATA OUTPUT [FLAGS of gradaug-compare ...]
#
# DATA is the folder of cifar-100-python. A call that was cut off goes on when it is repeated with the same OUTPUT.
# TIME is the time for training (default: 7m); the rest is for measuring and compiling. Later flags win, such as
# `--epochs 1 --seeds 1 --device cpu --no-torchcompile`.
set -euo pipefail
if [ $# -lt 2 ]; then
    echo "usage: $0 DATA OUTPUT [FLAGS ...]" >&2
    exit 2
fi
data=$1 output=$2
shift 2
cd "$(dirname "$0")/.."
exec python -m gradaug_timm.compare hparams/cifar100/wide_resnet28_10_baseline.yaml \
    --methods baseline cutmix fast fast+cutmix --compute 1 --seeds 3 --time "${TIME:-7m}" \
    --model-kwargs depth=16 widen_factor=4 zero_init_last=False \
    --epochs 20 --batch-size 512 --lr 0.4 --warmup-epochs 2 --val-interval 1000 \
    --amp --amp-dtype bfloat16 --channels-last --device-augment --torchcompile inductor --workers 4 \
    --data-dir "$data" --output "$output" "$@"
