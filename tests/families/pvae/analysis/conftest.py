"""Made-up sweeps of cells that acquire, with known answers."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from toy_sweeps import SHIFT, made_up

from vaesweep.analysis.runs import Runs


def acquisition_numbers(rate: float, domain: str, noise: float, lowered: float) -> dict[str, float]:
    """Planted: the smallest area at 3 nats, the smallest offset at 2, an error of 7 dB at the stop at 3."""
    area = (rate - 3.0) ** 2 + 60 + SHIFT[domain] + noise - lowered
    offset = (rate - 2.0) ** 2 / 10 + 1.5 + noise / 10
    return {
        "area_rmse.variance": area,
        "area_rmse.single_best": area + 1 + noise / 10,
        "area_rmse.random": area + 6 - noise / 10,
        "area_unexplained.variance": 500 + area,
        "stop_offset.uncertainty": offset,
        "stop_offset.measurements": offset + 0.5 + noise / 10,
        "stop_offset.constant": offset + noise,
        "stop_offset.oracle": 0.0,
        "stop_index.uncertainty": 3 + offset,
        "stop_rmse.uncertainty": 4 + rate,
    }


def that_acquire(runs: Runs, lowered: dict[str, float] | None = None) -> Runs:
    """The same sweep with the numbers of acquisition; the areas of variants are `lowered` by so much."""
    rates = runs.finals[runs.finals["metric"] == "rate"]
    values = runs.cells.set_index("cell")
    noise = np.random.default_rng(8).normal(scale=0.05, size=int(values["seed"].max()) + 1)
    noise -= noise.mean()  # what is planted in it alone has no sign
    rows = []
    for _, row in rates.iterrows():
        less = (lowered or {}).get(str(values.loc[row["cell"]].get("variant")), 0.0)
        found = acquisition_numbers(row["value"], row["domain"], noise[values.loc[row["cell"], "seed"]], less)
        rows += [(row["cell"], row["domain"], metric, value) for metric, value in found.items()]
    more = pd.DataFrame(rows, columns=runs.finals.columns)
    return replace(runs, finals=pd.concat([runs.finals, more], ignore_index=True))


@pytest.fixture
def acquiring() -> Callable[..., Runs]:
    """`sweep_of`, with the numbers of acquisition."""

    def make(*arguments: Any, lowered: dict[str, float] | None = None, **more: Any) -> Runs:
        return that_acquire(made_up(*arguments, **more), lowered)

    return make
