"""SplitMix64 in Python's own integers, for tests to compare with."""

WORD = 2**64 - 1


def splitmix_in_python(seed: int, counter: int) -> int:
    """The generator's output as its authors write it, in integers without bounds."""
    z = (seed + (counter + 1) * 0x9E3779B97F4A7C15) & WORD
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & WORD
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & WORD
    return z ^ (z >> 31)
