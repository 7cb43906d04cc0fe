"""Separation against the rate, on seen and shifted conditions (thesis, Figures 2, 7, 8 and 10): separation_curve.csv.

Judged is the estimate that a user would deploy, by the modes of the latent variables (`evaluation.py` of the family);
cells of release 0.1 have one by a sample only. What the choice of the estimate costs is a table of its own.

Rates are normalised as the thesis does (line 1340): those of encodings and masks a sample and latent channel, and the
total a second. As in `groups.py`, a cell stands at the rate that it has on the test domain, whatever it is judged by.
"""

from dataclasses import dataclass

import pandas as pd

from vaesweep.analysis.groups import OWN_RATE, POINT, REGIME, grouped_table, regime_axes
from vaesweep.analysis.intervals import Interval, t_interval
from vaesweep.analysis.metric_curves import Metric, metric_curve
from vaesweep.analysis.runs import Runs
from vaesweep.analysis.table import on_curve
from vaesweep.data.domains import Role
from vaesweep.families.emd.evaluation import MEAN, MODE, SAMPLE

AXIS = "axis"
NEGATIVE_SI_SDR = "negative_si_sdr"
BLR = Metric("blr", "nats per sample")
SI_SDRI = Metric("si_sdri", "dB", sign=-1)
QUALITIES = ("si_sdr", "si_sdri", "blr")
METRICS = (BLR, Metric(NEGATIVE_SI_SDR, "dB"), SI_SDRI)


@dataclass(frozen=True)
class RateAxis:
    """One normalised rate: a metric of the family, and the label of its axis."""

    column: str
    label: str


TOTAL = RateAxis("rate_per_second", "Total rate [nats per second]")
AXES = (
    RateAxis("rate_encoding_per_dimension", "Encoding rate\n[nats per sample and channel]"),
    RateAxis("rate_masks_per_dimension", "Mask rate\n[nats per sample, channel and speaker]"),
    TOTAL,
)


@dataclass(frozen=True)
class Separators:
    """The finished cells of a sweep on every domain, rows of `grouped_table`: those with a rate, and those without.

    `variational` has a curve; `deterministic` are the twins beside it, of the regimes that their variants name.
    """

    variational: pd.DataFrame
    deterministic: pd.DataFrame
    estimate: str = MODE  # whose SI-SDR and BLR the columns `si_sdr`, `si_sdri` and `blr` have

    @classmethod
    def of(cls, runs: Runs) -> "Separators":
        """The separators of a sweep; none where it has no SI-SDR."""
        points, estimate = judged(grouped_table(runs))
        if "si_sdr" not in points:
            return cls(points[:0], points[:0])
        points = points.assign(**{NEGATIVE_SI_SDR: -points["si_sdr"].astype(float)})
        with_rate = points.index.isin(on_curve(points).index) & (TOTAL.column in points)
        return cls(points[with_rate], points[~with_rate], estimate)

    @property
    def axes(self) -> list[RateAxis]:
        """The rates that the cells have; a deterministic encoding or mask has none."""
        return [axis for axis in AXES if len(on_axis(self.variational, axis))]

    def domains(self, role: Role) -> list[str]:
        """The domains of a role, in the record's order."""
        rows = self.variational if len(self.variational) else self.deterministic
        return list(dict.fromkeys(rows.loc[rows["role"] == role, "domain"]))


def judged(points: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """`points` with the qualities of the estimate that is judged under their bare names, and which estimate it is.

    Where cells with modes stand beside cells of release 0.1, which have none, the latter have no quality here: what
    they have is a sample's, several dB less at low rates.
    """
    names = {f"{quality}.{MODE}": quality for quality in QUALITIES}
    if not set(names) <= set(points):
        return points, SAMPLE
    return points.drop(columns=[*QUALITIES], errors="ignore").rename(columns=names), MODE


def estimates_table(runs: Runs) -> pd.DataFrame:
    """SI-SDRi of every estimate, dB, by regime, point and domain: the mean over seeds; empty where there is but one."""
    points = grouped_table(runs)
    columns = [name for name in (f"si_sdri.{estimate}" for estimate in (SAMPLE, MODE, MEAN)) if name in points]
    if len(columns) < 2:
        return pd.DataFrame()
    groups = points.groupby([REGIME, POINT, "domain", "role"], sort=False)
    return groups[["rate", *columns]].mean().reset_index()


def on_axis(points: pd.DataFrame, axis: RateAxis) -> pd.DataFrame:
    """`points` with `rate` as `axis` has it, on the test domain, and `own_rate` on their own; of positive rate only."""
    if axis.column not in points:
        return points[:0]
    test = points[points["role"] == Role.TEST].set_index("cell")[axis.column].astype(float)
    placed = points.assign(**{"rate": points["cell"].map(test), OWN_RATE: points[axis.column].astype(float)})
    return placed[placed["rate"] > 0]


def separation_curve(runs: Runs, cells: Separators, window: int | None = None) -> pd.DataFrame:
    """Curve and optimum of every metric, rate, regime and domain: `metric_curve`'s columns after `axis`."""
    parts = [
        metric_curve(on_axis(cells.variational, axis), regime_axes(runs), METRICS, window).assign(**{AXIS: axis.column})
        for axis in AXES
    ]
    table = pd.concat([part for part in parts if len(part)] or parts[:1], ignore_index=True)
    return table[[AXIS, *(name for name in table if name != AXIS)]]


def twin_levels(twins: pd.DataFrame, metric: Metric) -> dict[tuple[str, str], Interval]:
    """The levels of deterministic twins, by their regime and domain: the mean over seeds and its interval."""
    rows = metric.points(twins)
    groups = rows.groupby([REGIME, "domain"], sort=False)["value"]
    return {(str(regime), str(domain)): t_interval(values.to_numpy(float)) for (regime, domain), values in groups}


def chosen_cells(cells: Separators) -> dict[str, str]:
    """Cells to draw, by the reason: lowest and highest rate, best SI-SDRi on validation mixtures, the best twin."""
    valid = on_axis(cells.variational, TOTAL)
    valid = valid[valid["role"] == Role.VALID].set_index("cell")
    twins = cells.deterministic[cells.deterministic["role"] == Role.VALID].set_index("cell")
    chosen: dict[str, str] = {}
    if len(valid):
        chosen["lowest_rate"] = str(valid[OWN_RATE].idxmin())
        chosen["best"] = str(valid[SI_SDRI.name].idxmax())
        chosen["highest_rate"] = str(valid[OWN_RATE].idxmax())
    if len(twins):
        chosen["deterministic"] = str(twins[SI_SDRI.name].idxmax())
    return chosen
