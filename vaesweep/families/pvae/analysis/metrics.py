"""The metrics of acquisition, with their units."""

import pandas as pd

from vaesweep.analysis.gaps import NEGATIVE_ELBO
from vaesweep.analysis.metric_curves import NATS, Metric

MEASUREMENTS = "measurements"
UNITS = {
    "area_rmse": "measurement·dB",
    "area_nll": "measurement·nats",
    "area_unexplained": "measurement·nats",
    "stop_offset": MEASUREMENTS,
    "stop_index": MEASUREMENTS,
    "stop_rmse": "dB",
}


def metrics_of(points: pd.DataFrame, threshold: float | None = None) -> list[Metric]:
    """Distortion, −ELBO, and the areas and stops that `points` of `grouped_table` have.

    The error at the stop is to be near `threshold` (dB). The oracle's offset is none by its definition, so it is no
    metric.
    """
    found = [Metric("distortion", NATS), Metric(NEGATIVE_ELBO, NATS)]
    names = [name for name in points.columns if name.partition(".")[0] in UNITS and name != "stop_offset.oracle"]
    for room in UNITS:
        aim = threshold if room == "stop_rmse" else None
        found += [Metric(name, UNITS[room], aim) for name in names if name.partition(".")[0] == room]
    return found
