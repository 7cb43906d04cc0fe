"""A sweep's findings on the thesis' statements about rate and separation (study B, lines 990 to 1003, appendix M).

The best of a noisy curve always looks better than its end. So each seed is judged at the rate that the *other* seeds
choose: the difference to the highest rates is then as likely to be above zero as below where there is none. Of the
highest rates, all that lie within a fifth of the highest count together: targets out of reach end there.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import pandas as pd

from vaesweep.analysis.findings import DomainFinding, Finding, above, chosen_by_others
from vaesweep.analysis.groups import POINT, REGIME, named
from vaesweep.analysis.metric_curves import OPTIMUM, VALUE, Metric, part
from vaesweep.data.domains import Role
from vaesweep.families.emd.analysis.curves import AXIS, BLR, SI_SDRI, TOTAL, Separators, on_axis

HIGHEST = 0.8  # a rate counts as one of the highest from this share of the highest on
JUDGED = (Role.TEST, Role.UNSEEN)
LOWER = "a lower rate is better than the highest"
WIDER = "what a lower rate gains over the highest is more than on the test domain"
TWIN = "the rate chosen on validation is better than its twin"  # whose name follows
LABELS = {BLR.name: "BLR distortion", SI_SDRI.name: "SI-SDRi"}


@dataclass(frozen=True)
class Gain:
    """The gain of a lower rate over the highest ones, by seed; rates in nats per second."""

    by_seed: pd.Series
    lower: float
    highest: float


def findings(cells: Separators, curve: pd.DataFrame) -> list[DomainFinding]:
    """All statements that the sweep has data for, on test and unseen domains."""
    results: list[DomainFinding] = []
    for regime, points in on_axis(cells.variational, TOTAL).groupby(REGIME, sort=False):
        for metric in (SI_SDRI, BLR):
            results += _optima(str(regime), points, metric, curve[curve[AXIS] == TOTAL.column])
        results += _twins(str(regime), points, cells.deterministic)
    return results


def gain_of_lower_rate(points: pd.DataFrame, metric: Metric) -> Gain | None:
    """The gain of cells of one regime on one domain; None where there is only one rate."""
    losses, rates = _losses(points, metric)
    low = rates.index[rates < HIGHEST * rates.max()]
    if low.empty:
        return None
    highest = losses[rates.index.difference(low)].mean(axis=1)
    chosen = chosen_by_others(losses[low])
    loss_at = losses.stack()
    chosen_losses = pd.Series({seed: loss_at.get((seed, point)) for seed, point in chosen.items()}, dtype=float)
    return Gain((highest - chosen_losses).dropna(), float(rates[chosen].mean()), float(rates.drop(low).mean()))


def _about(metric: Metric, regime: str, domain: str, role: str, finding: Finding) -> DomainFinding:
    about = {"metric": metric.name, "regime": regime}
    return DomainFinding(finding, about, named(regime, LABELS[metric.name]), domain, role)


def _losses(points: pd.DataFrame, metric: Metric) -> tuple[pd.DataFrame, pd.Series]:
    """Values `[seed, point]`, smaller is better, and the mean rate of every point."""
    rows = metric.points(points)
    rows = rows.assign(loss=metric.sign * rows[VALUE])
    return rows.pivot_table(index="seed", columns=POINT, values="loss"), rows.groupby(POINT)["rate"].mean()


def _optima(regime: str, points: pd.DataFrame, metric: Metric, curve: pd.DataFrame) -> Iterator[DomainFinding]:
    test_gain: Gain | None = None
    for domain, rows in points[points["role"].isin(JUDGED)].groupby("domain", sort=False):
        gain = gain_of_lower_rate(rows, metric)
        if gain is None or gain.by_seed.empty:
            continue
        role, domain = str(rows["role"].iloc[0]), str(domain)
        where = named(regime, LABELS[metric.name], domain)
        rates = f"; {gain.lower:.3g} against {gain.highest:.3g} nats per second"
        best = _optimum(part(curve, regime, metric.name, domain, OPTIMUM))
        yield _about(metric, regime, domain, role, above(LOWER, where, gain.by_seed, metric.unit, rates + best))
        if role == Role.TEST:
            test_gain = gain
        elif test_gain is not None:
            difference = (gain.by_seed - test_gain.by_seed).dropna()
            yield _about(metric, regime, domain, role, above(WIDER, where, difference, metric.unit))


def _optimum(best: pd.DataFrame) -> str:
    if best.empty:
        return ""
    row = best.iloc[0]
    span = f" (seeds {row['rate_low']:.3g} to {row['rate_high']:.3g})" if pd.notna(row["rate_low"]) else ""
    return f"; the curve's optimum is at {row['rate']:.3g}{span}{', its edge' if row['at_edge'] else ''}"


def own_twins(regime: str, twins: pd.DataFrame) -> pd.DataFrame:
    """The twins whose name begins with that of the regime, `tasnet` and `tasnet_exp`; all where there are none."""
    own = twins[twins[REGIME].astype(str).str.startswith(f"{regime}_")]
    return own if regime and len(own) else twins


def _twins(regime: str, points: pd.DataFrame, twins: pd.DataFrame) -> Iterator[DomainFinding]:
    """Findings on each seed at the rate that other seeds choose on validation mixtures, less its twin."""
    losses, _ = _losses(points[points["role"] == Role.VALID], SI_SDRI)
    chosen = chosen_by_others(losses)
    for twin, twin_cells in own_twins(regime, twins).groupby(REGIME, sort=False):
        for domain, rows in points[points["role"].isin(JUDGED)].groupby("domain", sort=False):
            values = rows.set_index(["seed", POINT])[SI_SDRI.name]
            twin_rows = twin_cells[twin_cells["domain"] == domain]
            chosen_values = pd.Series({seed: values.get((seed, point)) for seed, point in chosen.items()}, dtype=float)
            gain = (chosen_values - twin_rows.set_index("seed")[SI_SDRI.name].astype(float)).dropna()
            if len(gain):
                where = named(regime, LABELS[SI_SDRI.name], str(domain))
                finding = above(f"{TWIN} {twin}".rstrip(), where, gain, SI_SDRI.unit)
                yield _about(SI_SDRI, regime, str(domain), str(rows["role"].iloc[0]), finding)
