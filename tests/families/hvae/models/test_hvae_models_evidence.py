"""log p(x) of hierarchies so small that it can be integrated, and the bounds below it.

Three standard normal numbers make an image of two by two pixels: an initial value of one latent variable, and two steps
or two blocks of one level. Gauss and Hermite's rule integrates over them to many digits, once along the prior and once
along the posterior.
"""

import math
from typing import Any

import numpy as np
import pytest
import torch
from tiny_hierarchies import images, lively, shaped
from torch import Tensor

from vaesweep.families.hvae.models.hierarchy import Hierarchy

TINY = {"size": 2, "finest": 2, "levels": 1, "latents": 1, "width": 4, "hidden": 4}
GLOBAL = {"top": 1, "biases": True, "mean_image": True}  # of the whole model
CASES = [
    ("discrete", {"blocks": 2}),
    ("ode_like", {"step": 0.5}),
    ("continuous", {"step": 0.5, "solver": "euler_maruyama"}),
    ("continuous", {"step": 0.5, "solver": "euler_heun"}),
    ("continuous", {"step": 0.5, "solver": "reversible_heun"}),
    ("discrete", {"blocks": 2, "zero_prior": True, **GLOBAL}),
    ("continuous", {"step": 0.5, **GLOBAL}),
]
NODES = 24  # in each of three dimensions; with 40 the logarithms differ by 4e-5 at most


@pytest.fixture(params=["gaussian", "bernoulli"])
def observation(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=CASES, ids=lambda case: "-".join([case[0], *(str(value) for value in case[1].values())]))
def model(request: pytest.FixtureRequest, observation: str) -> Hierarchy:
    kind, given = request.param
    depth, whole = ({k: v for k, v in given.items() if (k in GLOBAL) is of_model} for of_model in (False, True))
    model = lively(shaped(kind, depth, **TINY, **whole, observation=observation), seed=3).eval()
    if observation == "gaussian":
        _hold_scale(model)
    if model.config.top:
        with torch.no_grad():  # smooth enough for the rule, as above
            model.top.weight.mul_(0.3)
            model.initial.dense.weight.mul_(0.3)
    return model


def _hold_scale(model: Hierarchy) -> None:
    """Pixels with standard deviations near one, so that likelihoods are smooth enough for the rule."""
    with torch.no_grad():
        model.decoder.leave.weight[4:] *= 0.1
        model.decoder.leave.bias[4:] = 0.3


@pytest.fixture(scope="module")
def rule() -> tuple[Tensor, Tensor, Tensor]:
    return gauss_hermite(NODES)


def gauss_hermite(count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Nodes of the initial value and of the level's two noises, and weights that sum to one."""
    line, weight = np.polynomial.hermite_e.hermegauss(count)
    weight = weight / weight.sum()
    nodes = torch.cartesian_prod(*[torch.tensor(line)] * 3)
    weights = torch.cartesian_prod(*[torch.tensor(weight)] * 3).prod(-1)
    return nodes[:, 0].reshape(-1, 1, 1, 1), nodes[:, 1:].reshape(-1, 2, 1, 1, 1), weights


@torch.no_grad()
def log_evidence(model: Hierarchy, x: Tensor, rule: tuple[Tensor, Tensor, Tensor]) -> float:
    """log of ∫ p(x | z) p(z) dz: along the prior, which knows no posterior."""
    initial, level, weights = rule
    log_likelihood = -model.generate(initial, [level]).nll(x)
    return float((weights.log() + log_likelihood).logsumexp(0))


@torch.no_grad()
def along_posterior(model: Hierarchy, x: Tensor, rule: tuple[Tensor, Tensor, Tensor]) -> dict[str, float]:
    """The ELBO, the mean log weight and the logarithm of the mean weight, integrated over the posterior's noise."""
    initial, level, weights = rule
    elbo, output = model(x.expand(len(weights), -1, -1, -1), initial_noise=initial, level_0_noise=level)
    return {
        "elbo": float((weights * elbo.value()).sum()),
        "mean": float((weights * output.log_weight).sum()),
        "evidence": float((weights.log() + output.log_weight).logsumexp(0)),
    }


def test_the_mean_weight_is_the_evidence_and_the_mean_log_weight_the_elbo(model: Hierarchy, rule: Any) -> None:
    x = images(model.config, 1)
    evidence, found = log_evidence(model, x, rule), along_posterior(model, x, rule)
    assert found["evidence"] == pytest.approx(evidence, abs=1e-4)  # of the rule; the bounds are 0.1 to 1 below
    assert found["mean"] == pytest.approx(found["elbo"], abs=1e-6)
    assert found["elbo"] < evidence - 1e-2, "a random posterior is not the right one"


def test_likelihoods_of_all_binary_images_sum_to_one() -> None:
    """So that the evidence, by which the bound is judged, is a distribution's."""
    rule = gauss_hermite(12)
    for kind, depth in (CASES[0], CASES[2]):
        model = lively(shaped(kind, depth, **TINY, observation="bernoulli"), seed=3)
        every = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 4).double().reshape(16, 1, 1, 2, 2)
        assert sum(math.exp(along_posterior(model, x, rule)["evidence"]) for x in every) == pytest.approx(1, abs=2e-3)


def test_the_importance_weighted_bound_rises_from_the_elbo_to_the_evidence(model: Hierarchy, rule: Any) -> None:
    draws = 64 * 400
    draw = torch.Generator().manual_seed(4)
    x = images(model.config, 1)
    initial = torch.randn(draws, 1, 1, 1, generator=draw, dtype=torch.float64)
    level = torch.randn(draws, 2, 1, 1, 1, generator=draw, dtype=torch.float64)
    with torch.no_grad():
        log_weight = model(x.expand(draws, -1, -1, -1), initial_noise=initial, level_0_noise=level)[1].log_weight
    evidence, elbo = log_evidence(model, x, rule), along_posterior(model, x, rule)["elbo"]
    bounds, errors = [], []
    for count in (1, 4, 16, 64):
        each = log_weight.reshape(-1, count).logsumexp(1) - math.log(count)
        bounds.append(float(each.mean()))
        errors.append(float(each.std()) / math.sqrt(len(each)))
    assert abs(bounds[0] - elbo) < 5 * errors[0]
    assert bounds == sorted(bounds)
    assert bounds[-1] < evidence + 5 * errors[-1]
    assert evidence - bounds[-1] < 0.5 * (evidence - elbo) + 5 * errors[-1]


def test_in_training_reversible_heun_has_no_evidence_and_so_its_bound_is_none(rule: Any) -> None:
    """What an optimiser makes of that is in `test_hvae_guarantee`; outside training its steps are Euler's (above)."""
    depth = {"step": 0.5, "solver": "reversible_heun"}
    model = lively(shaped("continuous", depth, **TINY, observation="bernoulli"), seed=3)
    assert model.training
    x = images(model.config, 1)
    apart = along_posterior(model, x, rule)["evidence"] - log_evidence(model, x, rule)
    assert abs(apart) > 1e-4, "an error of the rule is below 4e-5"
