"""Differences of two kinds of models whose interval covers all that was drawn: listeners, trainings, fits and splits.

Models are trained, and mixtures fitted, several times on each of some splits of the data, and judged on listeners. A
difference of listeners' areas has four sources of chance:

    splits ──► trainings (seeds) of the one, fits of the other ──► listeners

Its variance is the sum of those of the means over listeners, trainings and fits; or, where there are several splits and
their means differ by more than these explain, the variance between splits. Degrees of freedom are Satterthwaite's. A
source of which there is one draw only adds nothing, so that counts belong beside an interval: it is of that one draw.
Random splits share most of their training rows and a tenth of their test rows, which no interval here makes good.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from vaesweep.analysis.intervals import Interval, combined_interval

Areas = Mapping[str, np.ndarray]  # by split, [replicate, row], measurement·dB
Variance = tuple[float, int]  # of a mean, and its degrees of freedom


@dataclass(frozen=True)
class Difference:
    """A mean difference with its interval, and how often each source of chance was drawn."""

    interval: Interval
    listeners: int
    seeds: int
    fits: int
    splits: int

    @property
    def drawn(self) -> str:
        """What the interval is over, in words."""
        counts = {"listener": self.listeners, "seed": self.seeds, "fit": self.fits, "split": self.splits}
        return ", ".join(f"{count} {noun}{'' if count == 1 else 's'}" for noun, count in counts.items())


def difference(own: Areas, other: Areas, *, same_listeners: bool) -> Difference | None:
    """The mean of a listener's area by models `own` less that by models `other`; None where they share no rows.

    `same_listeners` says that all splits are judged on the same rows, as those of an unseen population are.
    """
    splits = [split for split in own if split in other and own[split].shape[1] == other[split].shape[1]]
    if not splits:
        return None
    by_split = [own[split].mean(0) - other[split].mean(0) for split in splits]
    same_listeners = same_listeners and len({len(rows) for rows in by_split}) == 1
    means = np.array([rows.mean() for rows in by_split])
    listeners = [_variance(np.mean(by_split, axis=0))] if same_listeners else [_variance(rows) for rows in by_split]
    nested = [_mean_of([_variance(areas[split].mean(1)) for split in splits], len(splits)) for areas in (own, other)]
    over_listeners = _mean_of(listeners, len(listeners))
    # Listeners of their own are part of what differs between splits, the same listeners are not.
    within = nested if same_listeners else [*nested, over_listeners]
    between = _variance(means)
    sources = [between] if between[0] > sum(variance for variance, _ in within) else within
    if same_listeners:
        sources = [*sources, over_listeners]
    drawn = [source for source in sources if source[1] > 0]
    parts, degrees = np.array(drawn or [(np.nan, 1)], float).T
    interval = combined_interval(float(means.mean()), float(parts.sum()), parts, degrees, len(by_split[0]))
    count = len(by_split[0]) if same_listeners else sum(map(len, by_split))
    seeds, fits = (min(len(areas[split]) for split in splits) for areas in (own, other))
    return Difference(interval, count, seeds, fits, len(splits))


def _variance(values: np.ndarray) -> Variance:
    """The variance of the mean of independent `values`, and its degrees of freedom: none of a single one."""
    n = len(values)
    return (float(values.var(ddof=1)) / n, n - 1) if n > 1 else (0.0, 0)


def _mean_of(variances: Sequence[Variance], count: int) -> Variance:
    """The variance of the mean of `count` independent means, and its degrees of freedom."""
    return sum(variance for variance, _ in variances) / count**2, sum(degrees for _, degrees in variances)
