"""Data sets of recordings: what `--data` names, what is the same data, and what each row sounds like."""

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from voices import RATE, voice

from vaesweep.data.domains import DataSet, Domain, Role
from vaesweep.errors import UserError
from vaesweep.families.emd.data.speech import audio, librimix
from vaesweep.families.emd.data.speech.domains import SpeechConfig, SpeechRows, SpeechSource, load
from vaesweep.families.emd.data.speech.mixing import Mixer, MixingRules, render
from vaesweep.families.emd.data.speech.recordings import DecodeCache, scan, scan_noise
from vaesweep.families.emd.forms import is_speech
from vaesweep.packing import additions

ROWS = SpeechRows(valid=3, test=4)


def config(**values: Any) -> SpeechConfig:
    return SpeechConfig.model_validate({"rows": ROWS.model_dump(), "seconds": 1.0} | values)


def source(domain: Domain) -> SpeechSource:
    assert isinstance(domain.source, SpeechSource)
    return domain.source


@pytest.fixture
def librimix_folder(corpus: Callable[..., Path], tmp_path: Path) -> Path:
    rules = MixingRules()
    folder = librimix.folder_of(tmp_path / "out", rules)
    mixer = Mixer(scan(corpus(speakers=6)).recordings, rules)
    for split, count in (("train-100", 6), ("dev", 4), ("test", 5)):
        librimix.write_split(folder, split, mixer, rules, range(count), DecodeCache(8000))
    return tmp_path / "out" / "Libri2Mix"


def test_recordings_become_domains_of_speakers_of_their_own(corpus: Callable[..., Path]) -> None:
    folder, other = corpus(speakers=8), corpus(speakers=3, name="other corpus")
    found = load(f"speech:{folder},unseen={other}", config())
    assert [(d.name, d.role, len(d)) for d in found.domains] == [
        ("corpus.train", Role.TRAIN, 64),
        ("corpus.valid", Role.VALID, 3),
        ("corpus.test", Role.TEST, 4),
        ("other_corpus", Role.UNSEEN, 4),
    ]
    speakers = [
        {part.recording.speaker for mixture in source(domain).mixtures for part in mixture.sources}  # type: ignore[attr-defined]
        for domain in found.domains
    ]
    assert not speakers[0] & speakers[1] | speakers[0] & speakers[2] | speakers[1] & speakers[2]
    assert found.summary[0].endswith("16 recordings of 8 speakers, 0.0083 hours")


def test_evaluation_mixtures_are_whole_and_in_the_order_of_their_length(corpus: Callable[..., Path]) -> None:
    found = load(f"speech:{corpus(speakers=8)}", config())
    for domain in found.domains:
        own = source(domain)
        assert list(own.frames) == sorted(own.frames)
        for row in range(len(domain)):
            assert own.sound(row).sources.shape == (2, own.frames[row])
    assert set(source(found.domains[0]).frames) == {8000}
    assert source(found.domains[2]).frames.min() >= 12_000


def test_a_training_crop_is_a_function_of_its_number(corpus: Callable[..., Path]) -> None:
    own = source(load(f"speech:{corpus(speakers=8)}", config()).domains[0])
    one, same, other = own.drawn(0, 5, 8000), own.drawn(3, 5, 8000), own.drawn(0, 6, 8000)
    assert np.array_equal(one.mixture, same.mixture)
    assert one.mixture.shape == (8000,)
    assert not np.array_equal(one.mixture, other.mixture)


def test_the_standardisation_is_the_deviation_of_training_mixtures(corpus: Callable[..., Path]) -> None:
    found = load(f"speech:{corpus(speakers=8)}", config())
    own = source(found.domains[0])
    signals = np.concatenate([own.sound(row).mixture for row in range(64)])
    assert found.standardisation.std[0] == pytest.approx(np.sqrt(np.square(signals, dtype=float).mean()))
    assert found.standardisation.mean.tolist() == [0.0]


def fingerprints(spec: str, **values: Any) -> tuple[str, dict[str, str]]:
    found = load(spec, config(**values))
    return found.fingerprint(), found.fingerprints()


def test_another_place_is_the_same_data_and_another_sound_is_not(corpus: Callable[..., Path], tmp_path: Path) -> None:
    folder = corpus(speakers=8)
    first = fingerprints(f"speech:{folder}")
    (tmp_path / "moved").mkdir()
    shutil.copytree(folder, tmp_path / "moved" / "corpus")
    assert fingerprints(f"speech:{tmp_path / 'moved' / 'corpus'}") == first
    for speaker in range(8):
        audio.write(folder / f"s{speaker}" / "0.wav", voice(1000 + speaker, 1.5), RATE)
    assert fingerprints(f"speech:{folder}")[0] != first[0]


def test_more_test_mixtures_train_nothing_and_another_rule_does(corpus: Callable[..., Path]) -> None:
    spec = f"speech:{corpus(speakers=8)}"
    first, _ = fingerprints(spec)
    assert fingerprints(spec, rows={"valid": 3, "test": 6})[0] == first
    assert fingerprints(spec, mixing={"loudness": {"low": -30, "high": -25}})[0] != first
    assert fingerprints(spec, seconds=0.5)[0] != first
    assert fingerprints(spec, replicate=2)[0] != first


def test_noise_is_heard_and_is_no_source(corpus: Callable[..., Path], tmp_path: Path) -> None:
    noise = tmp_path / "noise"
    noise.mkdir()
    audio.write(noise / "hall.wav", voice(77, 4.0), RATE)
    sound = source(load(f"speech:{corpus(speakers=8)},noise={noise}", config()).domains[2]).sound(0)
    assert sound.noise.any()
    assert not np.array_equal(sound.mixture, sound.clean)


def test_sources_are_clean_where_mixtures_on_disk_are_heard_with_noise(
    corpus: Callable[..., Path], tmp_path: Path
) -> None:
    rules, noise = MixingRules(), tmp_path / "noise"
    noise.mkdir()
    audio.write(noise / "hall.wav", voice(77, 4.0), RATE)
    mixer = Mixer(scan(corpus(speakers=6)).recordings, rules, scan_noise(noise).recordings)
    folder = librimix.folder_of(tmp_path / "out", rules)
    for split in ("train-100", "dev", "test"):
        librimix.write_split(folder, split, mixer, rules, range(3), DecodeCache(8000))
    domains = {
        heard: load(f"librimix:{tmp_path / 'out'}", config(heard=heard)).domains[2] for heard in ("clean", "noisy")
    }
    sounds = {heard: source(domain).sound(0) for heard, domain in domains.items()}
    assert np.array_equal(sounds["noisy"].sources, sounds["clean"].sources)
    np.testing.assert_allclose(sounds["noisy"].sources.sum(0), sounds["clean"].mixture, atol=1e-6)
    assert np.abs(sounds["noisy"].mixture - sounds["clean"].mixture).max() > 1e-3
    assert [source(domains[heard]).noisy for heard in ("clean", "noisy")] == [False, True]


def test_a_source_can_be_sent_to_another_process(corpus: Callable[..., Path]) -> None:
    """Without the signals that it has read."""
    found = load(f"speech:{corpus(speakers=8)}", config())
    sent: DataSet = pickle.loads(pickle.dumps(found))
    assert len(pickle.dumps(found)) < 50_000
    for domain, other in zip(found.domains, sent.domains, strict=True):
        assert np.array_equal(source(domain).sound(1).mixture, source(other).sound(1).mixture)


def test_mixtures_on_disk_are_what_they_are(librimix_folder: Path) -> None:
    found = load(f"librimix:{librimix_folder}", config())
    assert [(d.name, d.role, len(d)) for d in found.domains] == [
        ("libri2mix.train", Role.TRAIN, 6),
        ("libri2mix.valid", Role.VALID, 3),
        ("libri2mix.test", Role.TEST, 4),
    ]
    own = source(found.domains[2])
    for row, place in enumerate(own.evaluated):  # type: ignore[attr-defined]
        sound, mixture = own.sound(row), own.mixtures[place]  # type: ignore[attr-defined]
        np.testing.assert_allclose(sound.mixture, audio.read(mixture.mixture)[0], atol=1e-6)
        assert np.array_equal(sound.sources[1], audio.read(mixture.sources[1])[0])


def test_a_crop_of_a_mixture_on_disk_is_a_stretch_of_it(librimix_folder: Path) -> None:
    own = source(load(f"librimix:{librimix_folder}", config()).domains[0])
    assert own.training_rows == 6
    whole = audio.read(own.mixtures[5].mixture)[0]  # type: ignore[attr-defined]
    starts = set()
    for number in range(20):
        crop = own.drawn(5, number * 997, 8000).mixture
        start = number * 997 % (len(whole) - 8000 + 1)
        np.testing.assert_allclose(crop, whole[start : start + 8000], atol=1e-6)
        starts.add(start)
    assert len(starts) > 15
    long = own.drawn(0, 3, 32_000)
    assert long.sources.shape == (2, 32_000)
    assert not long.mixture[own.mixtures[0].frames :].any()  # type: ignore[attr-defined]


def test_of_mixtures_on_disk_those_that_are_evaluated_are_of_the_whole_split(librimix_folder: Path) -> None:
    """Not the first by name, which are of few speakers; one mixture less to train on is other data."""
    found = load(f"librimix:{librimix_folder}", config())
    names = sorted(path.stem for path in (librimix_folder / "wav8k" / "min" / "test" / "s1").iterdir())
    chosen = {mixture.name for mixture in source(found.domains[2]).mixtures}  # type: ignore[attr-defined]
    assert chosen == {names[place] for place in (0, 1, 2, 4)}
    for part in ("mix_clean", "s1", "s2"):
        sorted((librimix_folder / "wav8k" / "min" / "train-100" / part).iterdir())[2].unlink()
    assert load(f"librimix:{librimix_folder}", config()).fingerprint() != found.fingerprint()


def test_mixtures_on_disk_are_the_same_data_by_whichever_folder_they_are_named(
    librimix_folder: Path, tmp_path: Path
) -> None:
    """The root, the folder of a rate and mode, and by another path."""
    first = load(f"librimix:{librimix_folder}", config())
    assert load(f"librimix:{librimix_folder / 'wav8k' / 'min'}", config()).fingerprints() == first.fingerprints()
    above = load(f"librimix:{librimix_folder.parent},unseen={librimix_folder}", config())
    assert [domain.name for domain in above.domains][-1] == "libri2mix"


def test_a_split_may_be_chosen_and_the_only_one_there_is_unseen(
    librimix_folder: Path, corpus: Callable[..., Path], tmp_path: Path
) -> None:
    base, other = librimix_folder / "wav8k" / "min", tmp_path / "vctk"
    shutil.copytree(base / "dev", base / "train-360")
    with pytest.raises(UserError, match="there are: train-100, train-360"):
        load(f"librimix:{librimix_folder}", config())
    chosen = load(f"librimix:{librimix_folder},train=train-360", config())
    assert source(chosen.domains[0]).training_rows == 4
    shutil.copytree(base / "dev", other / "Libri2Mix" / "wav8k" / "min" / "all")
    found = load(f"librimix:{librimix_folder},train=train-100,unseen={other}", config())
    assert (found.domains[-1].name, len(found.domains[-1])) == ("vctk", 4)


# Other layouts


def in_layout(base: Path, splits: dict[str, int], folders: dict[str, str]) -> Path:
    """Mixtures in the folders of a corpus: every one of `folders` is a sum of the parts that it names."""
    for split, count in splits.items():
        for number in range(count):
            seed, frames = beginning(split) + 10 * number, 8000 + 400 * number
            dry = {part: 0.3 * voice(seed + place, 2.0, 8000)[:frames] for place, part in enumerate(("a", "b", "n"))}
            echo = {f"{part}~": 0.5 * np.roll(dry[part], 200) for part in "ab"}
            for name, parts in folders.items():
                (base / split / name).mkdir(parents=True, exist_ok=True)
                signal = sum((dry | echo)[part] for part in parts.split("+"))
                audio.write(base / split / name / f"{number}.wav", np.asarray(signal), 8000, subtype="PCM_16")
    return base


def beginning(split: str) -> int:
    return 1000 * sum(map(ord, split))


WHAM = {"mix_clean": "a+b", "mix_both": "a+b+n", "mix_single": "a+n", "s1": "a", "s2": "b", "noise": "n"}
WHAMR = {
    f"{name}_{ending}": "+".join(parts + tails)
    for ending in ("anechoic", "reverb")
    for name, parts, echoes in (
        ("mix_clean", ["a", "b"], ["a~", "b~"]),
        ("mix_both", ["a", "b", "n"], ["a~", "b~"]),
        ("mix_single", ["a", "n"], ["a~"]),
        ("s1", ["a"], ["a~"]),
        ("s2", ["b"], ["b~"]),
    )
    for tails in [echoes if ending == "reverb" else []]
} | {"noise": "n"}


def test_wham_is_read(tmp_path: Path) -> None:
    """By its own splits, clean and noisy, and as an unseen corpus."""
    in_layout(tmp_path / "wham" / "wav8k" / "min", {"tr": 5, "cv": 4, "tt": 6}, WHAM)
    found = load(f"wham:{tmp_path / 'wham'}", config(seconds=0.5))
    assert [(d.name, d.role, len(d)) for d in found.domains] == [
        ("wham.train", Role.TRAIN, 5),
        ("wham.valid", Role.VALID, 3),
        ("wham.test", Role.TEST, 4),
    ]
    assert [own.mixtures[0].mixture.parts[-3:-1] for own in map(source, found.domains)] == [  # type: ignore[attr-defined]
        ("tr", "mix_clean"),
        ("cv", "mix_clean"),
        ("tt", "mix_clean"),
    ]
    assert np.abs(source(found.domains[2]).sound(1).noise).max() < 2e-4  # three roundings to 16 bits
    noisy = source(load(f"wham:{tmp_path / 'wham'}", config(heard="noisy")).domains[2]).sound(1)
    assert noisy.noise.std() > 0.01
    assert load(f"librimix:{tmp_path / 'wham'}", config(seconds=0.5)).fingerprints() == found.fingerprints()


def test_wham_is_unseen_beside_librimix_and_vctk_2mix_beside_wham(librimix_folder: Path, tmp_path: Path) -> None:
    in_layout(tmp_path / "wham" / "wav8k" / "min", {"tr": 5, "cv": 4, "tt": 6}, WHAM)
    in_layout(tmp_path / "VCTK-2mix" / "wav8k" / "min", {"test": 7}, WHAM)
    found = load(f"librimix:{librimix_folder},unseen={tmp_path / 'wham'}", config())
    assert (found.domains[-1].name, source(found.domains[-1]).mixtures[0].mixture.parts[-3]) == ("wham", "tt")  # type: ignore[attr-defined]
    other = load(f"wham:{tmp_path / 'wham'},unseen={tmp_path / 'VCTK-2mix'}", config(heard="noisy"))
    assert (other.domains[-1].name, other.domains[-1].role, len(other.domains[-1])) == ("vctk_2mix", Role.UNSEEN, 4)
    with pytest.raises(UserError, match=r"VCTK-2mix/wav8k/min: one split to train on is needed.* there are: none"):
        load(f"librimix:{tmp_path / 'VCTK-2mix'}", config())


@pytest.mark.parametrize(
    ("heard", "targets", "mixture", "sources", "echo", "noise"),
    [
        ("clean", "anechoic", "mix_clean_anechoic", "s1_anechoic", False, False),
        ("noisy", "reverberant", "mix_both_anechoic", "s1_anechoic", False, True),
        ("reverberant", "anechoic", "mix_clean_reverb", "s1_anechoic", True, False),
        ("reverberant", "reverberant", "mix_clean_reverb", "s1_reverb", False, False),
        ("noisy_reverberant", "anechoic", "mix_both_reverb", "s1_anechoic", True, True),
        ("noisy_reverberant", "reverberant", "mix_both_reverb", "s1_reverb", False, True),
    ],
)
def test_whamr_is_read_with_and_without_its_rooms(
    heard: str, targets: str, mixture: str, sources: str, echo: bool, noise: bool, tmp_path: Path
) -> None:
    """What a room adds to the sources is heard, and is neither a source nor noise."""
    base = in_layout(tmp_path / "whamr" / "wav8k" / "min", {"tr": 3, "cv": 2, "tt": 2}, WHAMR)
    settings = config(seconds=0.5, heard=heard, mixing={"reverberation": {"targets": targets}})
    found = load(f"whamr:{tmp_path / 'whamr'}", settings)
    sound = source(found.domains[2]).sound(0)
    np.testing.assert_allclose(sound.mixture, audio.read(base / "tt" / mixture / "0.wav")[0], atol=1e-6)
    np.testing.assert_array_equal(sound.sources[0], audio.read(base / "tt" / sources / "0.wav")[0])
    assert (np.abs(sound.clean - sound.sources.sum(0)).max() > 0.01) == echo
    assert (np.abs(sound.noise).max() > 0.01) == noise
    crop = source(found.domains[0]).drawn(2, 77, 4000)
    assert crop.mixture.shape == (4000,)
    assert (np.abs(crop.noise).max() > 0.01) == noise
    assert source(found.domains[0]).drawn(0, 77, 24_000).mixture.shape == (24_000,)


def test_what_a_layout_lacks_is_named(tmp_path: Path) -> None:
    in_layout(tmp_path / "wham" / "wav8k" / "min", {"tr": 2, "cv": 2, "tt": 2}, WHAM)
    base = in_layout(tmp_path / "whamr" / "wav8k" / "min", {"tr": 2, "cv": 2, "tt": 2}, WHAMR)
    with pytest.raises(UserError, match=r"mix_clean_reverb: holds no mixtures; .*/tr has mix_both, mix_clean"):
        load(f"wham:{tmp_path / 'wham'}", config(heard="reverberant"))
    (base / "cv" / "s2_anechoic" / "1.wav").unlink()
    with pytest.raises(UserError, match=r"cv/s2_anechoic/1\.wav: there is no such file"):
        load(f"whamr:{tmp_path / 'whamr'}", config(heard="reverberant"))
    assert load(f"whamr:{tmp_path / 'whamr'}", config(heard="reverberant", mixing=REVERBERANT))
    audio.write(base / "tt" / "s1_reverb" / "0.wav", np.zeros(8000, np.float32), 16000)
    with pytest.raises(UserError, match=r"tt/s1_reverb/0\.wav: has 16000 Hz, 8000 are wanted"):
        load(f"whamr:{tmp_path / 'whamr'}", config(heard="reverberant", mixing=REVERBERANT))
    shutil.rmtree(base / "tt")
    with pytest.raises(UserError, match="has no split called test or tt, and 2 others"):
        load(f"wham:{tmp_path / 'wham'},unseen={tmp_path / 'whamr'}", config())


REVERBERANT = {"reverberation": {"targets": "reverberant"}}


# Rooms, noise, and who speaks


def test_domains_in_rooms_share_none_and_read_what_was_written(corpus: Callable[..., Path], tmp_path: Path) -> None:
    pytest.importorskip("pyroomacoustics")
    folder, mixing = (
        corpus(speakers=8),
        {"reverberation": {"share": 1, "seconds": {"low": 0.1, "high": 0.2}, "rooms": 9}},
    )
    found = load(f"speech:{folder},unseen={corpus(speakers=3, name='other')}", config(mixing=mixing))
    rooms = [{mixture.room for mixture in source(domain).mixtures} for domain in found.domains]  # type: ignore[attr-defined]
    assert not any(one & other for place, one in enumerate(rooms) for other in rooms[:place])
    assert len(rooms[0]) == 9
    crop = source(found.domains[0]).drawn(0, 5, 8000)
    assert np.abs(crop.mixture - crop.sources.sum(0)).max() > 1e-3
    assert not crop.noise.any()
    rules = MixingRules.model_validate(mixing)
    target, mixer = librimix.folder_of(tmp_path / "wet", rules), Mixer(scan(folder).recordings, rules)
    for split in ("train-100", "dev", "test"):
        librimix.write_split(target, split, mixer, rules, range(3), DecodeCache(8000))
    again = source(load(f"librimix:{tmp_path / 'wet'}", config(heard="reverberant")).domains[1])
    written = [render(mixer.whole(index), DecodeCache(8000), 8000) for index in range(3)]
    for row in range(3):
        (same,) = [one for one in written if np.array_equal(one.sources, again.sound(row).sources)]
        assert np.array_equal(same.mixture, again.sound(row).mixture)
        assert not again.sound(row).noise.any()


def test_what_is_not_used_is_in_no_fingerprint(corpus: Callable[..., Path]) -> None:
    """Data of a release that knew neither rooms nor dequantisation stay the same data."""
    folder = f"speech:{corpus(speakers=8)}"
    domain = load(folder, config()).domains[0]
    assert domain.condition is not None
    text = domain.condition.model_dump_json(exclude=additions(domain.condition))
    assert json.loads(text)["mixing"].keys() == {
        *("speakers", "sample_rate", "mode", "loudness", "noise_loudness", "overlap", "babble")
    }
    assert json.loads(text).keys() == {"kind", "replicate", "seconds", "longest", "mixing", "heard", "rows"}
    assert fingerprints(folder, dequantise=True) == fingerprints(folder)


def test_reverberation_makes_other_data(corpus: Callable[..., Path]) -> None:
    pytest.importorskip("pyroomacoustics")
    folder, few = f"speech:{corpus(speakers=8)}", {"share": 1, "rooms": 2}
    dry, wet, reverberant = (
        fingerprints(folder, mixing={"reverberation": own}) for own in ({}, few, few | {"targets": "reverberant"})
    )
    assert len({dry[0], wet[0], reverberant[0]}) == 3
    assert dry == fingerprints(folder)


def test_noise_of_a_domain_is_of_its_role(corpus: Callable[..., Path], tmp_path: Path) -> None:
    noise = tmp_path / "noise"
    noise.mkdir()
    for number in range(10):
        audio.write(noise / f"{number}.wav", voice(70 + number, 4.0), RATE)
    found = load(f"speech:{corpus(speakers=8)},unseen={corpus(speakers=3, name='b')},noise={noise}", config())
    heard = [
        {part.recording.path.name for mixture in source(domain).mixtures for part in mixture.noise}  # type: ignore[attr-defined]
        for domain in found.domains
    ]
    assert len(heard[0]) == 8
    assert heard[2] == heard[3]
    assert not heard[0] & heard[1] | heard[0] & heard[2] | heard[1] & heard[2]


def test_who_speaks_can_be_said_of_every_folder(corpus: Callable[..., Path], tmp_path: Path) -> None:
    """Of the one that it follows: here all files lie in one folder, where `by_place` finds one speaker a file."""
    flat, other = tmp_path / "flat", tmp_path / "flat, too"
    for folder in (flat, other):
        folder.mkdir()
        for path in corpus(speakers=8).rglob("*.wav"):
            shutil.copy(path, folder / f"take{path.stem}_{path.parent.name}.wav")
    table = tmp_path / "speakers.csv"
    rows = [f"{path.name},{path.stem[-1]}" for path in sorted(other.iterdir()) if path.stem[-1] in "012"]
    table.write_text("\n".join(["path,speaker", *rows]))
    spec = f"speech:{flat},speaker=take\\d{{1,2}}_(s\\d),unseen={other},speakers={table}"
    found = load(spec, config())
    speakers = [
        {part.recording.speaker for mixture in source(domain).mixtures for part in mixture.sources}  # type: ignore[attr-defined]
        for domain in found.domains
    ]
    assert speakers[0] <= {f"s{number}" for number in range(8)}
    assert speakers[3] == {"0", "1", "2"}
    assert found.summary[0].endswith("16 recordings of 8 speakers, 0.0083 hours")


def test_a_relative_path_is_good_in_every_working_directory(
    corpus: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray's workers start from folders of their own."""
    folder = corpus(speakers=8)
    monkeypatch.chdir(folder.parent)
    sent: DataSet = pickle.loads(pickle.dumps(load("speech:corpus", config())))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert source(sent.domains[2]).sound(0).mixture.any()


def test_long_mixtures_are_cut_off(corpus: Callable[..., Path], librimix_folder: Path) -> None:
    for spec in (f"speech:{corpus(speakers=8, name='longer')}", f"librimix:{librimix_folder}"):
        found = load(spec, config(longest=1.25))
        for domain in found.domains[1:]:
            own = source(domain)
            assert own.frames.max() == 10_000
            assert own.sound(len(domain) - 1).sources.shape == (2, 10_000)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("speach:{corpus}", "unknown kind 'speach' .did you mean 'speech'"),
        ("speech", "a folder is needed; write speech:DIR"),
        ("speech:{corpus},unsen={corpus}", "unknown option 'unsen' .did you mean 'unseen'"),
        ("speech:{corpus},unseen=", "unseen= needs a folder"),
        ("librimix:{corpus},noise={corpus}", "unknown option 'noise'"),
        ("speech:{corpus},noise={corpus},noise={corpus}", "noise= is there twice"),
        ("librimix:{corpus},train=", "train= needs a split"),
        ("speech:{corpus},unseen={corpus}", "cannot be both trained on and unseen"),
        ("speech:{corpus}/nowhere", "nowhere"),
        ("speech:{corpus},speaker=", "speaker= needs a regular expression"),
        ("speech:{corpus},speaker=abc", "speaker pattern abc: has no group"),
        ("speech:{corpus},speakers=nowhere.csv", "nowhere.csv: no such file"),
        ("speech:{corpus},speaker=(a),speakers={corpus}", "two rules say who speaks in .*corpus; give one"),
        ("librimix:{corpus},speaker=(a)", "unknown option 'speaker'"),
        ("wham:{corpus},noise={corpus}", "unknown option 'noise'"),
        ("whamr", "a folder is needed; write whamr:DIR"),
        ("librimix:{corpus}", "one split to train on is needed, say which by ,train=SPLIT; there are: none"),
    ],
)
def test_a_wrong_specification_is_refused_in_one_line(spec: str, words: str, corpus: Callable[..., Path]) -> None:
    with pytest.raises(UserError, match=words) as error:
        load(spec.format(corpus=corpus(speakers=8)), config())
    assert "\n" not in str(error.value)


def test_a_domain_with_too_few_speakers_is_named(corpus: Callable[..., Path]) -> None:
    folder, other = corpus(speakers=8), corpus(speakers=1, name="lonely")
    with pytest.raises(UserError, match="lonely: 1 speakers: a mixture needs 2 different ones"):
        load(f"speech:{folder},unseen={other}", config())


def test_what_is_speech_is_told_by_its_kind() -> None:
    assert all(is_speech(spec) for spec in ("speech:a", "librimix:b", "wham:c", "whamr:d"))
    assert not any(is_speech(spec) for spec in ("pulses", "pulses:conditions=noise_1"))
