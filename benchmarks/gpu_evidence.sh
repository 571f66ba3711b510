#!/usr/bin/env bash
# Compares plain training, CutMix and the preset `fast` at equal time on all of CIFAR-100, on one GPU: WideResNet-16-4,
# 32 px, bfloat16, augmentation on the GPU, compiled. The tables are in OUTPUT/comparison.*.
#
#   benchmarks/gpu_evidence.sh DATA OUTPUT [FLAGS of gradaug-compare ...]
#
# DATA is the folder of cifar-100-python. The call ends after LIMIT seconds (default: 530); repeat it with the same
# OUTPUT to resume. TIME is the time for training (default: 7m), without measuring and compiling. It has not been run on
# a GPU yet, so that we do not know whether compiling leaves enough time. SPEED are the flags that suit the device. Later flags win, so that `SPEED= benchmarks/gpu_evidence.sh DATA OUTPUT --device cpu --epochs 1 --seeds 1
# --labels-per-class 2 --model-kwargs depth=10 widen_factor=1 --batch-size 50` tries it on a CPU.
set -euo pipefail
if [ $# -lt 2 ]; then
    echo "usage: $0 DATA OUTPUT [FLAGS ...]" >&2
    exit 2
fi
data=$1 output=$2
shift 2
speed=${SPEED---amp --amp-dtype bfloat16 --channels-last --torchcompile inductor --workers 4}
cd "$(dirname "$0")/.."
# $speed is split into words on purpose.
exec timeout "${LIMIT:-530}" python -m gradaug_timm.compare hparams/cifar100/wide_resnet28_10_baseline.yaml \
    --methods baseline cutmix fast fast+cutmix --compute 1 --seeds 3 --time "${TIME:-7m}" \
    --model-kwargs depth=16 widen_factor=4 zero_init_last=False \
    --epochs 20 --batch-size 512 --lr 0.4 --warmup-epochs 2 --val-interval 1000 \
    --device-augment $speed \
    --data-dir "$data" --output "$output" "$@"
