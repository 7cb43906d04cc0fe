"""Further qualities of separated speech: those of their libraries, of the right sources, and never a NaN in a mean."""

import importlib
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from voices import SEPARATOR, voice, write_voices

from vaesweep.errors import UserError
from vaesweep.families.emd import evaluation, qualities
from vaesweep.families.emd.evaluation import EstimatesConfig, use_qualities
from vaesweep.families.emd.family import SeparatorCell
from vaesweep.families.emd.models.separator import Separator, SeparatorConfig
from vaesweep.families.emd.qualities import QUALITIES, Quality
from vaesweep.family import family
from vaesweep.sweep.identity import identity
from vaesweep.sweep.settings import build
from vaesweep.training.evaluate import final_uses
from vaesweep.training.problem import Uses
from vaesweep.training.stack import Stack, initial_rows
from vaesweep.training.world import World

EMD = family("emd")
CPU = torch.device("cpu")
NARROW = 8000


def need_libraries() -> None:
    for name in ("pystoi", "pesq"):
        pytest.importorskip(name)


def pair(rate: int = NARROW, seconds: float = 1.5) -> Tensor:
    """Two voices, float32 `[speaker, time]`."""
    return torch.tensor(np.stack([voice(seed, seconds, rate) for seed in (0, 1)]))


def judge(name: Quality, source: Tensor, estimate: Tensor, rate: int = NARROW) -> float:
    found = qualities.judge([name], source[None, None], estimate[None, None], torch.ones(1, 1, dtype=torch.bool), rate)
    return float(found[name])


# --- what each quality is ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("rate", "band"), [(8000, "nb"), (16000, "wb")])
def test_stoi_and_pesq_are_their_libraries(rate: int, band: str) -> None:
    need_libraries()
    source, other = pair(rate)
    estimate = source + 0.3 * other
    x, y = source.double().numpy(), estimate.double().numpy()
    direct = {
        "stoi": importlib.import_module("pystoi").stoi(x, y, rate),
        "estoi": importlib.import_module("pystoi").stoi(x, y, rate, extended=True),
        "pesq": importlib.import_module("pesq").pesq(rate, x, y, band),
    }
    assert len({round(value, 3) for value in direct.values()}) == 3
    for name in ("stoi", "estoi", "pesq"):
        assert judge(name, source, estimate, rate) == pytest.approx(direct[name], abs=2e-4), name


@pytest.mark.parametrize("name", QUALITIES)
def test_gain_and_sign_which_the_likelihood_leaves_free_do_not_matter(name: Quality) -> None:
    need_libraries()
    source, other = pair()
    estimate = source + 0.3 * other
    value = judge(name, source, estimate)
    for gain in (-1.0, 1e-5, -3e4):
        assert judge(name, source, gain * estimate) == pytest.approx(value, abs=1e-3)


def test_the_extended_stoi_is_the_same_each_time_and_leaves_numpys_numbers_alone() -> None:
    need_libraries()
    source, other = pair()
    estimate = other.clone()
    estimate[4000:] = 0  # where nothing but the library's noise is left to correlate
    np.random.seed(5)  # noqa: NPY002
    expected = np.random.random()  # noqa: NPY002
    np.random.seed(5)  # noqa: NPY002
    assert judge("estoi", source, estimate) == judge("estoi", source, estimate)
    assert np.random.random() == expected  # noqa: NPY002


@pytest.mark.parametrize("name", QUALITIES)
def test_of_silence_and_of_what_is_too_short_there_is_no_value_and_no_error(name: Quality) -> None:
    need_libraries()
    source, other = pair()
    inaudible = torch.zeros(1, 1, dtype=torch.bool)
    found = qualities.judge([name], source[None, None], other[None, None], inaudible, NARROW)
    assert np.isnan(float(found[name]))
    for nothing in (0.0, torch.nan):
        assert np.isnan(judge(name, source, source * nothing))
    if name != "sdr":
        assert np.isnan(judge(name, source[:1500], other[:1500]))
        assert np.isnan(judge(name, source[:100], other[:100]))


def test_speech_too_short_among_silence_has_no_stoi() -> None:
    need_libraries()
    source, other = pair()
    source[2000:] = 0
    for name in ("stoi", "estoi"):
        assert np.isnan(judge(name, source, other))


def test_a_signal_longer_than_the_library_survives_has_no_pesq() -> None:
    """Beyond 50 utterances it ends the process; fewer fit into what is given to it."""
    need_libraries()
    syllable = torch.tensor(np.concatenate([voice(0, 0.3, NARROW), np.zeros(1700, np.float32)]))
    for seconds, has in ((19, True), (40, False)):
        source = syllable.repeat(seconds * 2)[: seconds * NARROW]
        assert np.isfinite(judge("pesq", source, source + 0.01 * source.flip(-1))) == has


# --- of trained models -------------------------------------------------------------------------------------------


class Given(Separator):
    """A separator whose outputs are the mixture's true sources, in another order and with an error, times a gain."""

    gain = 1.0

    def separate_by_points(self, mixture: Tensor) -> Any:
        own, other = pair(NARROW, mixture.shape[-1] / NARROW)
        estimates = self.gain * torch.stack([other + 0.1 * own, -own + 0.3 * other])
        return None, None, (estimates.expand(len(mixture), -1, -1),)


class Silent(Given):
    gain = 0.0


CONFIG = SeparatorConfig(encoding="deterministic", masks="relu")


def judged(sources: Tensor, names: tuple[Quality, ...], model: type[Separator] = Given, cells: int = 1) -> Uses:
    """Of mixtures that are the sums of `sources` `[mixture, speaker, time]`, one at a time."""
    stack = Stack(model(CONFIG), initial_rows(lambda: model(CONFIG), range(cells)))

    def signals_of(domain: str, rows: slice) -> Mapping[str, Tensor]:
        return {"mixture": sources[rows].sum(1), "sources": sources[rows]}

    def chunks(domain: str, rows: slice, size: int) -> Any:
        return (slice(row, row + 1) for row in range(rows.start, rows.stop))

    return use_qualities(stack, {"far": len(sources)}, signals_of, chunks, CONFIG, names)


def test_each_source_is_judged_with_the_estimate_that_separation_gives_it() -> None:
    need_libraries()
    own, other = pair()
    uses = judged(torch.stack([own, other])[None], QUALITIES, cells=2)
    estimates = -own + 0.3 * other, other + 0.1 * own
    for name in QUALITIES:
        wanted = np.mean([judge(name, s, e) for s, e in zip((own, other), estimates, strict=True)])
        before = np.mean([judge(name, s, own + other) for s in (own, other)])
        beside = ("sdri.mode", wanted - before) if name == "sdr" else (f"{name}.mixture", before)
        for metric, value in ((f"{name}.mode", wanted), beside, (f"{name}.left_out", 0.0)):
            assert uses.metrics[f"far/{metric}"].tolist() == pytest.approx([value, value], abs=1e-4), metric
            if "left_out" not in metric:
                assert uses.kept[f"rows/far/{metric}"].shape == (2, 1)
                assert float(uses.kept[f"rows/far/{metric}"][1, 0]) == pytest.approx(value, abs=1e-4)
    assert {name.removeprefix("far/") for name in uses.metrics} == set(evaluation.FURTHER)


def test_an_inaudible_source_is_in_no_mean_and_not_counted_as_left_out() -> None:
    need_libraries()
    own, other = pair()
    uses = judged(torch.stack([own, 1e-4 * other])[None], ("stoi",))
    assert float(uses.metrics["far/stoi.mixture"]) == pytest.approx(judge("stoi", own, own + 1e-4 * other), abs=1e-6)
    assert float(uses.metrics["far/stoi.left_out"]) == 0


def test_what_has_no_value_is_left_out_and_counted() -> None:
    """Half a second of a whole mixture, and of another a source that speaks for a quarter of one."""
    need_libraries()
    own, other = pair()
    brief = other.clone()
    brief[2000:] = 0
    uses = judged(torch.stack([torch.stack([own, other]), torch.stack([own, brief])]), ("stoi",))
    alone = [judged(torch.stack([own, second])[None], ("stoi",)) for second in (other, brief)]
    assert float(uses.metrics["far/stoi.left_out"]) == 1
    both, one = (2 * float(alone[0].metrics["far/stoi.mode"]), float(alone[1].metrics["far/stoi.mode"]))
    assert float(uses.metrics["far/stoi.mode"]) == pytest.approx((both + one) / 3, abs=1e-6)


def test_a_domain_of_which_nothing_has_a_value_has_no_mean_and_no_nan() -> None:
    need_libraries()
    sources = pair(seconds=0.2)[None]
    uses = judged(sources, QUALITIES)
    assert {name for name in uses.metrics if "sdr" not in name} == {
        f"far/{name}.left_out" for name in ("stoi", "estoi", "pesq")
    }
    assert float(uses.metrics["far/pesq.left_out"]) == 2
    assert all(bool(value.isfinite().all()) for value in uses.metrics.values())
    assert set(uses.kept) == {"rows/far/sdr.mode", "rows/far/sdri.mode"}


def test_a_silent_estimate_is_the_worst_and_is_not_left_out() -> None:
    need_libraries()
    uses = judged(pair()[None], QUALITIES, Silent)
    found = {name: float(uses.metrics[f"far/{name}.mode"]) for name in QUALITIES}
    assert found == pytest.approx({"sdr": -120.0, "stoi": 0.0, "estoi": 0.0, "pesq": 1.02})
    assert all(float(uses.metrics[f"far/{name}.left_out"]) == 0 for name in QUALITIES)


# --- of cells ----------------------------------------------------------------------------------------------------

SMALL = SEPARATOR | {
    "data.rows.valid": 2,
    "data.rows.test": 3,
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VAESWEEP_CACHE", str(tmp_path / "cache"))
    return write_voices(tmp_path / "voices")


def test_finished_cells_have_the_qualities_that_are_asked_for_on_all_domains_but_trainings(folder: Path) -> None:
    need_libraries()
    config = build(EMD.config, SMALL | {"evaluation.qualities": ["stoi", "sdr"], "evaluation.samples": 2})
    EMD.check(config)
    data = EMD.load(f"speech:{folder}", config)
    problem = EMD.problem(config, data, CPU)
    uses = final_uses(Stack(problem.build(), initial_rows(problem.build, [0, 1])), problem, 4, World())
    asked = {"sdr.mode", "sdri.mode", "sdr.left_out", "stoi.mode", "stoi.mixture", "stoi.left_out"}
    further = {*evaluation.FURTHER, *evaluation.OF_MEANS}
    found = {name for name in uses.metrics if name.rpartition("/")[2] in further}
    judged_domains = ("voices.valid", "voices.test")
    assert found == {f"{d}/{name}" for d in judged_domains for name in (*asked, *evaluation.OF_MEANS)}
    assert set(evaluation.FURTHER) <= set(EMD.metrics)
    for domain, rows in zip(judged_domains, (2, 3), strict=True):
        for name in ("sdri.mode", "stoi.mode", "stoi.mixture"):
            kept = uses.kept[f"rows/{domain}/{name}"]
            assert kept.shape == (2, rows)
            torch.testing.assert_close(kept.double().mean(-1), uses.metrics[f"{domain}/{name}"], rtol=1e-5, atol=1e-5)


def test_qualities_are_no_part_of_what_a_cell_trains_on_and_their_order_says_nothing() -> None:
    def named(*names: str) -> str:
        return identity(EMD, build(SeparatorCell, {"evaluation.qualities": list(names)}), "data")

    plain = identity(EMD, SeparatorCell(), "data")
    assert named() == plain
    assert named("stoi").startswith(f"{plain}-")
    assert named("stoi", "sdr", "stoi") == named("sdr", "stoi") != named("stoi")


@pytest.mark.parametrize(("quality", "library"), [("stoi", "pystoi"), ("estoi", "pystoi"), ("pesq", "pesq")])
def test_a_missing_library_is_named_before_training_with_the_command_that_installs_it(
    quality: str, library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = build(SeparatorCell, {"evaluation.qualities": [quality]})
    data = EMD.example()
    monkeypatch.setitem(sys.modules, library, None)
    message = rf"evaluation\.qualities: {quality} takes {library}, .* pip install 'vaesweep\[speech\]'"
    with pytest.raises(UserError, match=message):
        EMD.check(config)
    with pytest.raises(UserError, match=message):  # where a cell trains, which may be another machine
        EMD.problem(config, data, CPU)
    EMD.check(build(SeparatorCell, {"evaluation.qualities": ["sdr"]}))


def test_pesq_of_a_rate_that_it_does_not_know_is_refused() -> None:
    need_libraries()
    settings = {"model.sample_rate": 10000, "data.condition.sample_rate": 10000}
    EMD.check(build(SeparatorCell, settings | {"evaluation.qualities": ["stoi", "sdr"]}))
    with pytest.raises(UserError, match=r"pesq is of signals of 8000 and 16000 Hz, the model is made for 10000 Hz"):
        EMD.check(build(SeparatorCell, settings | {"evaluation.qualities": ["pesq"]}))


def test_an_unknown_quality_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(UserError, match=r"evaluation\.qualities.*'sdr', 'stoi', 'estoi' or 'pesq'"):
        build(SeparatorCell, {"evaluation.qualities": ["loudness"]})
    assert EstimatesConfig().qualities == ()
