"""CSV tables of audiograms: a table is refused with the columns of audiograms."""

from collections.abc import Sequence
from pathlib import Path
from typing import Self

from vaesweep.data import tables
from vaesweep.data.tables import ROW_CHARACTERS, Row
from vaesweep.families.pvae.data.audiograms import COLUMNS, TABLE_BYTES

NAMES = ("listener", "id", "name", "seqn")  # columns that say who a row is of, the first that is there

__all__ = ["NAMES", "ROW_CHARACTERS", "Row", "Table"]


class Table(tables.Table):
    """A table of audiograms."""

    @classmethod
    def read(cls, path: Path, limit: int = TABLE_BYTES, needed: Sequence[str] = COLUMNS) -> Self:
        """The table in the file at `path`, of at most `limit` bytes."""
        return super().read(path, limit, needed)

    @classmethod
    def parse(cls, raw: bytes, where: str, needed: Sequence[str] = COLUMNS) -> Self:
        """The table in a file's content."""
        return super().parse(raw, where, needed)

    @property
    def title(self) -> str | None:
        """The column that says who a row is of, None where there is none; one that is there twice is refused."""
        self.refuse_duplicates(NAMES)
        return next((name for name in NAMES if name in self.header), None)
