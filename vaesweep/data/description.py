"""What a driver keeps of a data set: names, roles, counts and fingerprints, and no arrays."""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from vaesweep.data.domains import DataSet, Role


@dataclass(frozen=True)
class DomainDescription:
    """The name, role and number of rows of a domain."""

    name: str
    role: Role
    rows: int

    def __len__(self) -> int:
        return self.rows


@dataclass(frozen=True)
class Description:
    """A data set without its data. `nbytes` are those of all arrays, `older` the fingerprints as of release 0.1."""

    domains: tuple[DomainDescription, ...]
    summary: tuple[str, ...]
    fingerprint: str
    fingerprints: dict[str, str]
    older: tuple[str, ...]
    nbytes: int

    @classmethod
    def of(cls, data: DataSet) -> "Description":
        """The description of `data`."""
        return cls(
            domains=tuple(DomainDescription(domain.name, domain.role, len(domain)) for domain in data.domains),
            summary=tuple(data.summary),
            fingerprint=data.fingerprint(),
            fingerprints=data.fingerprints(),
            older=tuple(data.fingerprints_of_0_1()),
            nbytes=sum(array.nbytes for domain in data.domains for array in domain.arrays.values()),
        )

    def fingerprints_of_0_1(self) -> Iterator[str]:
        """As of `DataSet.fingerprints_of_0_1`."""
        return iter(self.older)

    def to_json(self) -> str:
        """The description as JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Description":
        """A description from its JSON."""
        values: dict[str, Any] = json.loads(text)
        domains = (DomainDescription(d["name"], Role(d["role"]), d["rows"]) for d in values.pop("domains"))
        values |= {name: tuple(values[name]) for name in ("summary", "older")}
        return cls(domains=tuple(domains), **values)
