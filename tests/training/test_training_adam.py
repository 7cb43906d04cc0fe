"""The packed optimiser is torch's Adam, cell by cell; a cell that breaks is frozen and its neighbours do not notice."""

import math

import pytest
import torch
from torch import Tensor

from vaesweep.training import adam

CELLS, WIDTH, STEPS = 4, 30, 60
RATES = torch.tensor([1e-3, 1e-2, 0.1, 3e-4], dtype=torch.float64)
DECAY = torch.tensor([0.0, 0.1, 0.0, 2.0], dtype=torch.float64)
BOUNDS = torch.tensor([0.05, 1.0, 1e9, 3.0], dtype=torch.float64)  # some clip at every step, one never


def start() -> Tensor:
    return torch.randn(CELLS, WIDTH, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def gradients() -> Tensor:
    """A gradient a step and cell, of sizes over several orders of magnitude: `[step, cell, parameter]`."""
    draw = torch.Generator().manual_seed(1)
    size = 10 ** (4 * torch.rand(STEPS, CELLS, WIDTH, generator=draw, dtype=torch.float64) - 3)
    return size * torch.randn(STEPS, CELLS, WIDTH, generator=draw, dtype=torch.float64)


def packed(flat: Tensor, gradients: Tensor) -> tuple[Tensor, Tensor, list[int]]:
    """Weights after all steps, who is alive, and each cell's first dead step (or -1)."""
    first, second = torch.zeros_like(flat), torch.zeros_like(flat)
    alive, died = torch.ones(len(flat), dtype=torch.bool), [-1] * len(flat)
    for step, gradient in enumerate(gradients.clone()):
        _, alive = adam.clip(gradient, BOUNDS[: len(flat)].to(flat), alive)
        died = [step if d < 0 and not a else d for d, a in zip(died, alive.tolist(), strict=True)]
        correction = adam.corrections(step, flat.device)
        adam.update(
            flat, first, second, gradient, RATES[: len(flat)].to(flat) * alive, DECAY[: len(flat)].to(flat), correction
        )
    return flat, alive, died


def test_it_is_torchs_adam_with_torchs_clipping_in_every_cell() -> None:
    found, alive, _ = packed(start(), gradients())
    assert alive.all()
    for cell in range(CELLS):
        weights = start()[cell].requires_grad_()
        reference = torch.optim.AdamW([weights], lr=float(RATES[cell]), weight_decay=float(DECAY[cell]))
        for gradient in gradients()[:, cell]:
            weights.grad = gradient.clone()
            torch.nn.utils.clip_grad_norm_([weights], float(BOUNDS[cell]))
            reference.step()
        # torch divides by norm + 1e-6, we by the norm: 1e-6 / 0.05 relative, which Adam's ratio mostly undoes.
        torch.testing.assert_close(found[cell], weights.detach(), rtol=1e-6, atol=1e-6 * float(RATES[cell]) * STEPS)


def test_clipping_bounds_each_cells_norm_and_keeps_its_direction() -> None:
    gradient = gradients()[0]
    before = gradient.clone()
    norm, alive = adam.clip(gradient, BOUNDS, torch.ones(CELLS, dtype=torch.bool))
    torch.testing.assert_close(norm, before.norm(dim=1))
    torch.testing.assert_close(gradient.norm(dim=1), torch.minimum(norm, BOUNDS))
    cosine = torch.nn.functional.cosine_similarity(gradient, before, dim=1)
    torch.testing.assert_close(cosine, torch.ones_like(cosine))
    assert alive.all()


def test_a_zero_gradient_is_clipped_to_zero_and_moves_nothing() -> None:
    found, alive, _ = packed(start(), torch.zeros_like(gradients()))
    still = DECAY == 0
    assert torch.equal(found[still], start()[still])
    assert (found[~still].abs() < start()[~still].abs()).all(), "what decays does"
    assert alive.all()


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_cell_whose_gradient_breaks_is_frozen_and_its_neighbours_do_not_notice(bad: float) -> None:
    broken = gradients()
    broken[20, 1, 7] = bad
    found, alive, died = packed(start().float(), broken.float())
    whole, _, _ = packed(start().float(), gradients().float())
    until, _, _ = packed(start().float(), gradients().float()[:20])
    assert alive.tolist() == [True, False, True, True]
    assert died == [-1, 20, -1, -1]
    assert torch.equal(found[[0, 2, 3]], whole[[0, 2, 3]])
    assert torch.equal(found[1], until[1]), "frozen as the last good step left it"


def test_the_dead_stay_dead() -> None:
    gradient = gradients()[0]
    _, alive = adam.clip(gradient, BOUNDS, torch.tensor([True, False, True, True]))
    assert alive.tolist() == [True, False, True, True]
    assert torch.equal(gradient[1], torch.zeros(WIDTH, dtype=torch.float64))


def test_the_running_mean_forgets_its_start_and_is_an_exponential_average_in_the_end() -> None:
    values = torch.randn(400, 2, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    mean = torch.full((2, 5), 1e6, dtype=torch.float64)
    for step, value in enumerate(values):
        adam.average(mean, value, 0.9, step)
    weights = 0.1 * 0.9 ** torch.arange(399, -1, -1, dtype=torch.float64)
    torch.testing.assert_close(mean, torch.einsum("s,scp->cp", weights, values), rtol=1e-6, atol=1e-6)
