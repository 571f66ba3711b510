#!/usr/bin/env bash
# timm 1.0.31: a data set of a tar file, of which one image was read before data workers start, gives wrong images or
# errors in the workers. timm's reader keeps the tar file open, and workers that inherit the open file
# move its position for each other.
# Expected: the image that was asked for, as from a data set of which no image was read before.
#
# Output seen:
#   read before the workers start: False  wrong images or errors: none
#   read before the workers start: True  wrong images or errors: some
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check timm==1.0.31 torch==2.14.1 torchvision==0.29.1 \
    pillow==13.0.0
"$folder/venv/bin/python" - "$folder/train.tar" <<'PYTHON' 2>/dev/null
import io
import sys
import tarfile

from PIL import Image
from timm.data import ImageDataset
from torch.utils.data import DataLoader

IMAGES = 400
with tarfile.open(sys.argv[1], 'w') as tar:
    for number in range(IMAGES):
        file = io.BytesIO()
        Image.new('RGB', (64, 64), (number % 256, number // 256, 0)).save(file, 'bmp')
        info = tarfile.TarInfo(f'a/{number:04d}.png')  # timm reads the ending, Pillow the content
        info.size = len(file.getvalue())
        tar.addfile(info, io.BytesIO(file.getvalue()))

found = {}
for read_before in (False, True):
    dataset = ImageDataset(sys.argv[1], transform=lambda image: image.getpixel((9, 9)))
    if read_before:
        dataset[0]
    found[read_before] = 0
    for _ in range(20):
        batches = DataLoader(dataset, 8, num_workers=4, collate_fn=list)
        try:
            pixels = [pixel for batch in batches for pixel, _ in batch]
        except Exception:  # of tarfile or Pillow
            found[read_before] += 1
            continue
        found[read_before] += sum(pixel != (number % 256, number // 256, 0) for number, pixel in enumerate(pixels))
    result = 'some' if found[read_before] else 'none'
    print(f'read before the workers start: {read_before}  wrong images or errors: {result}')
assert found[True] and not found[False]
PYTHON
