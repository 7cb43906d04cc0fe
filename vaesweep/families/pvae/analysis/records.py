"""Records of finished cells' acquisitions beside their metrics: information curves, and every datum's area."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from pydantic import ValidationError

from vaesweep.analysis.load import finished_cells, load_cells
from vaesweep.analysis.runs import Runs
from vaesweep.families.pvae.evaluation import AcquisitionConfig
from vaesweep.training.finished import FinishedCell

PREFIX = "acquisition/"
CURVE, AREA = "rmse", "area_rmse"  # dB and measurement·dB

Place = tuple[str, str]  # domain, rule


@dataclass(frozen=True)
class AcquisitionRecord:
    """One cell's `curves` `[M + 1]`, the mean RMSE of a domain's data under a rule, and `areas` `[row]` of single data.

    `config` are its acquisition settings (None where it did not acquire), `missingness` is that of its training data.
    """

    config: AcquisitionConfig | None
    missingness: str
    curves: Mapping[Place, np.ndarray] = field(default_factory=dict)
    areas: Mapping[Place, np.ndarray] = field(default_factory=dict)


def load_records(runs: Runs, tracking_uri: str) -> tuple[dict[str, AcquisitionRecord], int]:
    """The record of every finished cell of a sweep, by cell, and the number of those without a readable model."""
    records = {cell.cell: _record(cell) for cell in load_cells(runs, tracking_uri)}
    return records, len(finished_cells(runs)) - len(records)


def common_config(cells: Iterable[AcquisitionRecord]) -> AcquisitionConfig | None:
    """The acquisition settings of most cells; None where no cell acquired."""
    counts: dict[AcquisitionConfig, int] = {}
    for cell in cells:
        if cell.config is not None:
            counts[cell.config] = counts.get(cell.config, 0) + 1
    return max(counts, key=lambda config: counts[config]) if counts else None


def mean_areas(cells: Iterable[AcquisitionRecord], place: Place) -> np.ndarray | None:
    """Every datum's area, its mean over `cells` `[row]`; absent where a cell lacks it, or has other rows."""
    areas = [cell.areas.get(place) for cell in cells]
    present = [area for area in areas if area is not None]
    if not present or len(present) < len(areas) or len({len(area) for area in present}) > 1:
        return None
    return np.stack(present).mean(0)


def _record(cell: FinishedCell) -> AcquisitionRecord:
    curves, areas = (
        {_place(name): value.double().numpy() for name, value in cell.kept.items() if _ends(name, ending)}
        for ending in (CURVE, AREA)
    )
    return AcquisitionRecord(
        _config(cell.config), str(cell.config.get("data", {}).get("missingness", "")), curves, areas
    )


def _ends(name: str, ending: str) -> bool:
    return name.startswith(PREFIX) and name.rpartition("/")[2] == ending


def _place(name: str) -> Place:
    domain, rule = name.removeprefix(PREFIX).split("/")[:2]
    return domain, rule


def _config(settings: Mapping[str, Any]) -> AcquisitionConfig | None:
    """The settings of a cell that acquired, else None; fields that this version does not know are ignored."""
    raw = settings.get("acquisition") or {}
    try:
        config = AcquisitionConfig(**{name: raw[name] for name in AcquisitionConfig.model_fields if name in raw})
    except ValidationError:
        return None
    return config if config.rules else None
