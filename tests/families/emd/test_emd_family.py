"""Separators on Gaussian pulses: every structure trains, batches are keyed by mixture, bad data are refused."""

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import pad

from vaesweep.data.domains import DataSet, Domain
from vaesweep.elbo import Elbo
from vaesweep.errors import UserError
from vaesweep.families.emd import evaluation as separation
from vaesweep.families.emd.data.pulses import PulseCondition, render
from vaesweep.families.emd.family import SeparatorCell, SeparatorProblem
from vaesweep.families.emd.models.separator import Separation
from vaesweep.family import CellConfig, family
from vaesweep.likelihoods import si_sdr_improvement
from vaesweep.rates.base import stack_numbers
from vaesweep.sweep.cells import parameters
from vaesweep.sweep.identity import differing, identities_of_0_1, identity
from vaesweep.sweep.settings import build
from vaesweep.training.evaluate import elbo_metrics, evaluate
from vaesweep.training.loop import start_state, train_pack
from vaesweep.training.stack import Stack, initial_rows
from vaesweep.training.world import World

CPU = torch.device("cpu")
EMD = family("emd")
STRUCTURES: dict[str, dict[str, Any]] = {
    "deterministic": {"encoding": "deterministic", "masks": "relu"},
    "deterministic si_sdr": {"encoding": "deterministic", "masks": "sigmoid", "likelihood": {"kind": "si_sdr"}},
    "log-normal": {"encoding": "log_normal"},
    "gamma and beta": {"encoding": "gamma", "masks": "beta", "kl": "sample"},
    "flow": {"prior": {"kind": "flow", "hidden": 8}},
    "adaptive": {"prior": {"kind": "adaptive"}, "single_source_task": True, "mixture_task": True},
    "cauchy": {"likelihood": {"kind": "cauchy"}},
    "student_t": {"likelihood": {"kind": "student_t", "dof": 2.5}},
    "deterministic exp": {"encoding": "deterministic", "masks": "exp"},
    "sudormrf": {"masker": {"kind": "sudormrf", "bottleneck": 8, "hidden": 8, "blocks": 1, "resolutions": 2}},
    "sepformer": {
        "masker": {
            "kind": "sepformer",
            "width": 8,
            "heads": 2,
            "feedforward": 8,
            "layers": 1,
            "repeats": 1,
            "chunk": 20,
        }
    },
}


@pytest.fixture(scope="module")
def data() -> DataSet:
    return EMD.example()


def cell(model: dict[str, Any] | None = None, **values: Any) -> CellConfig:
    small = EMD.small().model_dump()
    short = {"training": {"steps": 3, "batch_size": 6, "evaluate_every": 2}}
    return EMD.config.model_validate(small | short | {"model": small["model"] | (model or {})} | values)


def problem(data: DataSet, model: dict[str, Any] | None = None) -> SeparatorProblem:
    return EMD.problem(cell(model), data, CPU)


def changed(domain: Domain, parameters: np.ndarray) -> Domain:
    return dataclasses.replace(domain, arrays=dict(domain.arrays) | {"parameters": parameters})


# --- every structure ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", STRUCTURES)
def test_every_structure_trains_and_has_the_metrics_that_it_promises(data: DataSet, recorder: type, name: str) -> None:
    one = cell(STRUCTURES[name])
    other = one.model_copy(update={"seed": 1})
    EMD.check(one)
    subject, kept = problem(data, STRUCTURES[name]), recorder()
    train_pack(subject, [one, other], start_state(subject, [one, other], ["x", "y"]), kept)
    parts = {"distortion", "rate", "elbo", *(f"rate.{n}" for n in EMD.rate_names(one)), *EMD.metrics_of(one)}
    for result in kept.results.values():
        assert result.diverged is None
        assert result.metrics.keys() == {f"{domain}/{part}" for domain in subject.domains for part in parts}
        assert all(math.isfinite(value) for value in result.metrics.values())
    if name == "deterministic":
        assert kept.results["x"].metrics["noise_0/rate"] == 0


def test_a_stack_of_the_richest_structure_is_its_models_one_by_one(data: DataSet) -> None:
    subject = problem(data, STRUCTURES["adaptive"])
    flat = initial_rows(subject.build, [0, 1])
    batch = subject.train_batch(torch.arange(4), torch.Generator().manual_seed(0))
    together = Stack(subject.build(), flat).apply(lambda found, _: found[0].value(), batch, shared=True)
    for number, row in enumerate(flat):
        model = subject.build()
        torch.nn.utils.vector_to_parameters(row, model.parameters())
        torch.testing.assert_close(model(**batch)[0].value(), together[number], rtol=1e-4, atol=1e-2)


def test_an_elbo_without_rates_is_its_distortion() -> None:
    found = elbo_metrics({"distortion": torch.tensor([2.0, 3.0])})
    assert {name: value.tolist() for name, value in found.items()} == {
        "distortion": [2.0, 3.0],
        "rate": [0.0, 0.0],
        "elbo": [-2.0, -3.0],
    }


# --- batches -----------------------------------------------------------------------------------------------------


def test_a_batch_is_what_its_domains_condition_renders(data: DataSet) -> None:
    subject = problem(data)
    for domain in data.domains:
        batch = subject.evaluation_batch(domain.name, slice(2, 5))
        arrays = [torch.tensor(domain.arrays[name][2:5]) for name in ("parameters", "indices")]
        mixture, sources = render(arrays[0], domain.condition, arrays[1])
        assert torch.equal(batch["mixture"], mixture)
        assert torch.equal(batch["sources"], sources)
        if domain.name == "noise_0":
            torch.testing.assert_close(batch["mixture"], batch["sources"].sum(1))


def test_evaluation_noise_is_standard_normal_and_no_two_mixtures_share_it(data: DataSet) -> None:
    subject = problem(data)
    batches = [subject.evaluation_batch(domain.name, slice(0, 9)) for domain in data.domains]
    noise = torch.cat([torch.cat([b["encoding_noise"].flatten(1), b["mask_noise"].flatten(1)], 1) for b in batches])
    assert abs(float(noise.mean())) < 5 / math.sqrt(noise.numel())  # five standard errors
    assert abs(float(noise.var()) - 1) < 5 * math.sqrt(2 / noise.numel())
    correlation = torch.corrcoef(noise) - torch.eye(len(noise))
    assert float(correlation.abs().max()) < 6 / math.sqrt(noise.shape[1])  # of 630 pairs


def test_a_problem_holds_parameters_and_no_signals(data: DataSet) -> None:
    held = [value for mixtures in problem(data)._mixtures.values() for value in vars(mixtures).values()]
    sizes = [value.numel() for value in held if isinstance(value, Tensor)]
    assert max(sizes) <= 24 * 2 * 3 * 5


# --- metrics -----------------------------------------------------------------------------------------------------


def test_metrics_are_normalised_as_the_thesis_does(data: DataSet) -> None:
    subject = problem(data)
    model, batch = subject.build(), subject.evaluation_batch("noise_0", slice(0, 9))
    elbo, found = model(**batch)
    metrics = evaluate(Stack(subject.build(), initial_rows(lambda: model, [0])), subject, "noise_0", 4, World())
    wanted = {
        "si_sdri.sample": si_sdr_improvement(batch["sources"], found.estimates, batch["mixture"][:, None]).mean(),
        "si_sdri.mode": si_sdr_improvement(batch["sources"], found.mode(), batch["mixture"][:, None]).mean(),
        "blr.sample": elbo.distortion.mean() / (2 * 2000),  # speakers, samples
        "rate_per_second": elbo.total_rate().mean() / 0.25,
        "rate_encoding_per_dimension": elbo.rate("encoding").mean() / (2000 * 8),
        "rate_masks_per_dimension": elbo.rate("masks").mean() / (2000 * 8 * 2),
    }
    for name, value in wanted.items():
        assert float(metrics[name][0]) == pytest.approx(value.item(), rel=1e-4), name


def made_up(uncertainty: Tensor) -> tuple[Elbo, Separation, dict[str, Tensor]]:
    """Separations of random quality with a given uncertainty."""
    rows = len(uncertainty)
    sources = torch.randn(rows, 2, 300, generator=torch.Generator().manual_seed(0))
    estimates = sources + torch.linspace(0.1, 2, rows)[:, None, None] * sources.flip(-1)
    nothing = torch.empty(0)
    found = Separation(estimates, nothing, nothing, nothing, uncertainty, lambda: estimates)
    return Elbo(torch.zeros(rows), {}), found, {"mixture": sources.sum(1), "sources": sources}


def test_the_correlation_is_that_of_numpy(data: DataSet) -> None:
    subject = problem(data, STRUCTURES["adaptive"])
    uncertainty = torch.linspace(1e5, 1.01e5, 40) + 300 * torch.randn(40, generator=torch.Generator().manual_seed(1))
    values = subject.measure(*made_up(uncertainty))
    means = {name: value.double().mean(0, keepdim=True) for name, value in values.items()}
    expected = np.corrcoef(-uncertainty.double(), values["si_sdri.mode"].double())[0, 1]
    assert abs(expected) > 0.5
    assert float(subject.summarise(means)["mixture_correlation"]) == pytest.approx(expected, abs=1e-4)


def test_the_correlation_with_what_does_not_vary_is_zero(data: DataSet) -> None:
    subject = problem(data, STRUCTURES["adaptive"])
    values = subject.measure(*made_up(torch.full((9,), 7.0)))
    assert float(subject.summarise({name: value.mean() for name, value in values.items()})["mixture_correlation"]) == 0


# --- bad input ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [slice(0, 3), slice(0, None)], ids=["of some mixtures", "of all"])
def test_a_silent_source_has_no_quality_and_does_not_own_the_mean(data: DataSet, rows: slice) -> None:
    train = data.domains[0]
    parameters = train.arrays["parameters"].copy()
    parameters[rows, 0, :, 1] = 0  # the first speaker's amplitudes
    silent = dataclasses.replace(data, domains=(changed(train, parameters), *data.domains[1:]))
    subject = problem(silent)
    stack = Stack(subject.build(), initial_rows(subject.build, [0]))
    found = evaluate(stack, subject, train.name, 8, World())
    assert all(value.isfinite().all() for value in found.values())
    model = subject.build()
    torch.nn.utils.vector_to_parameters(stack.flat[0], model.parameters())
    batch = subject.evaluation_batch(train.name, slice(0, len(train)))
    with torch.no_grad():
        better = si_sdr_improvement(batch["sources"], model(**batch)[1].mode(), batch["mixture"][:, None])
    audible = batch["sources"].square().sum(-1) > 0
    assert float(found["si_sdri.mode"]) == pytest.approx(float(better[audible].mean()), rel=1e-4)


def test_a_source_sixty_decibels_below_the_loudest_counts_as_silent() -> None:
    sources = torch.randn(1, 2, 4000, generator=torch.Generator().manual_seed(0))
    for gain, count in ((1.1e-3, 2), (0.9e-3, 1)):
        scaled = sources / sources.norm(dim=-1, keepdim=True) * torch.tensor([1.0, gain])[:, None]
        values = separation.judged(scaled, {"mode": scaled}, scaled.sum(1), EMD.small().model)
        assert float(values["audible"]) == count


def test_the_mean_estimate_is_judged_on_all_domains_but_trainings_where_it_is_asked_for(data: DataSet) -> None:
    configured = cell(evaluation={"samples": 3, "trust": 0.0})
    subject = EMD.problem(configured, data, CPU)
    stack = Stack(subject.build(), initial_rows(subject.build, [0, 1]))
    found = subject.use(stack).metrics
    judged = {f"{name}.mean" for name in ("si_sdr", "si_sdri", "blr")}
    assert found.keys() == {f"{d.name}/{name}" for d in data.domains[1:] for name in judged}
    batch = subject.evaluation_batch("noise_0", slice(0, 9))
    noise = subject._mixtures["noise_0"].keyed_noise(slice(0, 9), 3)
    assert all(torch.equal(noise[name][0], batch[name]) for name in noise), "the first sample is the evaluation's"
    for number, row in enumerate(stack.flat):
        model = subject.build()
        torch.nn.utils.vector_to_parameters(row, model.parameters())
        with torch.no_grad():
            mean = model.mean_estimate(batch["mixture"], noise)
        best = (
            torch.stack(
                [
                    si_sdr_improvement(batch["sources"], mean[:, list(order)], batch["mixture"][:, None]).mean(-1)
                    for order in ((0, 1), (1, 0))
                ]
            )
            .amax(0)
            .mean()
        )
        assert float(found["noise_0/si_sdri.mean"][number]) == pytest.approx(float(best), rel=1e-3, abs=1e-3)
    assert EMD.problem(cell(), data, CPU).use(stack).metrics == {}


def test_the_mean_estimate_of_a_deterministic_separator_is_its_only_one(data: DataSet) -> None:
    subject = EMD.problem(cell(STRUCTURES["deterministic"], evaluation={"samples": 3}), data, CPU)
    stack = Stack(subject.build(), initial_rows(subject.build, [0]))
    measured = evaluate(stack, subject, "noise_0", 4, World())
    for name in ("si_sdr", "si_sdri"):
        assert float(subject.use(stack).metrics[f"noise_0/{name}.mean"]) == pytest.approx(
            float(measured[f"{name}.mode"]), abs=1e-3
        )


def test_evaluation_is_no_part_of_what_a_cell_trains_on() -> None:
    plain, asked = (identity(EMD, cell(evaluation={"samples": n}), "data") for n in (0, 16))
    assert asked.startswith(f"{plain}-")


@pytest.mark.parametrize(("per", "target"), [("datum", 400.0), ("sample", 0.2), ("second", 1600.0)])
def test_a_target_may_be_given_per_sample_or_second(per: str, target: float) -> None:
    """A quarter of a second at 8 kHz: 2000 samples."""
    total = {"kind": "target", "target": target, "per": per}
    asked = cell(rates={"total": total}, data={"condition": {"seconds": 0.25, "scale": (0.01, 0.05)}})
    EMD.check(asked)
    assert stack_numbers([asked.scheduled_rates["total"]])["target"].item() == pytest.approx(400.0)
    assert (parameters(asked)["datum.sample"], parameters(asked)["datum.second"]) == (2000.0, 0.25)


def test_a_unit_that_the_cell_has_not_is_refused() -> None:
    with pytest.raises(UserError, match=r"rates\.total\.per=minute: rates of this cell are per datum, sample, second"):
        EMD.check(cell(rates={"total": {"kind": "target", "target": 1.0, "per": "minute"}}))


@pytest.mark.parametrize(
    "model",
    [STRUCTURES["sudormrf"], STRUCTURES["sepformer"], STRUCTURES["adaptive"]],
    ids=["sudormrf", "sepformer", "adaptive"],
)
def test_models_that_0_1_had_otherwise_are_other_cells(model: dict[str, Any]) -> None:
    assert list(identities_of_0_1(EMD, cell(model), ["data"])) == []
    assert list(identities_of_0_1(EMD, cell(), ["data"])) != []


def test_parameters_that_are_not_finite_are_refused_with_their_row(data: DataSet) -> None:
    test = data.domains[2]
    parameters = test.arrays["parameters"].copy()
    parameters[4, 1, 2, 0] = np.nan
    with pytest.raises(UserError, match=r"pulses\.test: row 4 has a parameter that is not finite"):
        problem(dataclasses.replace(data, domains=(*data.domains[:2], changed(test, parameters), *data.domains[3:])))


def refused(*settings: tuple[str, Any]) -> str:
    """What a user is told of a configuration with `settings`."""
    with pytest.raises(UserError) as error:
        EMD.check(build(SeparatorCell, dict(settings)))
    message = str(error.value)
    assert "\n" not in message
    return message


THREE = [[300.0, 400.0], [100.0, 200.0], [20.0, 50.0]]


def test_what_cannot_be_trained_is_refused_in_one_line() -> None:
    three = ("data.condition.speakers", THREE)
    assert "have 3 sources, the model separates 2; set model.speakers=3" in refused(three)
    assert "have 2 sources, the model separates 1" in refused(("model.speakers", 1))
    assert "have 16000 Hz, the model is made for 8000 Hz" in refused(("data.condition.sample_rate", 16000))
    assert "12 samples is no multiple of the stride" in refused(("model.kernel", 12))
    assert "model.latents" in refused(("model.latents", 0))
    assert "1600 samples, a frame needs 2048" in refused(("data.condition.seconds", 0.2), ("model.kernel", 2048))
    adaptive = ("model.prior.kind", "adaptive")
    assert "only sums of Gaussian and of gamma" in refused(("model.encoding", "log_normal"), adaptive)


def test_a_target_rate_of_a_deterministic_twin_is_refused() -> None:
    twin = (("model.encoding", "deterministic"), ("model.masks", "relu"))
    target = (("rates.total.kind", "target"), ("rates.total.target", 1.0))
    assert "has no rate, so none named 'total'" in refused(*twin, *target)
    assert "has no rate, so none named 'masks'" in refused(*twin, ("free_nats.masks.nats", 1.0))
    assert "no rate named 'encoding'; it has masks" in refused(twin[0], ("free_nats.encoding.nats", 1.0))


def test_data_of_other_signals_than_the_model_is_made_for_are_refused(data: DataSet) -> None:
    test = data.domains[2]
    assert isinstance(test.condition, PulseCondition)
    more = pad(torch.tensor(test.arrays["parameters"]), (0, 0, 0, 0, 0, 1)).numpy()
    condition = PulseCondition(seconds=0.25, scale=(0.01, 0.05), speakers=tuple(map(tuple, THREE)))
    other = dataclasses.replace(changed(test, more), condition=condition)
    with pytest.raises(UserError, match=r"pulses\.test: its mixtures have 3 sources"):
        problem(dataclasses.replace(data, domains=(*data.domains[:2], other, *data.domains[3:])))


def test_what_is_loaded_is_what_the_configuration_says() -> None:
    config = cell(data={"replicate": 2, "rows": {"train": 5, "valid": 4, "test": 3}, "condition": {"seconds": 0.25}})
    found = EMD.load("pulses:conditions=sines_2+noise_1", config)
    assert [len(domain) for domain in found.domains] == [5, 4, 3, 3, 3]
    assert found.domains[0].arrays["indices"][0] == 200_000
    assert EMD.loading(config) != EMD.loading(cell())


def test_the_kind_of_data_that_there_was_before_any_other_is_no_part_of_an_identity() -> None:
    """Or every cell of pulses would be trained again since there are voices."""
    pulses = EMD.config.model_validate({"data": {"replicate": 2}})
    assert differing(pulses)["data"] == {"replicate": 2}
    assert "data" not in differing(EMD.config())
    assert differing(EMD.config.model_validate({"data": {"kind": "speech"}}))["data"] == {"kind": "speech"}
    assert EMD.config.model_validate({"data": {"replicate": 2}}).data.kind == "pulses"  # as files of 0.1 have it


def test_a_seeds_own_replicate_has_mixtures_that_no_other_seed_has() -> None:
    def indices(seed: int) -> set[int]:
        config = cell(seed=seed, data={"replicate": 0, "rows": {"train": 5, "valid": 4, "test": 3}})
        found = EMD.load("pulses:conditions=noise_1", config)
        return {int(index) for domain in found.domains for index in domain.arrays["indices"]}

    first, second = indices(0), indices(1)
    assert min(first) == 100_000
    assert min(second) == 200_000
    assert not first & second
