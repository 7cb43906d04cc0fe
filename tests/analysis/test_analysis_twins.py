"""Models without rates are in the table and have gaps, but are no points of a curve."""

import pandas as pd
import pytest

from vaesweep.analysis.curves import rd_curve
from vaesweep.analysis.gaps import gap_table
from vaesweep.analysis.table import finished, on_curve
from vaesweep.vocabulary import Outcome


@pytest.fixture
def table() -> pd.DataFrame:
    """Four cells towards rates, and a twin without that is better than all of them."""
    rows = []
    for cell, rate in enumerate([1.0, 2.0, 4.0, 8.0, 0.0]):
        for domain, role in (("a.train", "train"), ("a.test", "test")):
            distortion = (10 - rate if rate else 0.0) + (role == "test")
            row = {"cell": str(cell), "seed": 0, "target_rate": rate or float("nan"), "domain": domain, "role": role}
            row |= {"rate": rate, "distortion": distortion, "elbo": -(rate + distortion), "saturated": ""}
            row |= {"outcome": Outcome.FINISHED, "variant": "curve" if rate else "twin"}
            rows.append(row | {"rate.encoding": rate or float("nan"), "si_sdri": rate})
    return pd.DataFrame(rows)


def test_a_twin_is_finished_and_not_on_the_curve(table: pd.DataFrame) -> None:
    assert set(finished(table)["cell"]) == set("01234")
    assert set(on_curve(table)["cell"]) == set("0123")


def test_the_curve_is_as_if_there_were_no_twin(table: pd.DataFrame) -> None:
    without = table[table["variant"] == "curve"].reset_index(drop=True)
    pd.testing.assert_frame_equal(rd_curve(table), rd_curve(without))
    assert rd_curve(table)["distortion"].min() >= 2


def test_a_twin_has_gaps_of_its_own(table: pd.DataFrame) -> None:
    gaps = gap_table(table, ["variant"])
    mine = gaps[(gaps["variant"] == "twin") & (gaps["metric"] == "distortion")]
    assert mine["gap"].tolist() == [1.0]


def test_a_table_that_names_no_rates_is_all_on_the_curve(table: pd.DataFrame) -> None:
    assert len(on_curve(table.drop(columns="rate.encoding"))) == len(table)
