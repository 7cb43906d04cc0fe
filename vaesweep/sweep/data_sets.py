"""The data sets of a sweep: one that all cells share, or one for each way in which their settings read `--data`."""

from collections.abc import Hashable, Mapping, Sequence
from functools import cached_property

from vaesweep.data.domains import DataSet
from vaesweep.errors import UserError
from vaesweep.family import CellConfig, Family
from vaesweep.sweep.identity import digest

MOST_NAMED = 100  # fingerprints in a tag


class DataSets(Sequence[DataSet]):
    """What `spec` names, read once for each of the data settings that `configs` have, in their order.

    Settings that make several are refused with a `UserError` where the family's reports are of one data set.
    """

    def __init__(self, owner: Family, spec: str, configs: Sequence[CellConfig]) -> None:
        first_of: dict[Hashable, CellConfig] = {}
        for config in configs:
            first_of.setdefault(owner.loading(config), config)
        if len(first_of) > 1 and not owner.data_axes:
            raise UserError(
                f"the cells of a sweep of {owner.name} share one data set: settings that change what is loaded cannot "
                "be axes"
            )
        self._owner = owner
        self._sets: list[DataSet] = []
        self._domains: list[dict[str, str]] = []
        self._numbers: dict[Hashable, int] = {}
        for loading, config in first_of.items():
            read = owner.load(spec, config)
            if (domains := read.fingerprints()) not in self._domains:  # else other settings read the same
                self._sets.append(read)
                self._domains.append(domains)
            self._numbers[loading] = self._domains.index(domains)
        names = [[(domain.name, domain.role) for domain in one.domains] for one in self._sets]
        if any(other != names[0] for other in names):
            raise UserError("the data sets of a sweep have different domains; give every cell the same ones")

    def __len__(self) -> int:
        return len(self._sets)

    def __getitem__(self, number: int) -> DataSet:  # type: ignore[override]  # no slices
        return self._sets[number]

    def covers(self, configs: Sequence[CellConfig]) -> bool:
        """Whether the data sets of all `configs` have been read."""
        return all(self._owner.loading(config) in self._numbers for config in configs)

    def number(self, config: CellConfig) -> int:
        """The index of the data set that a cell of `config` trains on."""
        return self._numbers[self._owner.loading(config)]

    def of(self, config: CellConfig) -> DataSet:
        """The data set that a cell of `config` trains on."""
        return self._sets[self.number(config)]

    def domains(self, config: CellConfig) -> Mapping[str, str]:
        """The fingerprint of every domain that a cell of `config` is evaluated on."""
        return self._domains[self.number(config)]

    @cached_property
    def _fingerprints(self) -> list[str]:
        return [one.fingerprint() for one in self._sets]

    def fingerprint(self, config: CellConfig) -> str:
        """The fingerprint of what a cell of `config` trains on."""
        return self._fingerprints[self.number(config)]

    @property
    def all_fingerprints(self) -> str:
        """The fingerprint of what is trained on; of several, each once, joined by spaces, or a digest of very many."""
        each = list(dict.fromkeys(self._fingerprints))
        return " ".join(each) if len(each) <= MOST_NAMED else digest(each)

    @property
    def summary(self) -> tuple[str, ...]:
        """Lines for people: the summary of the first, and the number of those like it."""
        more = len(self) - 1
        kinds = "data set" if more == 1 else "data sets"
        others = (f"and {more} more {kinds} like this, by the cells' data settings",) if more else ()
        return (*self._sets[0].summary, *others)
