"""Splits of the pulses' samples into training, validation and test domains, and the data set of `--data pulses`.

A replicate of the experiment has indices of its own (thesis line 1557): replicate r begins at 100 000 r with the
training rows, then come the validation rows, then the test rows of the condition trained on, then those of each
shifted condition in the order of `SHIFTS`. So a condition's rows do not depend on which others are asked for.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from pydantic import Field

from vaesweep.data.domains import DataSet, Domain, Role
from vaesweep.data.door import guarded
from vaesweep.data.spelling import did_you_mean
from vaesweep.errors import UserError
from vaesweep.families.emd.data.pulses.conditions import SHIFTS, TRAINING, PulseCondition, shifted
from vaesweep.families.emd.data.pulses.parameters import PARAMETERS, draw_parameters
from vaesweep.families.emd.forms import PULSES
from vaesweep.packing import Frozen

NO_SHIFT = "none"
REPLICATE = 100_000  # indices between a replicate and the next
FORMS = "pulses or pulses:conditions=A+B+..., with names of shifted conditions, or none"


class SplitRows(Frozen):
    """The number of mixtures in each part (thesis line 1557)."""

    train: int = Field(2048, ge=1)
    valid: int = Field(128, ge=1)
    test: int = Field(1024, ge=1, description="of the condition trained on, and of each shifted one")


@dataclass(frozen=True)
class Split:
    """One domain's condition and its indices `[row]`, int64."""

    role: Role
    condition: PulseCondition
    indices: np.ndarray


def splits(
    replicate: int,
    rows: SplitRows | None = None,
    conditions: Sequence[str] = tuple(SHIFTS),
    training: PulseCondition = TRAINING,
) -> Mapping[str, Split]:
    """The splits of a replicate, from 1, by their domain's name: `pulses.train`, `.valid`, `.test`, then `conditions`.

    `conditions` are names of `SHIFTS`, which are applied to `training`. Counts of `rows` that would reach into the next
    replicate's indices are refused with a `UserError`.
    """
    rows = rows or SplitRows()
    if not 1 <= replicate < 2**62 // REPLICATE:
        raise UserError(f"replicate {replicate} of the pulses: must be from 1 to {2**62 // REPLICATE - 1}")
    if max(rows.train, rows.valid, rows.test) > REPLICATE:
        most = max(rows.train, rows.valid, rows.test)
        raise UserError(f"{most} rows of the pulses: a replicate has {REPLICATE} at most; use fewer")
    first = replicate * REPLICATE
    valid, test = first + rows.train, first + rows.train + rows.valid
    by_domain = {
        f"{PULSES}.train": Split(Role.TRAIN, training, np.arange(first, valid)),
        f"{PULSES}.valid": Split(Role.VALID, training, np.arange(valid, test)),
        f"{PULSES}.test": Split(Role.TEST, training, np.arange(test, test + rows.test)),
    }
    for number, name in enumerate(SHIFTS, start=1):
        if name in conditions:
            start = test + number * rows.test
            by_domain[name] = Split(Role.UNSEEN, shifted(training, name), np.arange(start, start + rows.test))
    _check_room(replicate, by_domain)
    return by_domain


@guarded
def load(spec: str, replicate: int = 1, rows: SplitRows | None = None, training: PulseCondition = TRAINING) -> DataSet:
    """The data that `spec` names: `pulses` with every shifted condition, or those of `pulses:conditions=A+B` only.

    Each domain holds `parameters` `[row, speaker, sine, 5]`, float64, and `indices` `[row]`, int64, from which its
    condition renders mixtures. Every fault of the specification is a `UserError`.
    """
    by_domain = splits(replicate, rows, parse(spec), training)
    domains = tuple(
        Domain(
            name,
            split.role,
            {"parameters": draw_parameters(split.condition, split.indices), "indices": split.indices},
            split.condition,
        )
        for name, split in by_domain.items()
    )
    return DataSet(domains, PARAMETERS, summary=tuple(_line(name, split) for name, split in by_domain.items()))


def parse(spec: str) -> tuple[str, ...]:
    """The names of the shifted conditions that `spec` asks for."""
    kind, colon, option = spec.strip().partition(":")
    if kind != PULSES:
        raise UserError(f"--data {spec}: unknown kind {kind!r}{did_you_mean(kind, [PULSES])}; use {FORMS}")
    if not colon:
        return tuple(SHIFTS)
    key, _, value = option.partition("=")
    if key != "conditions":
        raise UserError(f"--data {spec}: unknown option {key!r}{did_you_mean(key, ['conditions'])}; use {FORMS}")
    names = () if value == NO_SHIFT else tuple(value.split("+"))
    for name in names:
        if name not in SHIFTS:
            hint = did_you_mean(name, SHIFTS) or f"; there are {', '.join(SHIFTS)}"
            raise UserError(f"--data {spec}: unknown condition {name!r}{hint}")
    if len(set(names)) != len(names):
        raise UserError(f"--data {spec}: a condition is named twice; name each once")
    return names


def _check_room(replicate: int, by_domain: Mapping[str, Split]) -> None:
    first, name = replicate * REPLICATE, max(by_domain, key=lambda name: by_domain[name].indices[-1])
    needed = by_domain[name].indices[-1] + 1 - first
    if needed > REPLICATE:
        raise UserError(
            f"replicate {replicate} of the pulses: its rows up to {name} are {needed}, but the next replicate begins "
            f"after {REPLICATE}; use fewer train, valid or test rows"
        )


def _line(name: str, split: Split) -> str:
    return f"{name}: {len(split.indices)} mixtures, indices {split.indices[0]} to {split.indices[-1]}"
