"""The finished hierarchies of a sweep, grouped, and the depth configuration of each group (thesis study C).

A group has the cells of one line of a figure, which differ in their seed only.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd
from pydantic import TypeAdapter, ValidationError

from vaesweep.analysis.groups import POINT, REGIME, grouped_table
from vaesweep.analysis.runs import Runs, client_of
from vaesweep.data.domains import Role
from vaesweep.families.hvae.models.config import ContinuousDepth, Depth

GROUP = "group"
JUDGED = (Role.TEST, Role.UNSEEN)
NAMES = {"continuous": "continuous", "ode_like": "ODE-like", "discrete": "discrete"}
DEPTH = "model.depth."  # of the parameters of a cell's run


@dataclass(frozen=True)
class Hierarchies:
    """Cells on every domain, rows of `grouped_table` with a `group`; and every group's depth configuration."""

    points: pd.DataFrame
    depths: Mapping[str, Depth]

    @classmethod
    def of(cls, runs: Runs, depths: Mapping[str, Depth]) -> "Hierarchies":
        """The hierarchies of a sweep that `depths` has the configuration of, by cell."""
        points = grouped_table(runs)
        points = points[points["cell"].isin(list(depths))]
        labels = [
            ", ".join(label for label in (row[REGIME], row[POINT]) if label) or NAMES[depths[row["cell"]].kind]
            for _, row in points.iterrows()
        ]
        points = points.assign(**{GROUP: labels})
        cells = points.drop_duplicates(GROUP).set_index(GROUP)["cell"]
        return cls(points, {str(group): depths[cell] for group, cell in cells.items()})

    @property
    def judged(self) -> pd.DataFrame:
        """The rows on the test domain and the unseen ones."""
        return self.points[self.points["role"].isin(JUDGED)]

    def of_kind(self, kind: str) -> list[str]:
        """The groups of one kind of level."""
        return [group for group, depth in self.depths.items() if depth.kind == kind]

    def steps(self, group: str) -> int | None:
        """Steps a level in training; None where levels have none."""
        depth = self.depths[group]
        return depth.layers if isinstance(depth, ContinuousDepth) else None


def depths_of(runs: Runs, tracking_uri: str) -> dict[str, Depth]:
    """The depth configuration of each cell, by cell, from the parameters of its run; without what is not understood."""
    client = client_of(tracking_uri)
    depths: dict[str, Depth] = {}
    for cell, run in runs.run_ids.items():
        params = client.get_run(run).data.params
        raw = {name.removeprefix(DEPTH): value for name, value in params.items() if name.startswith(DEPTH)}
        try:
            depths[cell] = _DEPTH.validate_python(raw)
        except ValidationError:
            continue  # of another version, or no hierarchy
    return depths


_DEPTH: TypeAdapter[Depth] = TypeAdapter(Depth)
