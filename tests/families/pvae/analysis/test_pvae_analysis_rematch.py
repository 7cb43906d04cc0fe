"""Cells judged anew: every model meets the same listeners, and differences are within them."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from vaesweep.data.domains import DataSet, Role
from vaesweep.errors import UserError
from vaesweep.families.pvae.analysis.baselines import fit
from vaesweep.families.pvae.analysis.rematch import (
    KINDS,
    areas_of,
    as_markdown,
    compared,
    rematch,
    stacked_predictor,
)
from vaesweep.families.pvae.family import PartialVaeCell
from vaesweep.family import family
from vaesweep.training import finished
from vaesweep.training.finished import FinishedCell
from vaesweep.training.loop import start_state, train_pack

SAMPLES = 16
JUDGED = {"synthetic.valid", "synthetic.test", "small_corruption", "large_corruption"}


class Keeper:
    """Keeps the files of finished cells."""

    def __init__(self, configs: dict[str, PartialVaeCell]) -> None:
        self.configs = configs
        self.files: dict[str, bytes] = {}

    def progress(self, *_: object) -> None: ...

    def checkpoint(self, *_: object) -> None: ...

    def finished(self, result: Any) -> None:
        config = self.configs[result.cell].model_dump(mode="json")
        self.files[result.cell] = finished.to_bytes(finished.of_result(result, "pvae", config, {}))


def trained(data: DataSet, seeds: tuple[int, ...], hidden: int = 8) -> list[FinishedCell]:
    configs = {
        f"cell{seed}": PartialVaeCell.model_validate(
            {
                "seed": seed,
                "model": {"latents": 2, "hidden": hidden, "features": 8},
                "training": {"steps": 20, "evaluate_every": 20},
            }
        )
        for seed in seeds
    }
    first = next(iter(configs.values()))
    problem = family("pvae").problem(first, data, torch.device("cpu"))
    keeper, all_configs = Keeper(configs), list(configs.values())
    train_pack(problem, all_configs, start_state(problem, all_configs, list(configs)), keeper)
    return [finished.from_bytes(file, name) for name, file in keeper.files.items()]


@pytest.fixture(scope="module")
def data() -> DataSet:
    return family("pvae").example()


@pytest.fixture(scope="module")
def cells(data: DataSet) -> list[FinishedCell]:
    return trained(data, (0, 1))


@pytest.fixture(scope="module")
def table(cells: list[FinishedCell], data: DataSet) -> pd.DataFrame:
    return rematch({"0": cells}, {"0": data}, SAMPLES)


def test_every_model_is_judged_on_all_listeners_of_every_domain_but_the_training_one(
    table: pd.DataFrame, data: DataSet
) -> None:
    sizes = {domain.name: len(domain) for domain in data.domains}
    assert len(table) == len(JUDGED) * (3 + 2 * len(KINDS) - 1)
    for _, rows in table.groupby("model"):
        assert {row.domain: row.n_data for row in rows.itertuples()} == {name: sizes[name] for name in JUDGED}


def test_an_area_is_the_mean_over_listeners_and_seeds(
    table: pd.DataFrame, cells: list[FinishedCell], data: DataSet
) -> None:
    areas = areas_of(stacked_predictor(cells, SAMPLES, weighted=True), data)["synthetic.test"]
    row = table[(table["model"] == "partial VAE") & (table["domain"] == "synthetic.test")].iloc[0]
    assert row["n"] == len(cells) == len(areas)
    assert row["area"] == pytest.approx(float(areas.mean()))
    assert row["low"] < row["area"] < row["high"]


def test_differences_are_to_the_mixture_that_validation_chooses_which_has_none(table: pd.DataFrame) -> None:
    mixtures = table[table["model"].str.startswith("Gaussian") & ~table["model"].str.endswith("together")]
    valid = mixtures[mixtures["role"] == Role.VALID].set_index("model")["area"]
    chosen = valid.idxmin()
    rows = table[table["domain"] == "synthetic.test"].set_index("model")
    reference = rows.loc[chosen]
    assert np.isnan(reference["difference"])
    others = rows.drop(index=reference.name)
    np.testing.assert_allclose(others["difference"], others["area"] - reference["area"], atol=1e-9)
    assert (others["difference_low"] < others["difference"]).all()
    assert chosen in compared(table)


def test_a_cell_judged_alone_is_judged_as_in_its_pack(cells: list[FinishedCell], data: DataSet) -> None:
    both = areas_of(stacked_predictor(cells, SAMPLES, weighted=True), data)
    for place, cell in enumerate(cells):
        alone = areas_of(stacked_predictor([cell], SAMPLES, weighted=True), data)
        for domain in JUDGED:
            torch.testing.assert_close(alone[domain][0], both[domain][place], rtol=1e-4, atol=1e-3)


def test_every_model_is_judged_by_the_rule_asked_for(cells: list[FinishedCell], data: DataSet) -> None:
    table = rematch({"0": cells}, {"0": data}, SAMPLES, rule="reduction").set_index(["model", "domain"])
    changed = []
    for name, model in (
        ("partial VAE", stacked_predictor(cells, SAMPLES, weighted=True)),
        ("Gaussian mixture of 10", fit(data.domain(Role.TRAIN).arrays["x"], 10)),
    ):
        by_rule, usual = (areas_of(model, data, *rule)["synthetic.test"].mean() for rule in (("reduction",), ()))
        assert table.loc[(name, "synthetic.test"), "area"] == pytest.approx(float(by_rule))
        changed.append(float(by_rule) != float(usual))
    assert any(changed), "a rule that makes no difference would not be told from another"


def test_cells_of_other_shapes_are_refused(cells: list[FinishedCell], data: DataSet) -> None:
    with pytest.raises(UserError, match="different shapes"):
        stacked_predictor([*cells, *trained(data, (2,), hidden=9)], SAMPLES, weighted=True)


def test_people_get_a_column_a_domain(table: pd.DataFrame) -> None:
    head, _, *rows = as_markdown(table).splitlines()
    assert head.count("|") == 2 + len(JUDGED)
    assert len(rows) == table["model"].nunique()
