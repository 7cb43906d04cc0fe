"""LibriMix's layout: what is written is what is made on the fly, and is read again; what is wrong in it is named."""

import csv
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from voices import RATE, voice

from vaesweep.cli.main import main
from vaesweep.errors import UserError
from vaesweep.families.emd.data.speech import audio, librimix
from vaesweep.families.emd.data.speech.mixing import Mixer, MixingRules, render
from vaesweep.families.emd.data.speech.recordings import DecodeCache, scan
from vaesweep.families.emd.data.speech.rooms import Reverberation, Targets
from vaesweep.families.emd.data.speech.spans import Span

RULES = MixingRules()


@pytest.fixture
def noise(tmp_path: Path) -> Path:
    folder = tmp_path / "noise"
    folder.mkdir()
    audio.write(folder / "hall.wav", voice(77, 4.0), RATE)
    return folder


def written(folder: Path, corpus: Path, rules: MixingRules = RULES, noise: Path | None = None, count: int = 3) -> Path:
    noises = scan(noise, lambda name: "noise").recordings if noise else ()
    mixer = Mixer(scan(corpus).recordings, rules, noises)
    return librimix.write_split(folder, "train-100", mixer, rules, range(count), DecodeCache(rules.sample_rate))


def test_what_is_written_is_what_is_made_on_the_fly(corpus: Callable[..., Path], noise: Path, tmp_path: Path) -> None:
    """To the last bit, sources, noise and mixtures."""
    folder = corpus()
    target = written(tmp_path / "out", folder, noise=noise)
    mixer = Mixer(scan(folder).recordings, RULES, scan(noise, lambda name: "noise").recordings)
    record = json.loads((target / librimix.RECORD).read_text())
    for index, about in enumerate(record["mixtures"]):
        sound = render(mixer.whole(index), DecodeCache(8000), 8000)
        signals = {"s1": sound.sources[0], "s2": sound.sources[1], "noise": sound.noise}
        signals |= {"mix_clean": sound.clean, "mix_both": sound.mixture}
        for part, signal in signals.items():
            found, rate = audio.read(target / part / about["file"])
            assert rate == 8000
            assert np.array_equal(found, signal), part


def test_the_layout_is_librimixs(corpus: Callable[..., Path], noise: Path, tmp_path: Path) -> None:
    folder = librimix.folder_of(tmp_path / "out", RULES)
    assert folder == tmp_path / "out" / "Libri2Mix" / "wav8k" / "min"
    target = written(folder, corpus(), noise=noise)
    assert sorted(path.name for path in target.iterdir() if path.is_dir()) == [
        "mix_both",
        "mix_clean",
        "noise",
        "s1",
        "s2",
    ]
    names = [
        sorted(path.name for path in (target / part).iterdir()) for part in ("mix_both", "mix_clean", "noise", "s1")
    ]
    assert all(own == names[0] for own in names)
    with (folder / "metadata" / "mixture_train-100_mix_both.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["mixture_ID", "mixture_path", "source_1_path", "source_2_path", "noise_path", "length"]
    for row in rows:
        assert row["mixture_path"] == str(target / "mix_both" / f"{row['mixture_ID']}.wav")
        for key in ("mixture_path", "source_1_path", "source_2_path", "noise_path"):
            assert soundfile.info(row[key]).frames == int(row["length"])


def test_without_noise_there_are_no_noisy_mixtures(corpus: Callable[..., Path], tmp_path: Path) -> None:
    target = written(tmp_path / "out", corpus())
    assert sorted(path.name for path in target.iterdir() if path.is_dir()) == ["mix_clean", "s1", "s2"]
    assert [path.name for path in (tmp_path / "out" / "metadata").iterdir()] == ["mixture_train-100_mix_clean.csv"]


def test_it_is_read_again(corpus: Callable[..., Path], noise: Path, tmp_path: Path) -> None:
    target = written(tmp_path / "out", corpus(), noise=noise)
    for kind in ("mix_clean", "mix_both"):
        found = librimix.read_split(target, kind, 2, 8000)
        assert [one.name for one in found] == sorted(one.name for one in found)
        assert len(found) == 3
        for one in found:
            assert one.mixture.parent.name == kind
            assert [path.parent.name for path in one.sources] == ["s1", "s2"]
            assert one.frames == len(audio.read(one.mixture)[0])


WHAMR = ["mix_both_anechoic", "mix_both_reverb", "mix_clean_anechoic", "mix_clean_reverb", "noise"]
WHAMR += ["s1_anechoic", "s1_reverb", "s2_anechoic", "s2_reverb"]


def test_mixtures_in_rooms_have_whamrs_folders_and_are_what_is_made_on_the_fly(
    corpus: Callable[..., Path], noise: Path, tmp_path: Path
) -> None:
    """To the last bit, with and without the room."""
    pytest.importorskip("pyroomacoustics")
    rules, folder = MixingRules(reverberation=Reverberation(share=0.5)), corpus()
    target = written(tmp_path / "out", folder, rules, noise, count=6)
    assert sorted(path.name for path in target.iterdir() if path.is_dir()) == WHAMR
    mixer = Mixer(scan(folder).recordings, rules, scan(noise, lambda name: "noise").recordings)
    record = json.loads((target / librimix.RECORD).read_text())
    assert record["rules"]["reverberation"]["share"] == 0.5
    assert 0 < sum("room" in about for about in record["mixtures"]) < 6
    for index, about in enumerate(record["mixtures"]):
        mixture, cache = mixer.whole(index), DecodeCache(8000)
        dry, wet = (render(replace(mixture, targets=kind), cache, 8000) for kind in ("anechoic", "reverberant"))
        assert ("room" in about) == (mixture.room is not None)
        signals = {"mix_clean_reverb": dry.clean, "mix_both_reverb": dry.mixture, "noise": dry.noise}
        signals |= {"mix_clean_anechoic": dry.sources.sum(0), "s1_anechoic": dry.sources[0]}
        signals |= {"s2_reverb": wet.sources[1]}
        for part, signal in signals.items():
            assert np.array_equal(audio.read(target / part / about["file"])[0], signal), part


@pytest.mark.parametrize("targets", ["anechoic", "reverberant"])
def test_the_metadata_of_mixtures_in_rooms_name_the_targets(
    targets: Targets, corpus: Callable[..., Path], noise: Path, tmp_path: Path
) -> None:
    pytest.importorskip("pyroomacoustics")
    rules = MixingRules(reverberation=Reverberation(share=1, targets=targets))
    target = written(tmp_path / "out", corpus(), rules, noise, count=1)
    folder = target.parent / "metadata"
    endings = {"anechoic": "anechoic", "reverberant": "reverb"}
    for kind, ending in (("mix_both_reverb", endings[targets]), ("mix_clean_anechoic", "anechoic")):
        with (folder / f"mixture_train-100_{kind}.csv").open() as file:
            (row,) = csv.DictReader(file)
        assert Path(row["mixture_path"]).parent.name == kind
        assert Path(row["source_2_path"]).parent.name == f"s2_{ending}"
        assert ("noise_path" in row) == kind.startswith("mix_both")


def test_three_speakers_have_three_sources(corpus: Callable[..., Path], tmp_path: Path) -> None:
    rules = MixingRules(speakers=3, mode="max", overlap=Span(low=0.3, high=0.3), sample_rate=16000)
    folder = librimix.folder_of(tmp_path, rules)
    assert folder == tmp_path / "Libri3Mix" / "wav16k" / "max"
    target = written(folder, corpus(), rules)
    assert [len(one.sources) for one in librimix.read_split(target, "mix_clean", 3, 16000)] == [3, 3, 3]


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda target: next((target / "s2").iterdir()).unlink(), r"s2/\S+: there is no such file"),
        (lambda target: next((target / "s1").iterdir()).write_bytes(b""), r"s1/\S+: cannot be read as audio"),
        (
            lambda target: rewritten(target / "s1", 16000),
            r"s1/\S+: has 16000 Hz, 8000 are wanted; use the folder wav8k",
        ),
        (
            lambda target: rewritten(target / "s2", 8000),
            r"s2/\S+: has 10 samples and \S+mix_clean/\S+ \d+; the files of",
        ),
        (
            lambda target: cut_off(next((target / "s1").iterdir())),
            r"s1/\S+: (has \d+ samples and|is cut off|cannot be read)",
        ),
        (
            lambda target: (target / "s1" / "more.wav").write_bytes(next((target / "s1").iterdir()).read_bytes()),
            r"mix_clean/more\.wav: there is no such file, but one in s1",
        ),
    ],
    ids=["missing", "broken", "rate", "length", "truncated", "no mixture"],
)
def test_a_bad_file_is_named(
    spoil: Callable[[Path], object], words: str, corpus: Callable[..., Path], tmp_path: Path
) -> None:
    target = written(tmp_path / "out", corpus(), count=1)
    spoil(target)
    with pytest.raises(UserError, match=words) as error:
        librimix.read_split(target, "mix_clean", 2, 8000)
    assert "\n" not in str(error.value)


def cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1000])


def rewritten(folder: Path, rate: int) -> None:
    audio.write(next(folder.iterdir()), np.zeros(10, np.float32), rate)


def test_a_split_that_lacks_a_kind_says_what_it_has(corpus: Callable[..., Path], tmp_path: Path) -> None:
    target = written(tmp_path / "out", corpus(), count=1)
    with pytest.raises(UserError, match=r"mix_both: holds no mixtures; .* has mix_clean, s1, s2"):
        librimix.read_split(target, "mix_both", 2, 8000)


def test_a_split_is_there_as_a_whole_or_not_at_all(corpus: Callable[..., Path], tmp_path: Path) -> None:
    mixer = Mixer(scan(corpus()).recordings, RULES)

    def interrupted(count: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        librimix.write_split(tmp_path / "out", "dev", mixer, RULES, [1, 2], DecodeCache(8000), written=interrupted)
    assert not [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    librimix.write_split(tmp_path / "out", "dev", mixer, RULES, [1, 2], DecodeCache(8000))
    with pytest.raises(UserError, match="dev: is there already"):
        librimix.write_split(tmp_path / "out", "dev", mixer, RULES, [1, 2], DecodeCache(8000))


# The command


def mixed(*words: str) -> int:
    return main(["data", "mix", *words])


def splits(folder: Path) -> Iterator[tuple[str, set[str]]]:
    """Each split's name, and its speakers."""
    for record in sorted(folder.glob("*/mixing.json")):
        mixtures = json.loads(record.read_text())["mixtures"]
        yield record.parent.name, {part["speaker"] for mixture in mixtures for part in mixture["sources"]}


def test_the_command_makes_splits_that_share_no_speaker(
    corpus: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    counts = ["--split", "train=20", "--split", "valid=5", "--split", "test=5"]
    assert mixed("--from", str(corpus(speakers=12)), "--out", str(tmp_path / "out"), *counts) == 0
    found = dict(splits(tmp_path / "out" / "Libri2Mix" / "wav8k" / "min"))
    assert found.keys() == {"train-100", "dev", "test"}
    assert not found["train-100"] & found["dev"] | found["dev"] & found["test"] | found["train-100"] & found["test"]
    told = capsys.readouterr().out
    assert "24 recordings of 12 speakers" in told
    assert "train-100: 20 mixtures of 8 speakers" in told


def test_the_same_seed_gives_the_same_files_and_another_others(corpus: Callable[..., Path], tmp_path: Path) -> None:
    folder = str(corpus())
    for name, seed in (("a", "0"), ("b", "0"), ("c", "1")):
        assert mixed("--from", folder, "--out", str(tmp_path / name), "--split", "all=3", "--seed", seed) == 0
    one, same, other = (
        {path.name: path.read_bytes() for path in (tmp_path / name).rglob("mix_clean/*.wav")} for name in "abc"
    )
    assert one == same
    assert not one.keys() & other.keys()


def test_the_command_mixes_in_rooms_that_no_two_splits_share(corpus: Callable[..., Path], tmp_path: Path) -> None:
    pytest.importorskip("pyroomacoustics")
    counts = ["--split", "train=6", "--split", "test=6", "--reverberation", "0.1", "0.2", "--targets", "reverberant"]
    assert mixed("--from", str(corpus(speakers=12)), "--out", str(tmp_path / "out"), *counts) == 0
    rooms = []
    for record in sorted((tmp_path / "out").rglob("mixing.json")):
        content = json.loads(record.read_text())
        assert content["rules"]["reverberation"]["targets"] == "reverberant"
        assert all(0.1 <= mixture["room"]["seconds"] <= 0.2 for mixture in content["mixtures"])
        rooms.append({str(mixture["room"]) for mixture in content["mixtures"]})
    assert not rooms[0] & rooms[1]


def test_the_command_names_the_library_that_rooms_take_and_writes_nothing(
    corpus: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyroomacoustics", None)
    assert mixed("--from", str(corpus()), "--out", str(tmp_path / "out"), "--reverberation", "0.1", "1") == 2
    assert "pip install 'vaesweep[speech]'" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_the_command_gives_each_split_noise_of_its_own(corpus: Callable[..., Path], tmp_path: Path) -> None:
    for number, part in enumerate(("tr", "cv", "tt")):
        (tmp_path / "wham_noise" / part).mkdir(parents=True)
        audio.write(tmp_path / "wham_noise" / part / "a.wav", voice(70 + number, 4.0), RATE)
    counts = ["--split", "train=4", "--split", "valid=4", "--split", "test=4"]
    words = ["--from", str(corpus(speakers=12)), "--out", str(tmp_path / "out"), *counts]
    assert mixed(*words, "--noise", str(tmp_path / "wham_noise")) == 0
    for split, part in (("train-100", "tr"), ("dev", "cv"), ("test", "tt")):
        record = json.loads((tmp_path / "out" / "Libri2Mix" / "wav8k" / "min" / split / "mixing.json").read_text())
        parts = {Path(noise["recording"]).parent.name for mixture in record["mixtures"] for noise in mixture["noise"]}
        assert parts == {part}


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--split", "dev"], "--split dev: there is no such split; there are train, valid, test, and all"),
        (["--split", "train=none"], "--split train=none: 'none' is no number of mixtures"),
        (["--split", "all", "--split", "test"], "--split all has every speaker"),
        (["--overlap", "0.1", "0.5"], "overlap below 1 needs mode max"),
        (["--speakers", "0"], "speakers: Input should be greater than or equal to 1"),
        (["--noise", "x", "--babble", "2"], "--noise and --babble both say"),
        (["--speaker-pattern", "x", "--speaker-table", "y"], "both say who speaks"),
        (["--noise", "nowhere"], "nowhere: there is no such folder"),
        (["--seed", "-1"], "--seed -1: must be from 0 to 46116860183"),
        (["--reverberation", "0.1", "2"], "reverberation takes from 0.05 to 1 seconds"),
        (["--reverberation", "0.5", "0.1"], "begins at 0.5 and ends at 0.1"),
        (["--targets", "anechoic"], "--targets says which sources of rooms are meant; give --reverberation too"),
        (["--split", "all", "--babble", "9"], "6 speakers: a mixture needs 11 different ones"),
    ],
)
def test_what_cannot_be_mixed_is_refused_in_one_line_and_nothing_is_written(
    words: list[str], told: str, corpus: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert mixed("--from", str(corpus()), "--out", str(tmp_path / "out"), *words) == 2
    error = capsys.readouterr().err
    assert told in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()
