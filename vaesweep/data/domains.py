"""Named domains: the training population's three partitions and any number of unseen populations.

Every trained cell is evaluated on every domain, and a generalisation gap is a difference between two domains of the
same cell (design, contract 6). Arrays are in physical units (dB HL and years, Hz and seconds); where values are
standardised, that is fitted on the training domain only and travels with the data.
"""

import hashlib
import json
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np

from vaesweep.errors import UserError
from vaesweep.packing import Frozen, additions


class Role(StrEnum):
    """The purpose of a domain. Exactly one domain each has the first three roles; any number are unseen."""

    TRAIN = "train"
    VALID = "valid"
    TEST = "test"
    UNSEEN = "unseen"


@dataclass(frozen=True)
class Domain:
    """One population or partition: `arrays` share their first axis, the datum.

    `name` is what MLflow and the tables show, e.g. `nhanes.train` or `nhanes_2017_2020`. `condition` configures how
    the arrays become data, where they are not the data themselves. `source` is where they are, such as files: another
    place makes no other data, so it is not part of a fingerprint.
    """

    name: str
    role: Role
    arrays: Mapping[str, np.ndarray]
    condition: Frozen | None = None
    source: object = field(default=None, compare=False)

    def __len__(self) -> int:
        return len(next(iter(self.arrays.values())))


@dataclass(frozen=True)
class Standardisation:
    """Mean and standard deviation of each dimension over the training domain, in physical units: `[dim]`."""

    mean: np.ndarray
    std: np.ndarray

    @classmethod
    def fit(cls, x: np.ndarray) -> "Standardisation":
        """Fit to `x` `[datum, dim]`; a constant dimension is refused, since nothing can be learnt from it."""
        std = x.std(axis=0, dtype=np.float64)
        if (std == 0).any():
            raise UserError(
                f"dimension {int(np.argmin(std))} of the training data is constant over all {len(x)} rows: it cannot "
                "be standardised; use data in which every dimension varies"
            )
        return cls(x.mean(axis=0, dtype=np.float64), std)

    @classmethod
    def none(cls) -> "Standardisation":
        """The empty standardisation, of data of which no dimension is standardised."""
        return cls(np.empty(0), np.empty(0))


@dataclass(frozen=True)
class DataSet:
    """All domains of one experiment, with what is needed to read them.

    `columns` names the dimensions; `summary` is for users (one line each: rows kept, rows dropped and why).
    """

    domains: tuple[Domain, ...]
    columns: tuple[str, ...]
    standardisation: Standardisation = field(default_factory=Standardisation.none)
    summary: tuple[str, ...] = field(default=())

    def __post_init__(self) -> None:
        names = [domain.name for domain in self.domains]
        if len(set(names)) != len(names):
            raise UserError(f"two domains share a name: {', '.join(sorted(names))}; rename the file or folder of one")

    def domain(self, role: Role) -> Domain:
        """The one domain with `role`, which may not be `UNSEEN`."""
        (domain,) = [d for d in self.domains if d.role is role]
        return domain

    def fingerprint(self) -> str:
        """Sixteen hex digits that change with a value, name, role or condition of what is trained on: train and valid.

        The other domains say nothing about training (`fingerprints`).
        """
        return _fingerprint(self.columns, [self.domain(Role.TRAIN), self.domain(Role.VALID)])

    def fingerprints(self) -> dict[str, str]:
        """Sixteen hex digits of every domain, by its name."""
        return {domain.name: _fingerprint(self.columns, [domain]) for domain in self.domains}

    def fingerprints_of_0_1(self) -> Iterator[str]:
        """Fingerprints as of release 0.1, over all domains: with all that are unseen, and less the last of them."""
        known = [domain for domain in self.domains if domain.role is not Role.UNSEEN]
        unseen = [domain for domain in self.domains if domain.role is Role.UNSEEN]
        for count in range(len(unseen), -1, -1):
            kept = {domain.name for domain in [*known, *unseen[:count]]}
            yield _fingerprint(self.columns, [domain for domain in self.domains if domain.name in kept])


def _fingerprint(columns: Sequence[str], domains: Sequence[Domain]) -> str:
    digest = hashlib.sha256(json.dumps([columns, *((d.name, d.role) for d in domains)]).encode())
    for domain in domains:
        if domain.condition is not None:
            digest.update(domain.condition.model_dump_json(exclude=additions(domain.condition)).encode())
        for name, array in sorted(domain.arrays.items()):
            digest.update(f"{name}{array.dtype}{array.shape}".encode())
            digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)  # no copy of large ones
    return digest.hexdigest()[:16]


def partition(rows: int, seed: int, shares: tuple[float, float, float] = (0.8, 0.1, 0.1)) -> dict[Role, np.ndarray]:
    """Split `rows` row numbers into train, valid and test, at random by `seed` and so always the same way.

    Returns sorted row numbers by role. Each part gets at least one row; fewer than 10 rows are refused.
    """
    if rows < 10:
        raise UserError(f"{rows} rows cannot be split into train, valid and test; at least 10 are needed")
    order = np.random.default_rng(np.random.SeedSequence((seed, rows))).permutation(rows)
    valid, test = (max(1, round(share * rows)) for share in shares[1:])
    train = rows - valid - test
    parts = np.split(order, [train, train + valid])
    return {role: np.sort(part) for role, part in zip((Role.TRAIN, Role.VALID, Role.TEST), parts, strict=True)}


def partition_by(groups: Sequence[Hashable], seed: int) -> dict[Role, np.ndarray]:
    """Split rows as `partition` does, with all rows of one of the `groups` `[row]`, such as people, in one part.

    Where no group has two rows, the parts are those of `partition`. Fewer than 10 groups are refused.
    """
    numbers = {group: number for number, group in enumerate(dict.fromkeys(groups))}
    number_of = np.fromiter((numbers[group] for group in groups), np.int64, len(groups))
    try:
        parts = partition(len(numbers), seed)
    except UserError:
        raise UserError(
            f"rows of {len(numbers)} people cannot be split into train, valid and test; at least 10 are needed"
        ) from None
    return {role: np.flatnonzero(np.isin(number_of, part)) for role, part in parts.items()}
