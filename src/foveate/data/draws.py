"""Random numbers that belong to a sample: a function of (seed, step, sample) and of what they are for, and of nothing else.

They do not depend on batch size, order, device or process, and a run that is resumed draws what the run that nobody stopped draws.
"""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def uniform(seed: int, step: int, index: NDArray[np.int64], stream: str, count: int) -> NDArray[np.float64]:
    """``count`` numbers in [0, 1) for each sample.

    The generator is SplitMix64 (Steele, Lea and Flood 2014), started for each sample at a hash of what the numbers are for.

    Args:
        seed: of the run.
        step: of the run.
        index: int64 ``[N]`` numbers of the samples.
        stream: what for; other names, other numbers.
        count: how many.

    Returns:
        float64 ``[N, count]``, multiples of 2 ** -53.
    """
    digest = hashlib.blake2b(f"{seed}:{step}:{stream}".encode(), digest_size=8).digest()
    start = _mixed(np.uint64(int.from_bytes(digest, "big")) ^ _mixed(index.astype(np.uint64) * _GOLDEN))
    bits = _mixed(start[:, None] + _GOLDEN * np.arange(1, count + 1, dtype=np.uint64))
    return (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _mixed(bits: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """SplitMix64's finaliser."""
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return bits ^ (bits >> np.uint64(31))
