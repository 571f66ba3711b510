#!/usr/bin/env bash
# timm 1.0.31, webdataset 1.0.2: the reader of web data sets takes `input_key`, the endings of the images, but finds no
# image of an ending other than jpg unless the key also lists jpg: it stores each decoded image as `jpg` and then looks
# for the ending that was asked for.
# Expected: `input_key='jpeg'` reads the images that end in jpeg.
#
# Output seen:
#   jpeg ValueError("didn't find ['jpeg'] in ['jpg', 'target', 'json', '__key__']")
#   jpeg;jpg [1]
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check timm==1.0.31 torch==2.14.1 torchvision==0.29.1 \
    webdataset==1.0.2
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import io
import tarfile

from PIL import Image
from timm.data.readers import create_reader

file = io.BytesIO()
Image.new('RGB', (8, 8)).save(file, 'jpeg')
with tarfile.open('0.tar', 'w') as tar:
    for name, content in (('a.jpeg', file.getvalue()), ('a.cls', b'1')):
        info = tarfile.TarInfo(name)
        info.size = len(content)
        tar.addfile(info, io.BytesIO(content))
found = {}
for key in ('jpeg', 'jpeg;jpg'):
    try:
        found[key] = [label for _, label in create_reader('wds/any', '.', '0.tar|1', input_key=key)]
    except ValueError as error:
        found[key] = error
    print(key, repr(found[key]))
assert isinstance(found['jpeg'], ValueError) and found['jpeg;jpg'] == [1]
PYTHON
