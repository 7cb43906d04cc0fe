"""Cells and packs of a sweep, and the identities by which they are found again."""

import itertools
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from vaesweep.errors import UserError
from vaesweep.family import family
from vaesweep.packing import SharedParts, leaves, structure
from vaesweep.sweep.identity import digest, identity
from vaesweep.sweep.settings import PRETRAINING, Settings, build, combine
from vaesweep.vocabulary import DATUM

if TYPE_CHECKING:
    from vaesweep.family import CellConfig, Family

MOST_CELLS = 100_000
VARIANT = "variant"  # the axis of a preset's variants


@dataclass(frozen=True)
class Preset:
    """A size of a sweep: settings of every cell, and axes whose values are all combined. Keys are dotted.

    `variants` is one more axis: named bundles of settings, of which a cell has one. `twins` are variants without rates,
    such as deterministic models: settings of rates and free nats, of the preset and of its axes, do not apply to them.
    """

    base: Settings = field(default_factory=dict)
    axes: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    variants: Mapping[str, Settings] = field(default_factory=dict)
    twins: Mapping[str, Settings] = field(default_factory=dict)


@dataclass(frozen=True)
class Sweep:
    """An experiment: a family and its presets. `presets` may depend on what `--data` names."""

    name: str
    family: str
    presets: Callable[[str], Mapping[str, Preset]]
    default_preset: str = "smoke"
    default_data: str = "synthetic"

    def preset(self, name: str, data: str) -> Preset:
        """The preset called `name`; an unknown one is refused with those that exist."""
        presets = self.presets(data)
        if name not in presets:
            raise UserError(f"--preset {name}: there is no such preset; there are {', '.join(presets)}")
        return presets[name]


@dataclass(frozen=True)
class Cell:
    """One configuration on one data set. `values` are its places on the sweep's axes.

    `data` is the fingerprint of what it trains on, `data_set` the index of that among the sweep's. `alias` is the
    identity under which it is known already, where that is one of an earlier release's.
    """

    config: "CellConfig"
    family: str
    data: str
    values: Mapping[str, Any]
    alias: str | None = None
    data_set: int = 0

    @cached_property
    def identity(self) -> str:
        """The name under which it is tracked and stored (`vaesweep.sweep.identity`)."""
        return self.alias or identity(family(self.family), self.config, self.data)


@dataclass(frozen=True)
class Pack:
    """Cells that train together as one stacked model."""

    cells: tuple[Cell, ...]

    @property
    def identity(self) -> str:
        """Sixteen hex digits of the identities of its cells."""
        return digest([cell.identity for cell in self.cells])


def canonical(config: "CellConfig") -> dict[str, Any]:
    """A configuration as JSON values, without pretraining where there is none."""
    values = config.model_dump(mode="json")
    if config.pretraining is None:
        values.pop(PRETRAINING)
    else:
        values[PRETRAINING] = canonical(config.pretraining)
    return values


def parameters(config: "CellConfig") -> dict[str, Any]:
    """Settings by dotted key, for users to compare cells; of pretraining those that differ from the cell's own.

    `datum.<unit>` says how much of a unit a datum has, as `datum.second` of sounds.
    """
    values = canonical(config)
    pretraining = dict(leaves(values.pop(PRETRAINING, {})))
    own = dict(leaves(values))
    own |= {f"{DATUM}.{unit}": size for unit, size in config.units.items() if unit != DATUM}
    return own | {
        f"{PRETRAINING}.{key}": v for key, v in pretraining.items() if key and (key not in own or own[key] != v)
    }


def axes_and_single(preset: Preset, settings: Settings) -> tuple[dict[str, Sequence[Any]], dict[str, Any]]:
    """The preset's axes with the user's lists, which make their keys axes, and the user's single values."""
    variants = [*preset.variants, *preset.twins]
    axes: dict[str, Sequence[Any]] = {VARIANT: variants} if variants else {}
    axes |= {key: list(values) for key, values in preset.axes.items()}
    single = {key: value for key, value in settings.items() if not isinstance(value, list)}
    for key, value in settings.items():
        if isinstance(value, list):
            axes[key] = value
    for key, values in axes.items():
        if not values:
            raise UserError(f"axis {key}: an empty list leaves nothing to run; give it at least one value")
        if _has_repeats(values):
            raise UserError(f"axis {key}: the same value stands in its list twice; a cell is run once")
    new = [key for key in single if key.endswith(".kind") and preset.base.get(key) != single[key]]
    kinds = [key.removesuffix("kind") for key in new]
    dropped = [key for key in axes if key in single or any(key.startswith(k) and key not in settings for k in kinds)]
    return {key: values for key, values in axes.items() if key not in dropped}, single


def _has_repeats(values: Sequence[Any]) -> bool:
    """Whether a value is there twice; 1 and 1.0 are one."""
    keys = {value if isinstance(value, bool | int | float | str) else json.dumps(value) for value in values}
    return len(keys) < len(values)


def expand(owner: "Family", preset: Preset, settings: Settings) -> list[tuple["CellConfig", dict[str, Any]]]:
    """Configurations of all cells of a preset with the user's settings, with their places on the axes."""
    axes, single = axes_and_single(preset, settings)
    if (count := math.prod(map(len, axes.values()))) > MOST_CELLS:
        lengths = ", ".join(f"{key} {len(values)}" for key, values in axes.items())
        raise UserError(
            f"the axes make {count} cells, and a sweep has {MOST_CELLS} at most ({lengths}); shorten a list"
        )
    shared = SharedParts()
    configs: dict[str, tuple[CellConfig, dict[str, Any]]] = {}
    for values in itertools.product(*axes.values()):
        place = dict(zip(axes, values, strict=True))
        base, own = preset.base, single
        if {**single, **place}.get(VARIANT) in preset.twins:
            base, own, place = (_without_rates(part) for part in (base, own, place))
            if any(place == other for _, other in configs.values()):
                continue
        chosen = combine(own, place)
        bundle = _variant(preset, chosen.pop(VARIANT, None))
        config = shared.of(build(owner.config, combine(base, bundle, chosen)))
        owner.check(config)
        if (key := config.model_dump_json()) in configs:
            second = " ".join(f"{axis}={value}" for axis, value in place.items())
            raise UserError(f"two places on the axes make one cell, the second is {second}; name each value once")
        configs[key] = (config, place)
    return list(configs.values())


def _variant(preset: Preset, name: str | None) -> Settings:
    if name is None:
        return {}
    variants = {**preset.variants, **preset.twins}
    if name not in variants:
        raise UserError(f"variant {name}: there is no such variant here; there are {', '.join(variants) or 'none'}")
    return variants[name]


def _without_rates(settings: Settings) -> dict[str, Any]:
    """The `settings` without those of rates and free nats."""
    prefixes = tuple(f"{parent}{part}." for parent in ("", f"{PRETRAINING}.") for part in ("rates", "free_nats"))
    return {key: value for key, value in settings.items() if not key.startswith(prefixes)}


def make_packs(cells: Sequence[Cell], size: int) -> list[Pack]:
    """Group cells into packs of at most `size`, of one structure and one data set each, of sizes as even as possible.

    Cells of one seed are neighbours, since they share their batches' noise.
    """
    groups: dict[tuple[str, int], list[Cell]] = {}
    for cell in cells:
        shape = json.dumps(structure(cell.config), sort_keys=True)
        groups.setdefault((shape, cell.data_set), []).append(cell)
    packs = []
    for group in groups.values():
        group.sort(key=lambda cell: cell.config.seed)
        count = -(-len(group) // size)
        edges = [round(i * len(group) / count) for i in range(count + 1)]
        packs += [Pack(tuple(group[a:b])) for a, b in itertools.pairwise(edges)]
    return packs
