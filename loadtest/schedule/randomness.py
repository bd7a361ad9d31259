"""One seed, an independent stream of random numbers for each purpose: what one thing draws moves nothing else."""

from enum import IntEnum

import numpy as np


class Purpose(IntEnum):
    """What is drawn. The numbers are part of every plan: one that changes makes another load of the same seed."""

    ARRIVALS = 0
    PROMPTS = 1
    LENGTHS = 2
    OUTPUT = 3
    DISCONNECTS = 4
    SAMPLING = 5
    THINK = 6
    WORDS = 7


def stream_of(seed: int, purpose: Purpose, *key: int) -> np.random.Generator:
    """The stream for ``purpose``; ``key`` tells users or requests apart, each of which then has one of its own.

    PCG64 seeded as `numpy.random.SeedSequence.spawn` seeds children. Distributions that numpy makes of the bits may
    change with its version, which a test on a drawn plan would show.
    """
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(int(purpose), *key))))


__all__ = ["Purpose", "stream_of"]
