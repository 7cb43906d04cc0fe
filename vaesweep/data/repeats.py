"""Rows that are in two domains: counted, since what was trained on is no test of anything."""

import hashlib
from collections.abc import Sequence

import numpy as np

from vaesweep.data.domains import Domain


def repeats(domains: Sequence[Domain], array: str) -> tuple[str, ...]:
    """A line for each domain some of whose rows of `array` `[row, …]` are equal to rows of domains before it."""
    lines, before = [], dict[str, np.ndarray]()
    for domain in domains:
        rows = _digests(domain.arrays[array])
        shared = {name: int(np.isin(rows, other).sum()) for name, other in before.items()}
        if counts := [f"{count} to rows of {name}" for name, count in shared.items() if count]:
            lines.append(f"{domain.name}: of {len(rows)} rows some are equal to others: {', '.join(counts)}")
        before[domain.name] = rows
    return tuple(lines)


def _digests(rows: np.ndarray) -> np.ndarray:
    """A number `[row]`, uint64, that is the same for equal rows, whatever the sign of their zeros."""
    whole = np.ascontiguousarray(rows).reshape(len(rows), -1)
    values = (hashlib.blake2b((row + 0 if row.dtype.kind == "f" else row).tobytes(), digest_size=8) for row in whole)
    return np.fromiter((int.from_bytes(value.digest()) for value in values), np.uint64, len(whole))
