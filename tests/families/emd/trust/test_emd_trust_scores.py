"""Scores of a separation: each is what its definition says, and none takes a reference."""

import numpy as np
import pytest
import torch

from vaesweep.families.emd.models.latents import positive
from vaesweep.families.emd.models.separator import Separator, SeparatorConfig, noise_shapes
from vaesweep.families.emd.trust.scores import Estimates, estimate, explained, middle, score_names
from vaesweep.family import family
from vaesweep.likelihoods import si_sdr

EMD = family("emd")
SMALL = EMD.small().model_dump()["model"]
KINDS = {
    "variational": {},
    "deterministic": {"encoding": "deterministic", "masks": "relu"},
    "tasks": {"encoding": "gamma", "masks": "beta", "kl": "sample", "mixture_task": True, "single_source_task": True},
    "flow": {"prior": {"kind": "flow", "hidden": 8}, "mixture_task": True},
    "student_t": {"likelihood": {"kind": "student_t"}},
}
NAMES = {
    "variational": ("agreement", "explained", "apart"),
    "deterministic": ("explained", "apart"),
    "tasks": ("agreement", "explained", "apart", "mixture_elbo"),
    "flow": ("agreement", "explained", "apart", "mixture_elbo"),
    "student_t": ("agreement", "scale", "explained", "apart"),
}


def made(kind: str, time: int = 4000, samples: int = 3) -> tuple[Separator, torch.Tensor, dict[str, torch.Tensor]]:
    torch.manual_seed(0)
    config = SeparatorConfig.model_validate(SMALL | KINDS[kind])
    model = Separator(config)
    shapes = noise_shapes(config, time)
    return model, torch.randn(4, time), {name: torch.randn(samples, 4, *shape) for name, shape in shapes.items()}


def score(found: Estimates, kind: str, name: str) -> np.ndarray:
    return found.scores[:, NAMES[kind].index(name)].numpy()


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_every_separator_has_its_scores_and_the_estimates_that_it_had(kind: str) -> None:
    model, mixture, noise = made(kind)
    found = estimate(model, mixture, noise)
    assert score_names(model.config) == NAMES[kind]
    assert found.scores.shape == (4, len(NAMES[kind]))
    assert found.scores.isfinite().all()
    torch.testing.assert_close(found.points, model.separate_by_points(mixture)[2][0])
    torch.testing.assert_close(found.mean, model.mean_estimate(mixture, noise))


@torch.no_grad()
def test_agreement_is_the_quality_if_a_sample_were_the_truth() -> None:
    """Of noise that is small enough for no value to be cut off."""
    model, mixture, noise = made("variational")
    noise = {name: 0.1 * value for name, value in noise.items()}
    found = estimate(model, mixture, noise)
    expected = []
    for number in range(3):
        _, _, (signals,) = model.separate(mixture, noise["encoding_noise"][number], noise["mask_noise"][number])
        orders = [signals, signals.flip(1)]
        alike = torch.stack([torch.cosine_similarity(found.points, own, dim=-1).sum(-1) for own in orders])
        best = torch.stack([orders[int(which)][row] for row, which in enumerate(alike.argmax(0))])
        expected.append(si_sdr(best, found.points).mean(-1))
    np.testing.assert_allclose(score(found, "variational", "agreement"), torch.stack(expected).mean(0), rtol=1e-4)


@torch.no_grad()
def test_less_noise_of_the_latents_is_more_agreement() -> None:
    model, mixture, noise = made("variational")
    values = [
        score(
            estimate(model, mixture, {name: factor * value for name, value in noise.items()}),
            "variational",
            "agreement",
        )
        for factor in (1.0, 0.3, 0.1)
    ]
    assert (values[0] < values[1]).all()
    assert (values[1] < values[2]).all()


def test_what_estimates_explain_is_what_least_squares_leaves() -> None:
    draw = np.random.default_rng(0)
    mixture, estimates = draw.normal(size=(3, 90)), draw.normal(size=(3, 2, 90))
    expected = []
    for one, own in zip(mixture, estimates, strict=True):
        residual = one - own.T @ np.linalg.lstsq(own.T, one, rcond=None)[0]
        expected.append(10 * np.log10((one**2).sum() / (residual**2).sum()))
    found = explained(torch.tensor(mixture), torch.tensor(estimates))
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    scaled = explained(torch.tensor(mixture), torch.tensor(estimates[:, ::-1] * [[[-3.0], [0.01]]]))
    np.testing.assert_allclose(scaled, expected, rtol=1e-5)


def test_silence_and_equal_estimates_have_finite_scores() -> None:
    signal = torch.randn(1, 50)
    assert float(explained(signal, torch.zeros(1, 2, 50))) == pytest.approx(0, abs=1e-5)
    assert float(explained(signal, torch.stack([signal, signal], 1))) == 60
    assert explained(torch.zeros(1, 50), torch.zeros(1, 2, 50)).isfinite().all()


@torch.no_grad()
def test_the_mixtures_own_bound_is_that_of_the_evaluation() -> None:
    """Of mixtures that are no longer than the window, by the first sample."""
    model, mixture, noise = made("tasks")
    first = {name: value[0] for name, value in noise.items()}
    _, separation = model(mixture, torch.randn(4, 2, 4000), **first)
    assert separation.uncertainty is not None
    expected = -separation.uncertainty.numpy() / 4000
    np.testing.assert_allclose(score(estimate(model, mixture, noise), "tasks", "mixture_elbo"), expected, rtol=1e-4)


@torch.no_grad()
def test_scores_are_of_the_middle_four_seconds() -> None:
    """What lies outside of them is heard by the model and not scored: `explained` is of the middle."""
    model, _, noise = made("deterministic")
    mixture = torch.randn(4, 40000)
    found = estimate(model, mixture, noise)
    inner = slice(4000, 36000)
    expected = explained(mixture[:, inner], found.points[..., inner])
    np.testing.assert_allclose(score(found, "deterministic", "explained"), expected, rtol=1e-5)
    assert middle(torch.arange(9), 4).tolist() == [2, 3, 4, 5]
    assert middle(torch.arange(3), 4).tolist() == [0, 1, 2]


@torch.no_grad()
def test_the_scale_of_the_likelihood_is_set_against_the_estimate() -> None:
    model, mixture, noise = made("student_t")
    location, raw = model.separate_by_points(mixture)[2]
    ratio = 10 * torch.log10(location.square().sum(-1) / positive(raw).square().sum(-1))
    expected = ratio.clamp(-30, 60).mean(-1)
    np.testing.assert_allclose(score(estimate(model, mixture, noise), "student_t", "scale"), expected, rtol=1e-4)
