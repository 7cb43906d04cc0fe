"""The file of a finished cell: weights, evaluations and final metrics, as tensors and JSON.

It outlives the processes that train and track: a run that MLflow lacks is completed from it, without training again.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from vaesweep.training.loop import CellResult
from vaesweep.training.sealed import DamagedFile, seal, unseal
from vaesweep.training.skipping import NOT_FINITE
from vaesweep.training.stack import unflatten

FORMAT = 2  # 1, of release 0.1, had no digest and no domains; it is read too
ABOUT = ("cell", "family", "config", "step", "metrics", "diverged", "saturated", "evaluated", "cause", "domains")


@dataclass(frozen=True)
class FinishedCell:
    """A finished cell as read back. `history` has `[evaluation]` a metric, at the steps `evaluated`.

    `kept` is what the family's users need beside the weights (`Problem.use`). `domains` has the fingerprint of every
    domain that it was evaluated on; files of release 0.1 do not have them.
    """

    cell: str
    family: str
    config: dict[str, Any]
    step: int
    metrics: dict[str, float]
    diverged: int | None
    saturated: tuple[str, ...]
    evaluated: tuple[int, ...]
    history: dict[str, Tensor]
    weights: dict[str, Tensor]
    kept: dict[str, Tensor]
    cause: str | None = None  # when and why it diverged
    domains: dict[str, str] = field(default_factory=dict)


def of_result(result: CellResult, family: str, config: dict[str, Any], domains: Mapping[str, str]) -> FinishedCell:
    """The finished cell of `result`, with the configuration that made it and the data that it was evaluated on."""
    return FinishedCell(
        cell=result.cell,
        family=family,
        config=config,
        step=result.step,
        metrics=result.metrics,
        diverged=result.diverged,
        saturated=result.saturated,
        evaluated=result.state.evaluated,
        history={name: value[0] for name, value in result.state.history.items()},
        weights=unflatten(result.state.weights[0].cpu(), result.state.layout),
        kept=dict(result.kept),
        cause=result.cause,
        domains=dict(domains) if result.diverged is None else {},
    )


def to_bytes(cell: FinishedCell) -> bytes:
    """The file of a finished cell."""
    about = {"format": FORMAT} | {name: getattr(cell, name) for name in ABOUT}
    parts = {"model": cell.weights, "history": cell.history, "kept": cell.kept}
    return seal(about, {f"{part}/{name}": value for part, values in parts.items() for name, value in values.items()})


def from_bytes(data: bytes, where: str, cell: str | None = None) -> FinishedCell:
    """Read a finished cell back: the one called `cell`, where that is said. `where` names the file in errors.

    Raises `DamagedFile` where it is not what was written, or another cell's, and `NewerFile`.
    """
    about, tensors = unseal(data, where, (1, FORMAT))
    try:
        about.setdefault("cause", _only_cause(about["diverged"]))
        about.setdefault("domains", {})
        about["saturated"], about["evaluated"] = tuple(about["saturated"]), tuple(about["evaluated"])
        values = {name: about[name] for name in ABOUT}
    except (KeyError, TypeError) as error:
        raise DamagedFile(f"{where} is not the file of a finished cell, or is damaged") from error
    if cell is not None and values["cell"] != cell:
        raise DamagedFile(f"{where} is the file of another cell, {values['cell']}")
    weights, history, kept = (_under(f"{part}/", tensors) for part in ("model", "history", "kept"))
    return FinishedCell(**values, weights=weights, history=history, kept=kept)


def _only_cause(diverged: int | None) -> str | None:
    """The cause of divergence in a file of an earlier version, which had one cause only and did not say it."""
    return None if diverged is None else f"step {diverged}: {NOT_FINITE}"


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
