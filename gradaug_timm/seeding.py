"""Seeds and generators that are derived from keys, so that no random state has to be saved."""
import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


def seed_of(*key) -> int:
    """Return a 63-bit seed for a key; it is the same in all processes and versions."""
    digest = hashlib.blake2b('/'.join(map(str, key)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, 'big') >> 1


def generator(*key, device: torch.device | str = 'cpu') -> torch.Generator:
    """Return a new torch generator whose draws depend on the key alone.

    Args:
        *key: What the draws are for, such as `seed, 'order', epoch`.
        device: Device of the generator; the same key gives different numbers on different devices.
    """
    return torch.Generator(device).manual_seed(seed_of(*key))


def seeded(seed: int) -> torch.Generator:
    """Return a new torch generator on the CPU with exactly this seed, for draws that must never change."""
    return torch.Generator().manual_seed(seed)


def random_of(*key) -> random.Random:
    """Return a new generator of Python whose draws depend on the key alone."""
    return random.Random('/'.join(map(str, key)))


def seed_cpu(seed: int) -> None:
    """Seed the generators of Python, NumPy and, on the CPU, torch."""
    random.seed(seed)
    np.random.seed(seed % 2 ** 32)
    torch.default_generator.manual_seed(seed)


@contextmanager
def kept_state() -> Iterator[None]:
    """Return a context after which the generators of Python, NumPy and, on the CPU, torch are as before."""
    states = random.getstate(), np.random.get_state(), torch.random.get_rng_state()
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.random.set_rng_state(states[2])


def seed_all(seed: int) -> None:
    """Seed the generators of Python, NumPy and torch, on the CPU and on the devices in use."""
    seed_cpu(seed)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(seed)
    elif torch.backends.mps.is_available():
        torch.mps.manual_seed(seed)
