"""Random states that follow from what is drawn for, so that none has to be kept."""
import hashlib
import random

import numpy as np
import torch


def seed_of(*key) -> int:
    """A number of 63 bits that follows from the parts of the key, in all processes and versions."""
    digest = hashlib.blake2b('/'.join(map(str, key)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, 'big') >> 1


def seed_cpu(seed: int) -> None:
    """Seeds the generators of Python, NumPy and, on the CPU, torch."""
    random.seed(seed)
    np.random.seed(seed % 2 ** 32)
    torch.default_generator.manual_seed(seed)


def seed_all(seed: int) -> None:
    """Seeds the generators of Python, NumPy and torch, on the CPU and on the devices that are in use."""
    seed_cpu(seed)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(seed)
    elif torch.backends.mps.is_available():
        torch.mps.manual_seed(seed)
