"""SplitMix64 (Steele, Lea, Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014).

The one source of reproducible bytes here: the golden vectors name a seed where they would hold a
payload, and ``doorbell send --source random:SEED`` fills its heaps from the same generator.
"""

from __future__ import annotations

import numpy as np

Seed = int


def splitmix_bytes(state: Seed, size: int) -> bytes:
    """The first `size` bytes of the little-endian outputs of a generator that starts at `state`."""
    count = np.arange(1, -(-size // 8) + 1, dtype=np.uint64)
    z = np.uint64(state & MASK) + count * GOLDEN_GAMMA
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z ^= z >> np.uint64(31)
    return z.astype("<u8").tobytes()[:size]


def heap_payload(seed: Seed, index: int, size: int) -> bytes:
    """The payload of data heap `index` (from 0) of ``--source random:SEED``.

    Each heap owns a stretch of 2**32 outputs of the one sequence, so heaps can be made in any order.
    """
    return splitmix_bytes(seed + (index << 32) * int(GOLDEN_GAMMA), size)


class SplitMix64:
    """The same generator, one number at a time."""

    def __init__(self, state: Seed) -> None:
        self._state = state & MASK

    def next(self) -> int:
        """The next output, 64 bits."""
        output = splitmix_bytes(self._state, 8)
        self._state = (self._state + int(GOLDEN_GAMMA)) & MASK
        return int.from_bytes(output, "little")

    def below(self, bound: int) -> int:
        """A number from 0 up to, not including, `bound`."""
        return self.next() % bound

    def between(self, low: int, high: int) -> int:
        """A number from `low` to `high`, both included."""
        return low + self.below(high - low + 1)

    def choice(self, options):
        """One of `options`."""
        return options[self.below(len(options))]

    def chance(self, percent: int) -> bool:
        """True `percent` times in a hundred."""
        return self.below(100) < percent


MASK = (1 << 64) - 1
GOLDEN_GAMMA = np.uint64(0x9E3779B97F4A7C15)
