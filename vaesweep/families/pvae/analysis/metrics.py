"""The metrics of acquisition, with their units.

Those that end in `_clean` are of errors against audiograms before noise, where these are known.
"""

import pandas as pd

from vaesweep.analysis.gaps import NEGATIVE_ELBO
from vaesweep.analysis.metric_curves import NATS, Metric
from vaesweep.families.pvae.evaluation import CLEAN, UNWEIGHTED

MEASUREMENTS = "measurements"
OF_MEASURED = {
    "area_rmse": "measurement·dB",
    "area_nll": "measurement·nats",
    "area_unexplained": "measurement·nats",
    "stop_offset": MEASUREMENTS,
    "stop_index": MEASUREMENTS,
    "stop_rmse": "dB",
}
OF_CLEAN = ("area_rmse", "stop_offset", "stop_index", "stop_rmse")
UNITS = OF_MEASURED | {f"{name}{CLEAN}": OF_MEASURED[name] for name in OF_CLEAN}


def metrics_of(points: pd.DataFrame, threshold: float | None = None) -> list[Metric]:
    """Distortion, −ELBO, and the areas and stops that `points` of `grouped_table` have.

    The error at the stop is to be near `threshold` (dB). The oracle's offset is zero by its definition, so it is no
    metric.
    """
    metrics = [Metric("distortion", NATS), Metric(NEGATIVE_ELBO, NATS)]
    oracles = {f"stop_offset{ending}.{by}oracle" for ending in ("", CLEAN) for by in ("", f"{UNWEIGHTED}_")}
    names = [name for name in points.columns if name.partition(".")[0] in UNITS and name not in oracles]
    for group in UNITS:
        target = threshold if group.removesuffix(CLEAN) == "stop_rmse" else None
        metrics += [Metric(name, UNITS[group], target) for name in names if name.partition(".")[0] == group]
    return metrics
