"""The three tables of a sweep, cells.csv, curve.csv and gap.csv, which are made once for all that is drawn of it."""

from dataclasses import dataclass

import pandas as pd

from vaesweep.analysis.curves import rd_curve
from vaesweep.analysis.gaps import gap_table
from vaesweep.analysis.runs import Runs
from vaesweep.analysis.table import cells_table, other_axes


@dataclass(frozen=True)
class Tables:
    """The cells of a sweep, the curve of each domain and the gaps; `axes` are those but the target and the seed."""

    cells: pd.DataFrame
    curve: pd.DataFrame
    gaps: pd.DataFrame
    axes: list[str]


def make_tables(runs: Runs, window: int | None = None, cells: pd.DataFrame | None = None) -> Tables:
    """The tables of `runs`; `window` is `rd_curve`'s, `cells` are as of `cells_table` where they have been read."""
    cells, axes = cells_table(runs) if cells is None else cells, other_axes(runs)
    return Tables(cells, rd_curve(cells, window), gap_table(cells, axes), axes)
