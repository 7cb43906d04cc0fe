"""Small hierarchies for tests: weights that are far from their beginnings, images, and noise of any size."""

from typing import Any

import torch
from torch import Tensor

from vaesweep.families.hvae.models.config import HierarchyConfig
from vaesweep.families.hvae.models.hierarchy import Hierarchy

KINDS = {
    "continuous": {"kind": "continuous", "step": 0.25, "hidden": 5},
    "ode_like": {"kind": "ode_like", "step": 0.25, "hidden": 5},
    "discrete": {"kind": "discrete", "blocks": 2, "hidden": 5},
}
SHAPE = {"size": 8, "levels": 2, "latents": 2, "width": 6, "hidden": 5, "encoder_blocks": 1, "decoder_blocks": 1}


def shaped(kind: str, depth: dict[str, Any] | None = None, **model: Any) -> HierarchyConfig:
    """A configuration of two levels; `depth` and `model` say what is otherwise."""
    return HierarchyConfig.model_validate({**SHAPE, **model, "depth": KINDS[kind] | (depth or {})})


def lively(config: HierarchyConfig, seed: int = 0, gain: float = 1.0) -> Hierarchy:
    """A hierarchy in float64 whose weights are all random, so that no drift, rate or feature is near zero.

    Matrices keep variance (Glorot's N(0, gain² / inputs)), biases are of size 0.3; diffusions stay as configured.
    """
    draw = torch.Generator().manual_seed(seed)
    model = Hierarchy(config).double()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 0:
                scale = gain * parameter[0].numel() ** -0.5 if parameter.dim() > 1 else 0.3
                parameter.copy_(scale * torch.randn(parameter.shape, generator=draw, dtype=torch.float64))
    return model


def noises(config: HierarchyConfig, rows: int, seed: int = 1, draws: int | None = None) -> dict[str, Tensor]:
    """Standard normal noise of `rows` images in float64."""
    draw = torch.Generator().manual_seed(seed)
    return {
        name: torch.randn(rows, *shape, generator=draw, dtype=torch.float64)
        for name, shape in config.noise_shapes(draws).items()
    }


def images(config: HierarchyConfig, rows: int, seed: int = 2) -> Tensor:
    """Images `[rows, 1, size, size]` in float64, binary for a Bernoulli model."""
    x = torch.randn(rows, 1, config.size, config.size, generator=torch.Generator().manual_seed(seed))
    return ((x > 0) if config.observation == "bernoulli" else x).double()
