"""Fixtures of all tests: one thread, the shared data if they exist, and a small image folder."""
import gc
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
SHARED_DATA = ROOT.parent / 'shared' / 'data'

# For sub-processes: networks in tests are too small for several threads; threads that spin slow down other processes.
os.environ.setdefault('OMP_NUM_THREADS', '1')
os.environ.setdefault('OMP_WAIT_POLICY', 'PASSIVE')
torch.set_num_threads(1)


def pytest_collection_finish():
    """Leave what was imported out of later garbage collections."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope='session', autouse=True)
def plan_cache(tmp_path_factory):
    """Plans are cached in a folder of this run, never in the user's; sub-processes use it too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('GRADAUG_CACHE_DIR', str(tmp_path_factory.mktemp('cache')))
        yield


@pytest.fixture(scope='session')
def project_root() -> Path:
    return ROOT


@pytest.fixture(scope='session')
def shared_data() -> Path:
    """The folder of the shared data; tests that need it are skipped where it is absent."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f'no shared data at {SHARED_DATA}')
    return SHARED_DATA


@pytest.fixture(scope='session')
def image_folder(tmp_path_factory) -> Path:
    """A small image folder, train/ and validation/ with two classes: dark images and bright ones, 32 px."""
    root = tmp_path_factory.mktemp('images')
    generator = np.random.default_rng(0)
    for split, count in (('train', 12), ('validation', 5)):
        for name, low in (('bright', 140), ('dark', 0)):
            folder = root / split / name
            folder.mkdir(parents=True)
            for index in range(count):
                pixels = generator.integers(low, low + 115, (32, 32, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f'{index}.png')
    return root
