"""Generalisation tables: planted drops and differences are found, with intervals over all that was drawn."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from toy_sweeps import of_variants

from vaesweep.analysis.intervals import crossed_interval, t_interval
from vaesweep.analysis.runs import Runs
from vaesweep.data.domains import DataSet, Domain, Role
from vaesweep.families.emd.analysis.generalisation import (
    SI_SDRI,
    Judged,
    differences_table,
    generalisation_table,
    judged,
    per_mixture,
)
from vaesweep.families.emd.analysis.scope import heard, noise_note
from vaesweep.families.emd.data.speech import SpeechSource
from vaesweep.families.emd.data.speech.mixing import Sound
from vaesweep.family import family
from vaesweep.training.finished import FinishedCell

DOMAINS = {"voices.test": Role.TEST, "other": Role.UNSEEN}
LEVELS = {"tasnet": (8.0, 6.0), "tasnet_deterministic": (7.0, 4.0)}  # dB on seen and unseen data
MIXTURES, SEEDS = 40, 3


def finished(variant: str, seed: int, fingerprints: dict[str, str]) -> FinishedCell:
    """A cell whose mixtures have a difficulty that all models share, and two sources, one inaudible in the first."""
    kept = {}
    for number, domain in enumerate(DOMAINS):
        hard = np.random.default_rng((number, int(fingerprints[domain][-1]))).normal(size=MIXTURES)
        own = np.random.default_rng((seed, number, len(variant))).normal(size=MIXTURES)
        values = torch.tensor(LEVELS[variant][number] + 2 * hard + 0.1 * own)
        audible = torch.full((MIXTURES,), 2.0)
        audible[0] = 1.0
        kept |= {f"rows/{domain}/si_sdri.mode": values * audible, f"rows/{domain}/audible": audible}
    return FinishedCell(f"{variant}-{seed}", "emd", {}, 1, {}, None, (), (1,), {}, {}, kept, domains=dict(fingerprints))


def made_up(shared: bool = True) -> tuple[Runs, list[FinishedCell]]:
    places = [(variant, seed) for variant in LEVELS for seed in range(SEEDS)]
    cells = [finished(v, s, dict.fromkeys(DOMAINS, f"f{0 if shared else s}")) for v, s in places]
    return of_variants(LEVELS, SEEDS, DOMAINS, MIXTURES), cells


def test_a_mixtures_value_is_the_mean_over_its_audible_sources() -> None:
    _, (cell, *_) = made_up()
    found = per_mixture(cell)
    assert found.keys() == DOMAINS.keys()
    sums = cell.kept["rows/other/si_sdri.mode"]
    np.testing.assert_allclose(found["other"][1:], sums[1:] / 2)
    assert found["other"][0] == pytest.approx(float(sums[0]))
    assert per_mixture(replace(cell, kept={})) == {}


def test_the_planted_levels_and_drops_are_found() -> None:
    runs, cells = made_up()
    table = generalisation_table(runs, judged(runs, cells)).set_index(["model", "domain"])
    for model, (seen, unseen) in LEVELS.items():
        row = table.loc[(model, "other")]
        assert row["low"] < unseen < row["high"]
        assert row["drop_low"] < seen - unseen < row["drop_high"]
        assert row["relative_drop"] == pytest.approx(row["drop"] / table.loc[(model, "voices.test"), "si_sdri"])
        assert np.isnan(table.loc[(model, "voices.test"), "drop"])


def test_models_are_compared_within_seed_and_mixture() -> None:
    """The difficulty of mixtures, two decibels, is no part of a difference's interval."""
    runs, cells = made_up()
    found = differences_table(judged(runs, cells)).set_index("domain")
    for number, domain in enumerate(DOMAINS):
        difference = LEVELS["tasnet"][number] - LEVELS["tasnet_deterministic"][number]
        assert found.loc[domain, "low"] < difference < found.loc[domain, "high"]
        assert found.loc[domain, "high"] - found.loc[domain, "low"] < 0.3
    assert len(found) == 2


def test_an_interval_is_over_mixtures_too_where_seeds_share_them() -> None:
    runs, cells = made_up()
    own = judged(runs, cells)[SI_SDRI]["tasnet"]["other"]
    assert own.shared
    values = np.stack(list(own.values.values()))
    assert own.interval == crossed_interval(values)
    assert own.interval.high - own.interval.low > 1.0
    seeds = t_interval(values.mean(1))
    assert seeds.high - seeds.low < 0.2


def test_seeds_with_mixtures_of_their_own_are_their_interval() -> None:
    runs, cells = made_up(shared=False)
    own = judged(runs, cells)[SI_SDRI]["tasnet"]["other"]
    assert not own.shared
    assert own.interval == t_interval(np.stack(list(own.values.values())).mean(1))


def of_seeds(values: np.ndarray, data: str = "same") -> Judged:
    """Seeds 0, 1, … with the rows of `values`."""
    return Judged({str(seed): own for seed, own in enumerate(values)}, {str(seed): data for seed in range(len(values))})


def test_seeds_are_matched_by_name_and_mixtures_by_what_they_are() -> None:
    """A model that lacks a seed, one with more mixtures, and one with others in the same number."""
    values = np.arange(12.0).reshape(3, 4)
    whole, last = of_seeds(values), Judged({"2": values[2] - 1}, {"2": "same"})
    assert whole.less(last).mean == 1.0
    assert whole.drop_to(last).mean == 1.0
    assert np.isnan(whole.less(of_seeds(values[:, :2], "fewer")).mean)
    assert np.isnan(whole.less(of_seeds(values, "others")).mean)
    assert np.isnan(whole.drop_to(Judged({"7": values[0]}, {"7": "same"})).mean)


def test_a_mixture_without_a_sound_is_no_improvement() -> None:
    _, (cell, *_) = made_up()
    kept = dict(cell.kept)
    for name in ("si_sdri.mode", "audible"):
        kept[f"rows/other/{name}"] = kept[f"rows/other/{name}"].clone()
        kept[f"rows/other/{name}"][3] = 0.0
    assert per_mixture(replace(cell, kept=kept))["other"][3] == 0.0


def test_a_drops_interval_holds_the_truth_nineteen_times_in_twenty() -> None:
    draw, held = np.random.default_rng(5), []
    for _ in range(600):
        seeds = 0.3 * draw.normal(size=(3, 1))
        values = [
            level + sign * seeds + 2 * draw.normal(size=(1, count)) + draw.normal(size=(3, count))
            for level, sign, count in ((8.0, 1, 60), (6.0, -1, 30))
        ]
        seen, unseen = (of_seeds(own) for own in values)
        drop = seen.drop_to(unseen)
        held.append(drop.low < 2.0 < drop.high)
    assert 0.92 <= np.mean(held) <= 0.99


def test_one_mixture_gives_a_drop_no_interval() -> None:
    """And none without width either."""
    drop = of_seeds(np.array([[8.0], [9.0]])).drop_to(of_seeds(np.array([[6.0, 5.0], [6.5, 6.0]])))
    assert drop.mean == pytest.approx(2.625)
    assert np.isnan([drop.low, drop.high]).all()


def test_a_twin_beside_cells_with_targets_has_the_name_of_its_regime() -> None:
    runs, cells = made_up()
    targets = [100.0 if variant == "tasnet" else None for variant in runs.cells["variant"]]
    with_targets = replace(runs, cells=runs.cells.assign(**{"rates.total.target": targets}))
    assert set(judged(with_targets, cells)[SI_SDRI]) == {"tasnet, target 100", "tasnet_deterministic"}


def test_one_seed_has_values_and_no_interval() -> None:
    own = of_seeds(np.ones((1, 5)))
    assert own.interval.mean == 1.0
    assert np.isnan(own.interval.low)
    assert np.isnan(own.drop_to(own).low)


# --- further qualities -------------------------------------------------------------------------------------------

STOI = {"tasnet": (0.8, 0.7), "tasnet_deterministic": (0.75, 0.5)}  # of the mode, on seen and unseen data


def with_stoi(cell: FinishedCell, missing: int | None = None) -> FinishedCell:
    """The cell with STOI of every mixture, but for one of the unseen data that has none."""
    variant, seed = cell.cell.rsplit("-", 1)
    kept = dict(cell.kept)
    for number, domain in enumerate(DOMAINS):
        hard = 0.05 * np.random.default_rng(number).normal(size=MIXTURES)
        own = 0.01 * np.random.default_rng((int(seed), number, len(variant))).normal(size=MIXTURES)
        values = torch.tensor(STOI[variant][number] + hard + own)
        mixtures = torch.tensor(0.6 + hard)
        if missing is not None and number:
            values[missing] = mixtures[missing] = torch.nan
        kept |= {f"rows/{domain}/stoi.mode": values, f"rows/{domain}/stoi.mixture": mixtures}
    return replace(cell, kept=kept)


@pytest.mark.parametrize("missing", [None, 7])
def test_a_further_quality_has_columns_with_its_own_intervals_and_drops(missing: int | None) -> None:
    runs, cells = made_up()
    cells = [with_stoi(cell, missing) for cell in cells]
    table = generalisation_table(runs, judged(runs, cells)).set_index(["model", "domain"])
    assert [name for name in table if name.startswith(("stoi", "estoi", "pesq", "sdri"))] == [
        *("stoi", "stoi_low", "stoi_high", "stoi_mixture", "stoi_drop", "stoi_drop_low", "stoi_drop_high"),
    ]
    for model, (seen, unseen) in STOI.items():
        row = table.loc[(model, "other")]
        assert row["stoi_low"] < unseen < row["stoi_high"]
        assert row["stoi_drop_low"] < seen - unseen < row["stoi_drop_high"]
        assert row["stoi_mixture"] == pytest.approx(0.6, abs=0.03)
        assert np.isnan(table.loc[(model, "voices.test"), "stoi_drop"])
    own = [cell.kept["rows/other/stoi.mode"].numpy() for cell in cells if cell.cell.startswith("tasnet-")]
    whole = np.delete(np.stack(own), [] if missing is None else [missing], axis=1)
    interval = crossed_interval(whole)
    row = table.loc[("tasnet", "other")]
    assert (row["stoi"], row["stoi_low"], row["stoi_high"]) == pytest.approx(
        (interval.mean, interval.low, interval.high)
    )


def test_further_qualities_are_compared_within_seed_and_mixture() -> None:
    runs, cells = made_up()
    found = differences_table(judged(runs, [with_stoi(cell, 7) for cell in cells])).set_index("domain")
    for number, domain in enumerate(DOMAINS):
        difference = STOI["tasnet"][number] - STOI["tasnet_deterministic"][number]
        assert found.loc[domain, "stoi_low"] < difference < found.loc[domain, "stoi_high"]
        assert found.loc[domain, "stoi_high"] - found.loc[domain, "stoi_low"] < 0.03


def test_a_model_that_was_not_judged_so_has_no_value_and_takes_none_from_the_others() -> None:
    runs, cells = made_up()
    some = [with_stoi(cell) if cell.cell.startswith("tasnet-") else cell for cell in cells]
    table = generalisation_table(runs, judged(runs, some)).set_index(["model", "domain"])
    assert table.loc[("tasnet", "other"), "stoi"] == pytest.approx(0.7, abs=0.03)
    assert np.isnan(table.loc[("tasnet_deterministic", "other"), "stoi"])
    assert np.isfinite(table.loc[("tasnet_deterministic", "other"), "si_sdri"])
    assert np.isnan(differences_table(judged(runs, some))["stoi"]).all()


@pytest.mark.parametrize("shared", [True, False])
def test_a_quality_that_no_mixture_has_is_nan(shared: bool) -> None:
    empty = Judged(
        {str(seed): np.full(4, np.nan) for seed in range(3)}, {str(s): f"{s * (not shared)}" for s in range(3)}
    )
    assert np.isnan(empty.interval.mean)
    assert np.isnan(empty.drop_to(of_seeds(np.ones((3, 4)))).mean)
    assert np.isnan(of_seeds(np.ones((3, 4))).less(of_seeds(np.full((3, 4), np.nan))).mean)


def test_seeds_with_mixtures_of_their_own_each_leave_out_theirs() -> None:
    values = np.array([[1.0, np.nan, 3.0], [np.nan, 6.0, 8.0]])
    own = Judged({"0": values[0], "1": values[1]}, {"0": "a", "1": "b"})
    assert own.means == {"0": 2.0, "1": 7.0}
    shared = Judged({"0": values[0], "1": values[1]}, {"0": "a", "1": "a"})
    assert shared.means == {"0": 3.0, "1": 8.0}


class Voices(SpeechSource):
    """Mixtures of recordings that nobody listens to, with noise or without."""

    def __init__(self, noisy: bool) -> None:
        super().__init__([8000], 1, 8000)
        self.is_noisy = noisy

    @property
    def noisy(self) -> bool:
        return self.is_noisy

    def sound(self, row: int) -> Sound:
        raise NotImplementedError

    drawn = sound


def voices(**noisy: bool) -> DataSet:
    roles = (Role.TRAIN, Role.VALID, Role.TEST, Role.UNSEEN)
    named = zip(noisy.items(), roles, strict=True)
    return DataSet(tuple(Domain(n, r, {"a": np.zeros(1)}, source=Voices(is_noisy)) for (n, is_noisy), r in named), ())


def test_noise_is_known_by_domain_of_recordings_and_of_pulses() -> None:
    assert heard(voices(a=True, b=False, c=False, d=True)) == {"a": "noisy", "b": "clean", "c": "clean", "d": "noisy"}
    pulses = heard(family("emd").example())
    assert pulses == dict.fromkeys(pulses, "noisy") | {"noise_0": "clean"}


def test_where_voices_are_judged_in_noise_a_line_says_what_references_are_and_asks_for_stoi() -> None:
    noisy = voices(a=True, b=True, c=False, d=True)
    (line,) = noise_note(noisy, ["si_sdri.mode"])
    assert "there is noise in d; references are the clean sources; STOI" in line
    assert "evaluation.qualities=[[stoi]]" in line
    (line,) = noise_note(noisy, ["si_sdri.mode", "stoi.mode"])
    assert line.endswith("there is noise in d; references are the clean sources")
    assert list(noise_note(voices(a=True, b=True, c=False, d=False), [])) == []
    assert list(noise_note(family("emd").example(), [])) == []


def test_the_table_says_what_is_heard_and_that_references_are_clean() -> None:
    runs, cells = made_up()
    table = generalisation_table(runs, judged(runs, cells), {"other": "noisy", "voices.test": "clean"})
    assert set(zip(table["domain"], table["heard"], strict=True)) == {("other", "noisy"), ("voices.test", "clean")}
    assert set(table["references"]) == {"clean sources"}
