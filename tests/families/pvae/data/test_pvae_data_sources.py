"""What a user writes after `--data` gives a data set, or one line that says what would be right."""

from pathlib import Path

import numpy as np
import pytest
from xpt import audiograms, write_cycle

from vaesweep.data.domains import DataSet, Role
from vaesweep.errors import UserError
from vaesweep.families.pvae.data.audiograms import COLUMNS, age_extrapolations
from vaesweep.families.pvae.data.sources import load


def write_csv(path: Path, x: np.ndarray) -> None:
    np.savetxt(path, x, "%g", ",", header=",".join(COLUMNS), comments="")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_cycle(tmp_path / "NHANES files", "B", *audiograms(30))
    return tmp_path / "NHANES files"


@pytest.fixture
def population(tmp_path: Path) -> Path:
    thresholds, ages = audiograms(30, seed=1)
    path = tmp_path / "HÖRSTAT-2015.csv"
    write_csv(path, np.column_stack([thresholds, ages]))
    return path


def names(data: DataSet) -> list[str]:
    return [domain.name for domain in data.domains]


def refusal(spec: str, seed: int = 0) -> str:
    with pytest.raises(UserError) as caught:
        load(spec, seed)
    assert "\n" not in str(caught.value)
    return str(caught.value)


SYNTHETIC = ["synthetic.train", "synthetic.valid", "synthetic.test", "small_corruption", "large_corruption"]
NHANES = ["nhanes.train", "nhanes.valid", "nhanes.test"]


def test_each_kind_of_data_gives_its_domains(folder: Path, population: Path) -> None:
    assert names(load("synthetic", 0)) == SYNTHETIC
    assert names(load(f"nhanes:{folder}", 0)) == NHANES
    assert names(load(f"csv:{population}", 0)) == [f"horstat_2015.{part}" for part in ("train", "valid", "test")]


def test_unseen_files_and_folders_follow_any_kind(folder: Path, population: Path) -> None:
    assert names(load(f"synthetic,unseen={population},unseen={folder}", 0))[5:] == [
        "horstat_2015",
        "nhanes_files",
    ]
    assert names(load(f"nhanes:{folder},unseen={population}", 0)) == [*NHANES, "horstat_2015"]
    assert names(load(f"csv:{population},unseen={folder}", 0))[3:] == ["nhanes_files"]


def test_an_unseen_folder_pools_all_its_cycles(folder: Path) -> None:
    write_cycle(folder, "D", *audiograms(10), first=500)
    write_cycle(folder, "P", *audiograms(7), first=900)
    data = load(f"synthetic,unseen={folder}", 0)
    assert len(data.domains[5]) == 47
    assert data.domains[5].role is Role.UNSEEN
    assert len(data.summary) == 3 + 3 + 1
    assert data.summary[-1].startswith("nhanes_files: age extrapolation: ")


def test_an_unseen_population_of_other_ages_is_said_to_be_an_extrapolation(folder: Path, tmp_path: Path) -> None:
    thresholds, ages = audiograms(20, seed=2)
    x = np.column_stack([thresholds, ages])
    old, mixed = x.copy(), x.copy()
    old[:, -1] = 95
    mixed[:3, -1] = 95
    for name, rows in {"same": x, "old": old, "mixed": mixed}.items():
        write_csv(tmp_path / f"{name}.csv", rows)
    unseen = "".join(f",unseen={tmp_path / name}.csv" for name in ("same", "old", "mixed"))
    data = load(f"nhanes:{folder}{unseen}", 0)
    lines = {line.partition(":")[0]: line for line in data.summary if "age extrapolation" in line}
    trained = data.domain(Role.TRAIN).arrays["x"][:, -1]
    assert f"20 of 20 rows have an age outside the {trained.min():g} to {trained.max():g} years" in lines["old"]
    outside = int(((mixed[:, -1] < trained.min()) | (mixed[:, -1] > trained.max())).sum())
    assert f"{outside} of 20 rows" in lines["mixed"]
    assert age_extrapolations(data.domains) == {"old"}


def test_a_cycle_that_is_held_out_is_unseen_and_not_trained_on(folder: Path) -> None:
    write_cycle(folder, "C", *audiograms(20, seed=5), first=500)
    whole, held = load(f"nhanes:{folder}", 0), load(f"nhanes:{folder}", 0, "2003-2004")
    assert names(held) == [*NHANES, "nhanes_held_out"]
    assert (sum(map(len, whole.domains)), sum(map(len, held.domains[:3])), len(held.domains[3])) == (50, 30, 20)
    assert "AUX_C (2003-2004): held out, not trained on, the unseen nhanes_held_out" in held.summary
    trained = {row.tobytes() for domain in held.domains[:3] for row in domain.arrays["x"]}
    assert not any(row.tobytes() in trained for row in held.domains[3].arrays["x"])


@pytest.mark.parametrize(
    ("years", "said"),
    [
        ("2003-2005", "data.held_out=2003-2005: no cycle of "),
        ("2001-2002", "has no cycle to train on"),
    ],
)
def test_a_cycle_that_cannot_be_held_out_is_refused(folder: Path, years: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        load(f"nhanes:{folder}", 0, years)


def test_only_cycles_of_nhanes_are_held_out(population: Path) -> None:
    for spec in ("synthetic", f"csv:{population}"):
        with pytest.raises(UserError, match="is a cycle of NHANES, which is not trained on here"):
            load(spec, 0, "2003-2004")


def test_standardisation_is_fitted_on_the_training_domain_only(folder: Path, population: Path) -> None:
    data = load(f"nhanes:{folder},unseen={population}", 0)
    x = data.domain(Role.TRAIN).arrays["x"].astype(np.float64)
    np.testing.assert_allclose(data.standardisation.mean, x.mean(axis=0))
    np.testing.assert_allclose(data.standardisation.std, x.std(axis=0))
    assert data.columns == COLUMNS


def test_the_same_words_and_seed_give_the_same_fingerprint(folder: Path) -> None:
    for spec in ("synthetic", f"nhanes:{folder}"):
        assert load(spec, 0).fingerprint() == load(spec, 0).fingerprint()
        assert load(spec, 0).fingerprint() != load(spec, 1).fingerprint()


def test_a_tilde_is_the_home_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(folder.parent))
    assert names(load(f"nhanes:~/{folder.name}", 0)) == NHANES


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("", "unknown kind ''; use synthetic, synthetic_wide, nhanes:DIR or csv:FILE"),
        ("nhane:x", "unknown kind 'nhane' (did you mean 'nhanes'?)"),
        ("Synthetic", "unknown kind 'Synthetic' (did you mean 'synthetic'?)"),
        ("nhanes", "a path is needed; write nhanes:DIR"),
        ("csv:", "a path is needed; write csv:FILE"),
        ("synthetic:here", "a path is not taken; write synthetic"),
        ("synthetic:", "a path is not taken; write synthetic"),
        ("synthetic,unsen=x.csv", "unknown option 'unsen' (did you mean 'unseen'?)"),
        ("synthetic,unseen=", "unseen= needs the path"),
        ("nhanes:/no/such/folder", "/no/such/folder: no such file or folder"),
        ("csv:~nobody_of_this_name/x.csv", "cannot be read"),
        ("csv:" + "x" * 5000, "cannot be read"),
    ],
)
def test_a_wrong_specification_says_what_would_be_right(spec: str, said: str) -> None:
    assert said in refusal(spec)


def test_a_misspelt_path_is_guessed(folder: Path) -> None:
    wrong = folder.with_name("NHANES file")
    assert f"{wrong}: no such file or folder (did you mean 'NHANES files'?)" in refusal(f"nhanes:{wrong}")


def test_a_file_for_a_folder_and_a_folder_for_a_file_are_refused(folder: Path, population: Path) -> None:
    assert "not a folder" in refusal(f"nhanes:{population}")
    assert "not a file" in refusal(f"csv:{folder}")
    assert "give the folder" in refusal(f"synthetic,unseen={folder / 'AUX_B.XPT'}")


@pytest.mark.parametrize("kind", ["nhanes", "csv"])
def test_the_training_population_cannot_be_unseen(kind: str, request: pytest.FixtureRequest) -> None:
    path = request.getfixturevalue("folder" if kind == "nhanes" else "population")
    assert "both trained on and unseen" in refusal(f"{kind}:{path},unseen={path}")


def test_two_unseen_populations_of_one_name_are_refused(population: Path) -> None:
    assert "share a name" in refusal(f"synthetic,unseen={population},unseen={population}")


def test_a_population_too_small_to_split_or_constant_is_named(tmp_path: Path) -> None:
    write_csv(tmp_path / "few.csv", np.full((5, 15), 30.0))
    write_csv(tmp_path / "same.csv", np.full((50, 15), 30.0))
    assert "few: 5 rows cannot be split" in refusal(f"csv:{tmp_path / 'few.csv'}")
    assert "same.csv: dimension 0 of the training data is constant" in refusal(f"csv:{tmp_path / 'same.csv'}")


def test_a_negative_seed_is_refused() -> None:
    assert "data seed -1" in refusal("synthetic", -1)


def visits(path: Path, people: int, times: int, *, title: str = "id", first: int = 0) -> Path:
    """A table of `people`, each with `times` rows, the names of which are in the column `title`."""
    thresholds, ages = audiograms(people * times, seed=first)
    x = np.column_stack([thresholds, ages])
    names = [f"{first + row // times}" for row in range(len(x))]
    lines = [f"{name}," + ",".join(f"{value:g}" for value in row) for name, row in zip(names, x, strict=True)]
    path.write_text("\n".join([f"{title},{','.join(COLUMNS)}", *lines]))
    return path


@pytest.mark.parametrize("title", ["listener", "id", "name", "SEQN"])
def test_all_rows_of_one_person_are_on_one_side(tmp_path: Path, title: str) -> None:
    path = visits(tmp_path / "clinic.csv", 40, 8, title=title)
    data = load(f"csv:{path}", 0)
    assert [len(domain) for domain in data.domains] == [256, 32, 32]
    sides = [{tuple(row) for row in domain.arrays["x"]} for domain in data.domains]
    rows = [tuple(map(float, line.split(",")[1:])) for line in path.read_text().splitlines()[1:]]
    for person in range(40):
        own = set(rows[8 * person : 8 * person + 8])
        assert sum(bool(own & side) for side in sides) == 1
    assert any("320 rows of 40 people" in line for line in data.summary)


def test_names_without_repeats_leave_the_split_as_it_was(tmp_path: Path) -> None:
    named = load(f"csv:{visits(tmp_path / 'clinic.csv', 60, 1)}", 3)
    other = load(f"csv:{visits(tmp_path / 'clinic.csv', 60, 1, title='note')}", 3)
    assert named.fingerprints() == other.fingerprints()


@pytest.mark.parametrize(("title", "said"), [("id", "such as id 10"), ("seqn", "such as SEQN 10")])
def test_nobody_is_both_trained_on_and_unseen(tmp_path: Path, title: str, said: str) -> None:
    trained = visits(tmp_path / "a.csv", 20, 1, title=title)
    unseen = visits(tmp_path / "b.csv", 20, 1, title=title, first=10)
    assert f"10 people are in both {trained} and {unseen}, {said}" in refusal(f"csv:{trained},unseen={unseen}")
    other = visits(tmp_path / "c.csv", 20, 1, title=title, first=30)
    assert len(load(f"csv:{trained},unseen={other}", 0).domains) == 4


def test_participants_of_nhanes_are_known_by_their_number_in_any_folder(folder: Path, tmp_path: Path) -> None:
    write_cycle(tmp_path / "other", "B", *audiograms(30))
    assert "30 people are in both" in refusal(f"nhanes:{folder},unseen={tmp_path / 'other'}")
    write_cycle(tmp_path / "next", "C", *audiograms(30, seed=5), first=100)
    assert len(load(f"nhanes:{folder},unseen={tmp_path / 'next'}", 0).domains) == 4
    assert "such as SEQN" in refusal(f"csv:{visits(tmp_path / 'c.csv', 20, 1, title='seqn')},unseen={folder}")


def test_a_copy_without_names_is_not_unseen_and_equal_rows_are_counted(population: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.csv"
    lines = population.read_text().splitlines()
    copy.write_text("\n".join(lines[:12]))
    assert "each of the 11 rows" in refusal(f"csv:{population},unseen={copy}")
    copy.write_text("\n".join([*lines[:12], lines[1].rpartition(",")[0] + ",99"]))
    summary = load(f"csv:{population},unseen={copy}", 0).summary
    assert any(line.startswith("copy: of 12 rows some are equal to others: ") for line in summary)


def test_examinations_that_are_complete_may_be_asked_for(folder: Path) -> None:
    assert "without the column AUAEXSTS" in refusal(f"nhanes:{folder},exam=complete")
    assert "write exam=complete" in refusal(f"nhanes:{folder},exam=1")
    assert "exam=complete is of NHANES" in refusal("synthetic,exam=complete")


def test_half_a_cycle_and_other_components_are_named(folder: Path) -> None:
    (folder / "DEMO_C.XPT").write_bytes((folder / "DEMO_B.XPT").read_bytes())
    (folder / "BPX_B.XPT").write_bytes(b"other")
    (folder / "AUX_C.XPT.crdownload").write_bytes(b"half")
    lines = load(f"nhanes:{folder}", 0).summary
    assert "DEMO_C.XPT: left out, its examination AUX_C.XPT is not there" in lines
    assert any("1 XPT files are of no audiometry, such as BPX_B.XPT" in line for line in lines)
    assert any("1 of editors or unfinished downloads, such as AUX_C.XPT.crdownload" in line for line in lines)
