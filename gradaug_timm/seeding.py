"""Seeds and generators derived from keys, so that no random state has to be saved."""
import hashlib
import random

import numpy as np
import torch


def seed_of(*key) -> int:
    """Return a 63-bit number that follows from the parts of the key, the same in all processes and versions."""
    digest = hashlib.blake2b('/'.join(map(str, key)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, 'big') >> 1


def generator(*key, device: torch.device | str = 'cpu') -> torch.Generator:
    """Return a new generator of torch whose draws follow from the parts of the key alone.

    Args:
        *key: What is drawn for, such as `seed, 'order', epoch`.
        device: Device on which it draws; other devices draw other numbers.
    """
    return torch.Generator(device).manual_seed(seed_of(*key))


def seed_cpu(seed: int) -> None:
    """Seed the generators of Python, NumPy and, on the CPU, torch."""
    random.seed(seed)
    np.random.seed(seed % 2 ** 32)
    torch.default_generator.manual_seed(seed)


def seed_all(seed: int) -> None:
    """Seed the generators of Python, NumPy and torch, on the CPU and on the devices in use."""
    seed_cpu(seed)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(seed)
    elif torch.backends.mps.is_available():
        torch.mps.manual_seed(seed)
