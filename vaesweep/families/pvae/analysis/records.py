"""Records of finished cells' acquisitions beside their metrics: information curves, and every datum's area."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from pydantic import ValidationError

from vaesweep.analysis.load import finished_cells, load_cells
from vaesweep.analysis.runs import Runs
from vaesweep.families.pvae.evaluation import CLEAN, AcquisitionConfig
from vaesweep.training.finished import FinishedCell

PREFIX = "acquisition/"
CURVE, AREA = "rmse", "area_rmse"  # dB and measurement·dB

Place = tuple[str, str]  # domain, rule


@dataclass(frozen=True)
class AcquisitionRecord:
    """One cell's `curves` `[M + 1]`, the mean RMSE of a domain's data under a rule, and `areas` `[row]` of single data.

    Curves are against the data before noise where these are known, areas against what was measured.
    `config` are its acquisition settings (None where it did not acquire), `data` those of its training data, and
    `domains` fingerprints of the data that it was judged on. `mirrored` is whether it has trained on mirrored ears.
    """

    config: AcquisitionConfig | None
    curves: Mapping[Place, np.ndarray] = field(default_factory=dict)
    areas: Mapping[Place, np.ndarray] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)
    domains: Mapping[str, str] = field(default_factory=dict)
    mirrored: bool = False

    @property
    def missingness(self) -> str:
        """That of its training data."""
        return str(self.data.get("missingness", ""))

    @property
    def split(self) -> str:
        """A name of the split of the data that it was trained on."""
        return split_of(self.data)


def split_of(data: Mapping[str, Any]) -> str:
    """A name of the split of the data that settings of data make: the data seed, and what is held out."""
    held_out = data.get("held_out")
    return f"{data.get('seed', 0)}{f', {held_out} held out' if held_out else ''}"


def has_mirrored(config: Mapping[str, Any]) -> bool:
    """Whether a cell has trained, or was pretrained, on mirrored ears."""
    own, earlier = (part.get("data") or {} for part in (config, config.get("pretraining") or {}))
    return bool(own.get("mirror") or earlier.get("mirror"))


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


def areas_by_split(cells: Iterable[AcquisitionRecord], place: Place) -> dict[str, np.ndarray]:
    """Every datum's area by split, `[cell, row]`; nothing where a cell lacks it, or has other rows than its split."""
    by_split: dict[str, list[np.ndarray]] = {}
    for cell in cells:
        if place not in cell.areas:
            return {}
        by_split.setdefault(cell.split, []).append(cell.areas[place])
    if any(len({len(area) for area in areas}) > 1 for areas in by_split.values()):
        return {}
    return {split: np.stack(areas) for split, areas in by_split.items()}


def _record(cell: FinishedCell) -> AcquisitionRecord:
    curves, clean, areas = (
        {_place(name): value.double().numpy() for name, value in cell.kept.items() if _ends(name, ending)}
        for ending in (CURVE, f"{CURVE}{CLEAN}", AREA)
    )
    data, mirrored = cell.config.get("data") or {}, has_mirrored(cell.config)
    return AcquisitionRecord(_config(cell.config), curves | clean, areas, data, cell.domains, mirrored)


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
