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

    The error at the stop is to be near `threshold` (dB). The oracle's offset is zero by its definition, so it is no
    metric.
    """
    metrics = [Metric("distortion", NATS), Metric(NEGATIVE_ELBO, NATS)]
    names = [name for name in points.columns if name.partition(".")[0] in UNITS and name != "stop_offset.oracle"]
    for group in UNITS:
        target = threshold if group == "stop_rmse" else None
        metrics += [Metric(name, UNITS[group], target) for name in names if name.partition(".")[0] == group]
    return metrics
