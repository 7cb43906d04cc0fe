"""NHANES: which cycles become which domain, and every row that is not kept is counted under one reason."""

from pathlib import Path

import numpy as np
import pytest
from xpt import AUDIOGRAM, THRESHOLDS, audiograms, write_cycle, xport

from vaesweep.data.domains import Role
from vaesweep.errors import UserError
from vaesweep.families.pvae.data import nhanes
from vaesweep.families.pvae.data.audiograms import COLUMNS, plausible

REAL = Path(__file__).resolve().parents[5] / "shared" / "data" / "nhanes"
real_files = pytest.mark.skipif(not REAL.is_dir(), reason="no NHANES files at ../shared/data/nhanes")
NAN = float("nan")


def refusal(folder: Path) -> str:
    with pytest.raises(UserError) as caught:
        nhanes.training(folder, 0)
    message = str(caught.value)
    assert "\n" not in message
    assert str(folder) in message
    return message


def add(folder: Path, *suffixes: str, rows: int = 20) -> None:
    """Write whole cycles; no two share a participant or a measurement."""
    for suffix in suffixes:
        write_cycle(folder, suffix, *audiograms(rows, seed=ord(suffix)), first=1000 * ord(suffix))


def with_value(value: float, at: int = 3) -> np.ndarray:
    row = AUDIOGRAM.copy()
    row[at] = value
    return row


def test_thresholds_and_age_land_in_their_columns_joined_on_the_participant(tmp_path: Path) -> None:
    rows = np.arange(14) * 5.0 + np.arange(12)[:, None]
    write_cycle(tmp_path, "B", rows, [30.0 + i for i in range(12)])
    x = nhanes.pooled(tmp_path).x
    assert x.dtype == np.float32
    assert x[2].tolist() == [*rows[2], 32.0]
    assert COLUMNS[1] == "right_1000"
    assert THRESHOLDS[1] == "AUXU1K1R"
    assert tuple(THRESHOLDS) == nhanes.THRESHOLDS


def test_a_threshold_of_zero_is_zero(tmp_path: Path) -> None:
    write_cycle(tmp_path, "B", np.array([with_value(0.0)]), [0.0])
    x = nhanes.pooled(tmp_path).x
    assert x[0, 3] == 0.0
    assert x[0, 14] == 0.0


def test_every_dropped_row_is_counted_once_under_the_first_reason_that_holds(tmp_path: Path) -> None:
    rows = np.array(
        [
            AUDIOGRAM,
            AUDIOGRAM,  # no age
            with_value(NAN),
            with_value(888.0),
            with_value(888.0),
            with_value(666.0),
            with_value(500.0),
            np.where(np.arange(14) == 0, 888.0, with_value(666.0)),  # both codes
            np.where(np.arange(14) == 0, NAN, with_value(666.0)),  # missing and a code
        ]
    )
    write_cycle(tmp_path, "C", rows, [40.0, NAN, *[40.0] * 7])
    add_stranger(tmp_path / "AUX_C.XPT")
    (line,) = nhanes.pooled(tmp_path).summary
    assert line == (
        "AUX_C.XPT + DEMO_C.XPT (2003-2004): 10 rows read, 1 kept; dropped: 1 without demographics, 1 without age, "
        "2 not tested at every frequency, 3 could not be obtained (888), 1 no response (666), 1 implausible"
    )


def add_stranger(exam: Path) -> None:
    """Write `exam` again with one participant more, who is in no demographics."""
    frame = nhanes.read_xport(exam, ("SEQN", *THRESHOLDS))
    frame.loc[len(frame)] = [99999.0, *AUDIOGRAM]
    exam.write_bytes(xport({name: frame[name].tolist() for name in frame}))


def test_training_pools_the_thesis_cycles_and_splits_them_80_10_10(tmp_path: Path) -> None:
    add(tmp_path, "1", "B", "C", "G", "I")
    loaded = nhanes.training(tmp_path, seed=0)
    sizes = {domain.name: (domain.role, len(domain)) for domain in loaded.domains}
    assert sizes == {
        "nhanes.train": (Role.TRAIN, 80),
        "nhanes.valid": (Role.VALID, 10),
        "nhanes.test": (Role.TEST, 10),
    }
    assert len(loaded.summary) == 5


def test_partition_is_disjoint_complete_and_fixed_by_the_seed(tmp_path: Path) -> None:
    write_cycle(tmp_path, "B", np.tile(AUDIOGRAM, (100, 1)), np.arange(100.0))  # the age tells the row

    def ages(seed: int) -> list[list[float]]:
        return [domain.arrays["x"][:, 14].tolist() for domain in nhanes.training(tmp_path, seed).domains]

    assert sorted(age for part in ages(0) for age in part) == list(range(100))
    assert ages(0) == ages(0)
    assert ages(0) != ages(1)


def test_2017_2020_is_unseen_and_never_trained_on(tmp_path: Path) -> None:
    add(tmp_path, "B", "P")
    domains = {domain.name: domain for domain in nhanes.training(tmp_path, 0).domains}
    assert domains["nhanes_2017_2020"].role is Role.UNSEEN
    assert [len(domains[name]) for name in ("nhanes.train", "nhanes.valid", "nhanes.test")] == [16, 2, 2]


def test_2017_2018_gives_way_to_2017_2020_which_holds_it(tmp_path: Path) -> None:
    add(tmp_path, "B", "J", "P")
    loaded = nhanes.training(tmp_path, 0)
    assert [domain.name for domain in loaded.domains][3:] == ["nhanes_2017_2020"]
    assert any("AUX_J (2017-2018): left out, P_AUX (2017-2020) holds" in line for line in loaded.summary)
    assert len(nhanes.pooled(tmp_path).x) == 40


def test_2017_2018_alone_is_unseen_since_it_examined_the_same_ages(tmp_path: Path) -> None:
    add(tmp_path, "B", "J")
    assert nhanes.training(tmp_path, 0).domains[3].name == "nhanes_2017_2018"


@pytest.mark.parametrize("letter", ["D", "E", "F"])
def test_cycles_of_young_and_old_only_are_left_out_of_training_but_may_be_unseen(tmp_path: Path, letter: str) -> None:
    add(tmp_path, "B", letter)
    loaded = nhanes.training(tmp_path, 0)
    assert sum(map(len, loaded.domains)) == 20
    assert any(line.startswith(f"AUX_{letter} ") and "left out" in line for line in loaded.summary)
    assert len(nhanes.pooled(tmp_path).x) == 40


def test_file_names_may_have_any_case_and_other_files_are_passed_over(tmp_path: Path) -> None:
    add(tmp_path, "B")
    for path in list(tmp_path.iterdir()):
        path.rename(tmp_path / path.name.lower())
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "AUXTYM_B.XPT").write_bytes(b"tympanometry")
    assert len(nhanes.pooled(tmp_path).x) == 20


def test_an_examination_without_demographics_names_each_file_that_is_missing(tmp_path: Path) -> None:
    add(tmp_path, "1", "B", "C")
    (tmp_path / "DEMO.XPT").unlink()
    (tmp_path / "DEMO_C.XPT").unlink()
    message = refusal(tmp_path)
    assert "missing DEMO.XPT (for AUX1.XPT), DEMO_C.XPT (for AUX_C.XPT)" in message


def test_a_folder_without_cycles_says_what_is_needed(tmp_path: Path) -> None:
    assert "no NHANES cycle among its 0 XPT files; needed: AUX1, AUX_B" in refusal(tmp_path)


def test_a_misspelt_examination_is_guessed(tmp_path: Path) -> None:
    add(tmp_path, "B")
    (tmp_path / "AUX_B.XPT").rename(tmp_path / "AUXB.XPT")
    assert "did you mean 'AUX_B'?" in refusal(tmp_path)


def test_unseen_cycles_alone_cannot_be_trained_on(tmp_path: Path) -> None:
    add(tmp_path, "P")
    assert "only P_AUX (2017-2020), which is never trained on" in refusal(tmp_path)


@pytest.mark.parametrize("name", ["AUX_B.XPT", "DEMO_B.XPT"])
def test_a_participant_who_occurs_twice_is_refused(tmp_path: Path, name: str) -> None:
    add(tmp_path, "B", rows=3)
    columns = THRESHOLDS if name.startswith("AUX") else ["RIDAGEYR"]
    (tmp_path / name).write_bytes(xport({"SEQN": [7.0, 8.0, 7.0], **{c: [20.0] * 3 for c in columns}}))
    message = refusal(tmp_path)
    assert name in message
    assert "SEQN 7 occurs more than once" in message


def test_a_row_without_a_participant_is_refused(tmp_path: Path) -> None:
    add(tmp_path, "B", rows=2)
    (tmp_path / "DEMO_B.XPT").write_bytes(xport({"SEQN": [NAN, 1.0], "RIDAGEYR": [30.0, 30.0]}))
    assert "1 rows without a SEQN" in refusal(tmp_path)


def test_one_cycle_under_two_names_is_refused(tmp_path: Path) -> None:
    write_cycle(tmp_path, "B", *audiograms(10))
    write_cycle(tmp_path, "C", *audiograms(10))
    assert "10 participants are in both AUX_B (2001-2002) and AUX_C (2003-2004)" in refusal(tmp_path)


@pytest.mark.parametrize(("value", "counted"), [(666.0, "20 no response (666)"), (500.0, "20 implausible")])
def test_a_cycle_of_which_nothing_is_left_names_its_file_and_the_reason(
    tmp_path: Path, value: float, counted: str
) -> None:
    write_cycle(tmp_path, "B", np.tile(with_value(value), (20, 1)), [30.0] * 20)
    message = refusal(tmp_path)
    assert "AUX_B.XPT: no usable row among 20" in message
    assert counted in message


def test_demographics_of_another_cycle_leave_nothing(tmp_path: Path) -> None:
    add(tmp_path, "B", "C")
    (tmp_path / "DEMO_B.XPT").write_bytes((tmp_path / "DEMO_C.XPT").read_bytes())
    assert "AUX_B.XPT: no usable row among 20: 20 without demographics" in refusal(tmp_path)


def test_damage_is_reported_with_the_file_that_has_it(tmp_path: Path) -> None:
    add(tmp_path, "B", "C")
    damaged = tmp_path / "AUX_C.XPT"
    damaged.write_bytes(damaged.read_bytes()[:-160])
    assert f"{damaged}: cut short in its rows" in refusal(tmp_path)


@real_files
def test_real_files_give_the_thesis_population_with_an_age() -> None:
    loaded = nhanes.training(REAL, 0)
    assert sum(len(domain) for domain in loaded.domains if domain.role is not Role.UNSEEN) == 13_347
    kept = [int(line.split(" rows read, ")[1].split()[0]) for line in loaded.summary]
    assert kept == [1655, 1861, 1750, 3818, 4263, 3837]


@real_files
def test_real_rows_are_plausible_and_measured_in_steps_of_five() -> None:
    for domain in nhanes.training(REAL, 0).domains:
        x = domain.arrays["x"]
        assert plausible(x).all()
        assert (x[:, :14] % 5 == 0).all()
        ages = x[:, 14]
        assert not np.isnan(ages).any()
        if domain.role is Role.UNSEEN:
            assert ((ages < 20) | (ages >= 70)).all()
            assert ages.min() == 6
        else:
            assert ages.min() >= 20
            assert ages.max() <= 69
