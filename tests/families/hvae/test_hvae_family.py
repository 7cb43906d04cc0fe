"""What a user may ask of hierarchical VAEs, and that the rest is refused in one line that says what would be right."""

import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from vaesweep.data.domains import DataSet, Domain, Role
from vaesweep.errors import UserError
from vaesweep.families.hvae.family import HierarchyCell, HierarchyFamily
from vaesweep.sweep.settings import build, parse
from vaesweep.training.stack import Stack, initial_rows

FAMILY, CPU = HierarchyFamily(), torch.device("cpu")


def made(settings: str) -> HierarchyCell:
    """The configuration as `--set` makes it, checked as the sweep does."""
    config = build(HierarchyCell, parse(settings.split()))
    FAMILY.check(config)
    return config


def refusal(work: Callable[[], Any]) -> str:
    with pytest.raises(UserError) as caught:
        work()
    line = str(caught.value)
    assert "\n" not in line
    assert len(line) < 250
    return line


# --- settings ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "where", "right"),
    [
        ("model.depth.step=0.3", "model.depth", "give 1/n, such as 0.333333"),
        ("model.depth.kind=ode_like model.depth.step=0.7", "model.depth", "give 1/n"),
        ("model.depth.step=0", "model.depth.step=0", "greater than or equal to"),
        ("model.depth.step=1e-320", "model.depth.step", "greater than or equal to"),
        ("model.depth.solver=rk4", "model.depth", "euler_maruyama, euler_heun, reversible_heun"),
        ("model.depth.recompute=-1", "model.depth.recompute=-1", "greater than or equal to 0"),
        ("model.depth.diffusion=0", "model.depth.diffusion=0", "greater than 0"),
        ("model.depth.kind=sde", "model.depth", "'continuous', 'ode_like', 'discrete'"),
        ("model.depth.kind=discrete model.depth.step=0.1", "model.depth.step", "not permitted"),
        ("model.depth.blocks=3", "model.depth.blocks", "not permitted"),
        ("model.size=18", "model", "a multiple of 4, not 18"),
        ("model.finest=3 model.levels=1", "model", "a multiple of 3, not 16"),
        ("model.levels=1000000", "model.levels", "less than or equal to 16"),
        ("model.observation=poisson", "model.observation=poisson", "'gaussian', 'bernoulli' or 'logistic'"),
        ("evaluation.steps=[3,0]", "evaluation.steps", "greater than or equal to 1"),
        ("evaluation.draws=-1", "evaluation.draws=-1", "greater than or equal to 0"),
        ("evaluation.step=[3]", "evaluation.step", "did you mean evaluation.steps"),
        ("model.depth.kind=discrete evaluation.steps=[3]", "evaluation.steps", "leave it out"),
        ("evaluation.steps=[101,103]", "evaluation.steps", "divide one another"),
        ("free_nats.level_3.nats=1", "level_3", "initial, level_0, level_1, level_2"),
        ("rates.level_3.kind=fixed", "level_3", "initial, level_0, level_1, level_2"),
    ],
)
def test_what_cannot_be_trained_is_refused_with_what_could(settings: str, where: str, right: str) -> None:
    line = refusal(lambda: made(settings))
    assert where in line
    assert right in line


@pytest.mark.parametrize(
    ("written", "draws"), [("1", 1), ("0.5", 2), ("0.333333", 3), ("0.1", 10), ("0.142857", 7), ("1e-3", 1000)]
)
def test_a_step_of_one_over_a_whole_number_may_be_written_with_six_digits(written: str, draws: int) -> None:
    config = made(f"model.depth.step={written}")
    assert config.model.depth.layers == draws
    assert config.model.noise_shapes()["level_0_noise"][0] == draws


def test_what_a_refused_step_is_told_to_be_is_accepted() -> None:
    for wrong in (0.3, 0.15, 0.07, 0.009, 0.6):
        line = refusal(lambda wrong=wrong: made(f"model.depth.step={wrong}"))
        made(f"model.depth.step={line.rsplit(' ', 1)[1]}")


def test_free_nats_and_controls_go_by_the_names_of_initial_value_and_levels() -> None:
    config = made("model.levels=2 free_nats.initial.nats=1 free_nats.level_1.nats=1 rates.level_0.kind=fixed")
    assert FAMILY.rate_names(config) == ("initial", "level_0", "level_1")


def test_the_defaults_are_the_thesis_model_of_poisson_images() -> None:
    """Lines 1881 to 1890."""
    model = made("seed=0").model
    assert (model.size, model.levels, model.latents, model.width, model.hidden) == (16, 3, 4, 128, 128)
    assert (model.depth.kind, model.depth.layers, model.depth.hidden) == ("continuous", 10, 128)
    assert [model.resolution(level) for level in range(3)] == [4, 8, 16]
    assert model.observation == "gaussian"


# --- data -------------------------------------------------------------------------------------------------------


@pytest.fixture
def mnist(tmp_path: Path) -> str:
    """A dozen images in the format of MNIST."""
    for name, rows in (("train-images-idx3-ubyte", 12), ("t10k-images-idx3-ubyte", 4)):
        grey = np.random.default_rng(rows).integers(0, 256, (rows, 28, 28), np.uint8)
        (tmp_path / name).write_bytes(struct.pack(">4I", 0x803, *grey.shape) + grey.tobytes())
    return f"mnist:{tmp_path}"


def test_images_of_another_size_than_the_models_are_refused(mnist: str) -> None:
    line = refusal(lambda: FAMILY.load("poisson", made("model.size=8")))
    assert "poisson.train" in line
    assert "set model.size=16" in line
    assert "set model.size=8" in refusal(lambda: FAMILY.load("poisson", made("data.size=8")))
    assert "set model.size=28" in refusal(lambda: FAMILY.load(mnist, made("model.observation=bernoulli")))


def test_pixels_of_another_kind_than_the_models_are_refused(mnist: str) -> None:
    line = refusal(lambda: FAMILY.load(mnist, made("model.size=28")))
    assert "binary" in line
    assert "set model.observation=bernoulli" in line
    line = refusal(lambda: FAMILY.load("poisson", made("model.observation=bernoulli")))
    assert "set model.observation=gaussian" in line


@pytest.mark.parametrize(
    ("spec", "right"),
    [("poison", "poisson"), ("poisson:unseen=noise_3", "noise_2"), ("mnist", "mnist:DIR"), ("nhanes:x", "poisson")],
)
def test_what_names_no_images_is_refused(spec: str, right: str) -> None:
    assert right in refusal(lambda: FAMILY.load(spec, made("seed=0")))


def test_a_folder_without_mnist_is_refused(tmp_path: Path) -> None:
    config = made("model.size=28 model.observation=bernoulli")
    assert "train-images-idx3-ubyte" in refusal(lambda: FAMILY.load(f"mnist:{tmp_path}", config))


def with_test_domain(data: DataSet, change: Callable[[Domain], Domain]) -> DataSet:
    domains = tuple(change(domain) if domain.role is Role.TEST else domain for domain in data.domains)
    return replace(data, domains=domains)


def test_a_problem_refuses_what_its_cells_cannot_see() -> None:
    """Cells of one sweep share data but not the model: each one's problem looks again, at every domain."""
    data, small = FAMILY.example(), FAMILY.small()
    FAMILY.problem(small, data, CPU)
    larger = made("model.size=16")
    assert "set model.size=8" in refusal(lambda: FAMILY.problem(larger, data, CPU))

    def spoilt(domain: Domain) -> Domain:
        images = domain.arrays["images"].copy()
        images[3, 0, 1, 1] = np.nan
        return replace(domain, arrays=dict(domain.arrays) | {"images": images})

    def binary(domain: Domain) -> Domain:
        assert domain.condition is not None
        return replace(domain, condition=domain.condition.model_copy(update={"kind": "binary"}))

    line = refusal(lambda: FAMILY.problem(small, with_test_domain(data, spoilt), CPU))
    assert "poisson.test: row 3" in line
    assert "poisson.test" in refusal(lambda: FAMILY.problem(small, with_test_domain(data, binary), CPU))


def test_binary_images_of_mnist_train_a_bernoulli_hierarchy(mnist: str) -> None:
    config = made(f"model.size=28 model.observation=bernoulli model.finest=2 {SMALL}")
    problem = FAMILY.problem(config, FAMILY.load(mnist, config), CPU)
    batch = problem.train_batch(torch.arange(5), torch.Generator().manual_seed(0))
    elbo, output = problem.build()(**batch)
    assert set(batch["x"].unique().tolist()) == {0.0, 1.0}
    assert elbo.value().isfinite().all()
    assert bool(((output.observation.mean > 0) & (output.observation.mean < 1)).all())
    # An untrained model's pixels are nearly even: ln 2 nats each.
    assert float(elbo.distortion.detach().mean()) == pytest.approx(28 * 28 * np.log(2), rel=0.1)


def test_biases_of_pixels_begin_at_the_mean_of_the_training_images(mnist: str) -> None:
    """Whether these are binary already or drawn anew; and of real pixels, which are standardised."""
    for settings in ("binarisation=static", "binarisation=dynamic"):
        config = made(
            f"model.size=28 model.observation=bernoulli model.finest=2 model.mean_image=true data.{settings} {SMALL}"
        )
        data = FAMILY.load(mnist, config)
        problem = FAMILY.problem(config, data, CPU)
        model = problem.build()
        images = data.domain(Role.TRAIN).arrays["images"].astype(float)
        mean = (images / (255 if "dynamic" in settings else 1)).mean(0)
        assert model.decoder.bias is not None
        found = model.decoder.bias.sigmoid().detach().numpy()
        np.testing.assert_allclose(found, mean.clip(1e-3, 1 - 1e-3), atol=1e-6)
        assert torch.equal(model.decoder.bias, problem.build().decoder.bias)
    real = FAMILY.small().model_copy(update={"model": FAMILY.small().model.model_copy(update={"mean_image": True})})
    problem = FAMILY.problem(real, FAMILY.example(), CPU)
    bias = problem.build().decoder.bias
    torch.testing.assert_close(bias[:1], problem.train_batch(torch.arange(48), torch.Generator())["x"].mean(0))
    assert torch.equal(bias[1:], torch.zeros(1, 8, 8)), "standard deviations begin at that of all pixels"


@pytest.fixture
def folder(tmp_path: Path) -> str:
    """Twenty grey images of noise, some pixels of which are always black."""
    for number in range(20):
        grey = np.random.default_rng(number).integers(0, 256, (8, 8)).astype(np.uint8)
        grey[:2] = 0
        Image.fromarray(grey).save(tmp_path / f"{number:02}.png")
    return f"folder:{tmp_path}"


SMALL = "model.levels=2 model.width=4 model.hidden=4 model.depth.hidden=4 model.latents=1 model.depth.step=0.5"


def test_grey_images_of_a_folder_have_a_likelihood_in_bits_and_are_kept_in_their_own_units(folder: str) -> None:
    config = made(f"model.size=8 data.size=8 model.observation=logistic {SMALL}")
    problem = FAMILY.problem(config, FAMILY.load(folder, config), CPU)
    batch = problem.train_batch(torch.arange(5), torch.Generator().manual_seed(0))
    level = (batch["x"] + 1) * 127.5
    torch.testing.assert_close(level, level.round(), rtol=0, atol=1e-4)
    assert (level[:, :, :2].abs() < 1e-4).all()
    elbo, output = problem.build()(**batch)
    bits = problem.measure(elbo, output, batch)["bits"]
    torch.testing.assert_close(bits, -elbo.value() / (64 * np.log(2)))
    assert elbo.distortion.min() > 0, "a probability's, so that no pixel is worth less than nothing"
    stack = Stack(problem.build(), initial_rows(problem.build, [0]))
    kept = problem.use(stack).kept
    assert {name: value.item() for name, value in kept.items()} == dict.fromkeys(kept, 127.5)
    assert kept.keys() == {"standardisation/mean", "standardisation/std"}


def test_grey_pixels_may_have_a_density_which_is_said_and_real_ones_have_no_levels(folder: str) -> None:
    config = made("model.size=8 data.size=8")
    data = FAMILY.load(folder, config)
    assert any("gaussian a density without a bound" in line for line in data.summary)
    FAMILY.problem(config, data, CPU)
    line = refusal(lambda: FAMILY.load("poisson", made("model.observation=logistic")))
    assert "set model.observation=gaussian" in line
    line = refusal(lambda: FAMILY.load(folder, made("model.size=8 data.size=8 model.observation=bernoulli")))
    assert "set model.observation=logistic" in line


def test_cells_must_agree_on_which_images_there_are() -> None:
    assert FAMILY.loading(made("seed=1")) == FAMILY.loading(made("model.levels=1"))
    assert FAMILY.loading(made("seed=1")) != FAMILY.loading(made("data.rows.test=3"))
