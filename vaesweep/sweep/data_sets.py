"""The data sets of a sweep: one that all cells share, or one for each way in which their settings read `--data`.

All but their arrays stays with the driver. The arrays it has where it reads them (`--data-by driver` and `auto`), until
workers have them; where it needs some once more, as for a report's examples, they are read again.
"""

from collections.abc import Hashable, Mapping, Sequence

from vaesweep.data.description import Description
from vaesweep.data.domains import DataSet
from vaesweep.errors import UserError
from vaesweep.family import CellConfig, Family
from vaesweep.sweep.data_reading import DataReading, check_unchanged, describe
from vaesweep.sweep.identity import digest
from vaesweep.sweep.options import DataBy
from vaesweep.uris import masked

MOST_NAMED = 100  # fingerprints in a tag


class DataSets(Sequence[DataSet]):
    """What `spec` names, read once for each of the data settings that `configs` have, in their order.

    Settings that make several are refused with a `UserError` where the family's reports are of one data set. By
    `workers` this process reads none of it: another describes it.
    """

    def __init__(self, owner: Family, spec: str, configs: Sequence[CellConfig], by: DataBy = "auto") -> None:
        first_of: dict[Hashable, CellConfig] = {}
        for config in configs:
            first_of.setdefault(owner.loading(config), config)
        if len(first_of) > 1 and not owner.data_axes:
            raise UserError(
                f"the cells of a sweep of {owner.name} share one data set: settings that change what is loaded cannot "
                "be axes"
            )
        self._owner, self._spec = owner, spec
        self._sets: list[DataSet | None] = []
        self._configs: list[CellConfig] = []  # of each data set, one that reads it
        self.descriptions: list[Description] = []
        self._numbers: dict[Hashable, int] = {}
        described = describe(owner.name, spec, list(first_of.values())) if by == "workers" else []
        for place, (loading, config) in enumerate(first_of.items()):
            read = None if described else owner.load(spec, config)
            self._numbers[loading] = self._added(read, Description.of(read) if read else described[place], config)
        names = [[(domain.name, domain.role) for domain in one.domains] for one in self.descriptions]
        if any(other != names[0] for other in names):
            raise UserError("the data sets of a sweep have different domains; give every cell the same ones")

    def _added(self, read: DataSet | None, description: Description, config: CellConfig) -> int:
        """The index of a data set among those known, to which it is added unless other settings have read the same."""
        for number, other in enumerate(self.descriptions):
            if other.fingerprints == description.fingerprints:
                return number
        self._sets.append(read)
        self._configs.append(config)
        self.descriptions.append(description)
        return len(self._sets) - 1

    def __len__(self) -> int:
        return len(self._sets)

    def __getitem__(self, number: int) -> DataSet:  # type: ignore[override]  # no slices
        held = self._sets[number]
        if held is not None:
            return held
        read = self._owner.load(self._spec, self._configs[number])
        check_unchanged(read, self.descriptions[number].fingerprints, f"--data {masked(self._spec)}")
        return read

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays of all data sets."""
        return sum(one.nbytes for one in self.descriptions)

    def let_go(self) -> None:
        """Hold the arrays no longer; they are read again where they are asked for."""
        self._sets = [None] * len(self._sets)

    def reading(self, number: int) -> DataReading:
        """A data set as a worker reads it."""
        domains = tuple(self.descriptions[number].fingerprints.items())
        return DataReading(self._owner.name, self._spec, self._configs[number].model_dump_json(), domains)

    def covers(self, configs: Sequence[CellConfig]) -> bool:
        """Whether the data sets of all `configs` have been read."""
        return all(self._owner.loading(config) in self._numbers for config in configs)

    def number(self, config: CellConfig) -> int:
        """The index of the data set that a cell of `config` trains on."""
        return self._numbers[self._owner.loading(config)]

    def of(self, config: CellConfig) -> DataSet:
        """The data set that a cell of `config` trains on."""
        return self[self.number(config)]

    def description(self, config: CellConfig) -> Description:
        """What is known of the data set that a cell of `config` trains on."""
        return self.descriptions[self.number(config)]

    def domains(self, config: CellConfig) -> Mapping[str, str]:
        """The fingerprint of every domain that a cell of `config` is evaluated on."""
        return self.description(config).fingerprints

    def fingerprint(self, config: CellConfig) -> str:
        """The fingerprint of what a cell of `config` trains on."""
        return self.description(config).fingerprint

    @property
    def all_fingerprints(self) -> str:
        """The fingerprint of what is trained on; of several, each once, joined by spaces, or a digest of very many."""
        each = list(dict.fromkeys(one.fingerprint for one in self.descriptions))
        return " ".join(each) if len(each) <= MOST_NAMED else digest(each)

    @property
    def summary(self) -> tuple[str, ...]:
        """Lines for people: the summary of the first, and the number of those like it."""
        more = len(self) - 1
        kinds = "data set" if more == 1 else "data sets"
        others = (f"and {more} more {kinds} like this, by the cells' data settings",) if more else ()
        return (*self.descriptions[0].summary, *others)
