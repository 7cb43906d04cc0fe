"""The file of a finished cell: weights, evaluations and final metrics, as tensors and JSON.

It outlives the processes that train and track: a run that MLflow lacks is completed from it, without training again.
"""

import json
from dataclasses import dataclass
from typing import Any

import safetensors
import safetensors.torch
from torch import Tensor

from vaesweep.errors import UserError
from vaesweep.training.loop import CellResult
from vaesweep.training.skipping import NOT_FINITE
from vaesweep.training.stack import unflatten
from vaesweep.training.state import header

FORMAT = 1


@dataclass(frozen=True)
class FinishedCell:
    """A finished cell as read back. `history` has `[evaluation]` a metric, at the steps `evaluated`.

    `kept` is what the family's users need beside the weights (`Problem.use`).
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


def to_bytes(result: CellResult, family: str, config: dict[str, Any]) -> bytes:
    """The file of `result`, with the canonical configuration that made it."""
    about = {
        "format": FORMAT,
        "cell": result.cell,
        "family": family,
        "config": config,
        "step": result.step,
        "metrics": result.metrics,
        "diverged": result.diverged,
        "cause": result.cause,
        "saturated": result.saturated,
        "evaluated": result.state.evaluated,
    }
    weights = unflatten(result.state.weights[0].cpu(), result.state.layout)
    tensors = {f"model/{name}": value.contiguous() for name, value in weights.items()}
    tensors |= {f"history/{name}": value[0].contiguous() for name, value in result.state.history.items()}
    tensors |= {f"kept/{name}": value.contiguous() for name, value in result.kept.items()}
    return safetensors.torch.save(tensors, {"vaesweep": json.dumps(about)})


def from_bytes(data: bytes, where: str) -> FinishedCell:
    """Read a finished cell back; `where` names it in the error that a damaged one gives."""
    about = header(data, where, (FORMAT,))
    try:
        tensors = safetensors.torch.load(data)
    except safetensors.SafetensorError as error:
        raise UserError(f"{where} is damaged; delete it to train its cell anew") from error
    about.pop("format")
    about.setdefault("cause", _only_cause(about["diverged"]))
    about["saturated"], about["evaluated"] = tuple(about["saturated"]), tuple(about["evaluated"])
    weights, history, kept = (_under(f"{part}/", tensors) for part in ("model", "history", "kept"))
    return FinishedCell(**about, weights=weights, history=history, kept=kept)


def _only_cause(diverged: int | None) -> str | None:
    """The cause of divergence for a file of an earlier version, which knew one cause only and did not store it."""
    return None if diverged is None else f"step {diverged}: {NOT_FINITE}"


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
