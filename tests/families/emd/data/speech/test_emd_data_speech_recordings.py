"""Folders of recordings: speakers, what is left out, the index, and splits that share no speaker."""

import builtins
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyloudnorm
import pytest
from voices import RATE, voice

from vaesweep.data.domains import Role
from vaesweep.errors import UserError
from vaesweep.families.emd.data.speech import audio, recordings
from vaesweep.families.emd.data.speech.recordings import (
    by_pattern,
    by_place,
    by_table,
    scan,
    scan_noise,
    split_speakers,
)

REAL = Path(__file__).parents[5].parent / "shared" / "data"


def test_a_folder_of_folders_has_a_speaker_a_folder(corpus: Callable[..., Path]) -> None:
    found = scan(corpus(speakers=3, utterances=2))
    assert [recording.speaker for recording in found.recordings] == ["s0", "s0", "s1", "s1", "s2", "s2"]
    assert found.recordings[0].frames == 1.5 * RATE
    assert found.summary[0].endswith("6 recordings of 3 speakers, 0.0031 hours")


@pytest.mark.parametrize(
    ("name", "speaker"),
    [
        ("103/1240/103-1240-0000.flac", "103"),
        ("103-1240-0000.flac", "103"),
        ("p225/p225_003.wav", "p225"),
        ("a.wav", "a"),
    ],
)
def test_the_place_of_a_file_says_who_speaks(name: str, speaker: str) -> None:
    assert by_place(name) == speaker


@pytest.mark.parametrize(
    ("name", "speaker"),
    [
        ("train-clean-100/103/1240/103-1240-0000.flac", "103"),
        ("wav48_silence_trimmed/p225/p225_001_mic1.flac", "p225"),
        ("anna/2020/morning_1.wav", "anna"),
    ],
)
def test_a_speaker_is_found_below_the_roots_of_corpora(name: str, speaker: str) -> None:
    assert by_place(name) == speaker


def test_linked_folders_are_followed_once_and_hidden_files_left(corpus: Callable[..., Path], tmp_path: Path) -> None:
    folder = corpus(speakers=3, utterances=1)
    links = tmp_path / "links"
    links.mkdir()
    for speaker in range(3):
        (links / f"s{speaker}").symlink_to(folder / f"s{speaker}")
    (folder / "s1" / "again").symlink_to(links)  # a loop
    (folder / "s0" / "._0.wav").write_bytes(b"no audio")
    assert [r.speaker for r in scan(links).recordings] == ["s0", "s1", "s2"]
    assert len(scan(folder).recordings) == 3


def test_what_was_read_before_a_bad_file_is_not_read_again(
    corpus: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = corpus(speakers=4, utterances=1)
    (folder / "s3" / "0.wav").write_bytes(b"nothing")
    with pytest.raises(UserError, match=r"s3/0\.wav"):
        scan(folder)
    audio.write(folder / "s3" / "0.wav", voice(9, 2.0), RATE)
    read: list[str] = []
    before = audio.read
    monkeypatch.setattr(audio, "read", lambda path, *rest: (read.append(path.parent.name), before(path, *rest))[1])
    scan(folder)
    assert read == ["s3"]


def test_a_folder_whose_recordings_are_all_left_out_is_refused(tmp_path: Path) -> None:
    (tmp_path / "blips").mkdir()
    audio.write(tmp_path / "blips" / "a-1.wav", voice(1, 0.5), RATE)
    with pytest.raises(UserError, match="all of its 1 recordings are shorter than 1 s or silent"):
        scan(tmp_path / "blips")


def test_a_pattern_or_a_table_may_say_it_instead(corpus: Callable[..., Path], tmp_path: Path) -> None:
    folder = corpus(speakers=3, utterances=2)
    assert {r.speaker for r in scan(folder, by_pattern(r"/(0)\.wav")).recordings} == {"0"}
    table = tmp_path / "speakers.csv"
    table.write_text("path,speaker\ns0/0.wav,anna\ns1/1.wav,bert\n")
    assert [(r.path.name, r.speaker) for r in scan(folder, by_table(table)).recordings] == [
        ("0.wav", "anna"),
        ("1.wav", "bert"),
    ]


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        (lambda tmp: by_pattern("("), "is no regular expression"),
        (lambda tmp: by_pattern("abc"), "has no group"),
        (lambda tmp: by_table(tmp / "none.csv"), "cannot be read as a table"),
        (lambda tmp: by_table(_written(tmp / "t.csv", "file,who\na,b\n")), "has no columns path and speaker"),
        (lambda tmp: scan(tmp / "nowhere"), "there is no such folder"),
        (lambda tmp: scan(_made(tmp / "bare")), "has no files ending in .wav, .flac"),
        (lambda tmp: scan(_recorded(tmp / "one"), by_pattern("(nobody)")), "1 audio files, but no speaker is known"),
    ],
)
def test_what_names_no_recordings_is_refused_in_one_line(
    rule: Callable[[Path], Any], words: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=words) as error:
        rule(tmp_path)
    assert "\n" not in str(error.value)


def _written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def _made(path: Path) -> Path:
    path.mkdir()
    return path


def _recorded(path: Path) -> Path:
    path.mkdir()
    audio.write(path / "a-1.wav", voice(1), RATE)
    return path


def test_short_and_silent_recordings_are_left_out_and_counted(corpus: Callable[..., Path]) -> None:
    folder = corpus(speakers=2, utterances=1)
    audio.write(folder / "s0" / "short.wav", voice(1, 0.5), RATE)
    audio.write(folder / "s0" / "silent.wav", np.zeros(2 * RATE, np.float32), RATE)
    found = scan(folder)
    assert len(found.recordings) == 2
    assert found.summary[0].endswith("left out: 1 shorter than 1 s, 1 silent")


def test_loudness_is_that_of_the_standard() -> None:
    """A sine of 997 Hz and full scale has -3.01 LUFS in one channel (ITU-R BS.1770-4, annex 1)."""
    sine = np.sin(2 * np.pi * 997 * np.arange(5 * RATE) / RATE)
    assert recordings.loudness(sine, RATE) == pytest.approx(-3.01, abs=0.1)
    assert recordings.loudness(sine / 10, RATE) == pytest.approx(-23.01, abs=0.1)
    assert recordings.loudness(0 * sine, RATE) == -1000


def test_files_are_read_once_and_again_where_they_have_changed(
    corpus: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = corpus(speakers=3, utterances=1)
    first = scan(folder)
    read: list[str] = []
    before = audio.read
    monkeypatch.setattr(audio, "read", lambda path, *rest: (read.append(path.parent.name), before(path, *rest))[1])
    assert scan(folder) == first
    assert read == []
    audio.write(folder / "s1" / "0.wav", voice(9, 3.0), RATE)
    again = scan(folder)
    assert read == ["s1"]
    assert [one.digest == other.digest for one, other in zip(first.recordings, again.recordings, strict=True)] == [
        True,
        False,
        True,
    ]


@pytest.mark.parametrize(
    "content", ["", "{", '{"format": 0, "recordings": {}}', '{"format": 1, "recordings": {"a": []}}']
)
def test_an_index_that_is_none_is_made_anew(content: str, corpus: Callable[..., Path], own_cache: Path) -> None:
    folder = corpus(speakers=2, utterances=1)
    first = scan(folder)
    (index,) = own_cache.iterdir()
    index.write_text(content)
    assert scan(folder) == first


def test_a_cache_that_cannot_be_written_costs_time_only(
    corpus: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("VAESWEEP_CACHE", str(tmp_path / "file" / "cache"))
    assert len(scan(corpus(speakers=2, utterances=1)).recordings) == 2


def test_a_folder_that_was_moved_is_the_same_data(corpus: Callable[..., Path], tmp_path: Path) -> None:
    folder = corpus(speakers=2, utterances=1)
    first = [recording.digest for recording in scan(folder).recordings]
    shutil.move(folder, tmp_path / "elsewhere")
    assert [recording.digest for recording in scan(tmp_path / "elsewhere").recordings] == first


def test_a_file_that_cannot_be_read_is_named(corpus: Callable[..., Path]) -> None:
    folder = corpus(speakers=2, utterances=1)
    (folder / "s1" / "0.wav").write_bytes(b"nothing")
    with pytest.raises(UserError, match=r"s1/0\.wav: cannot be read as audio"):
        scan(folder)


def test_a_missing_library_is_named_with_the_command_that_installs_it(
    corpus: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = builtins.__import__

    def without(name: str, *rest: Any, **more: Any) -> Any:
        if name == "pyloudnorm":
            raise ImportError(name)
        return before(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UserError, match=r"takes pyloudnorm, .* pip install 'vaesweep\[speech\]'"):
        scan(corpus(speakers=2, utterances=1))


def test_no_speaker_is_in_two_splits_and_all_are_in_one(corpus: Callable[..., Path]) -> None:
    found = scan(corpus(speakers=20, utterances=1)).recordings
    split = split_speakers(found)
    speakers = {role: {recording.speaker for recording in own} for role, own in split.items()}
    assert {role: len(names) for role, names in speakers.items()} == {Role.TRAIN: 16, Role.VALID: 2, Role.TEST: 2}
    assert len(set.union(*speakers.values())) == 20


def test_one_speaker_more_moves_few_others(corpus: Callable[..., Path]) -> None:
    found = scan(corpus(speakers=21, utterances=1)).recordings
    fewer = [recording for recording in found if recording.speaker != "s20"]
    one, other = (
        {r.speaker: role for role, own in split_speakers(some).items() for r in own} for some in (found, fewer)
    )
    assert sum(one[speaker] != role for speaker, role in other.items()) <= 2


def test_too_few_speakers_are_refused(corpus: Callable[..., Path]) -> None:
    with pytest.raises(UserError, match="5 speakers cannot be split into train, valid, test, of 2 or more each"):
        split_speakers(scan(corpus(speakers=5, utterances=1)).recordings)


def noises(folder: Path, count: int, first: int = 0) -> Path:
    folder.mkdir(parents=True)
    for number in range(first, first + count):
        audio.write(folder / f"{number}.wav", voice(number), RATE)
    return folder


def names(role: Role, folder: Path) -> set[str]:
    return {recording.path.relative_to(folder).as_posix() for recording in scan_noise(folder).of(role)}


def test_no_noise_is_in_two_roles_and_unseen_domains_have_that_of_testing(tmp_path: Path) -> None:
    folder = noises(tmp_path / "noise", 20)
    audio.write(folder / "again.wav", voice(3), RATE)  # one recording twice is one recording
    parts = [names(role, folder) for role in (Role.TRAIN, Role.VALID, Role.TEST)]
    assert sorted(map(len, parts)) in ([2, 2, 17], [2, 3, 16])
    assert len(set.union(*parts)) == sum(map(len, parts)) == 21
    assert len([own for own in parts if {"3.wav", "again.wav"} <= own]) == 1
    assert names(Role.UNSEEN, folder) == parts[2]
    assert "of noise to train with" in scan_noise(folder).summary[-1]
    assert len(scan_noise(folder).recordings) == 21


def test_which_noise_is_for_testing_does_not_depend_on_names(tmp_path: Path) -> None:
    folder = noises(tmp_path / "noise", 10)
    (before,) = scan_noise(folder).of(Role.TEST)
    for number in range(10):
        (folder / f"{number}.wav").rename(folder / f"renamed {(7 * number) % 10}.wav")
    assert [recording.digest for recording in scan_noise(folder).of(Role.TEST)] == [before.digest]


@pytest.mark.parametrize("parts", [("tr", "cv", "tt"), ("train", "dev", "test")])
def test_folders_of_noise_that_say_their_role_keep_it(parts: tuple[str, ...], tmp_path: Path) -> None:
    """WHAM!'s release, and folders called after the roles."""
    for number, part in enumerate(parts):
        noises(tmp_path / "noise" / part, 2, 10 * number)
    for number, (part, role) in enumerate(zip(parts, (Role.TRAIN, Role.VALID, Role.TEST), strict=True)):
        assert names(role, tmp_path / "noise") == {f"{part}/{10 * number}.wav", f"{part}/{10 * number + 1}.wav"}


def test_too_few_noises_are_in_all_roles_and_it_is_said(tmp_path: Path) -> None:
    folder = noises(tmp_path / "noise", 2)
    assert names(Role.TRAIN, folder) == names(Role.TEST, folder) == {"0.wav", "1.wav"}
    assert scan_noise(folder).summary[-1].endswith("too few to divide: they are the same in all domains")
    assert scan_noise(None).of(Role.TRAIN) == ()


def test_noise_of_some_roles_only_is_refused(tmp_path: Path) -> None:
    for part in ("tr", "tt"):
        noises(tmp_path / "noise" / part, 1)
    with pytest.raises(UserError, match="noise: has tr, tt; noise is in one folder each of tr, cv and tt, or in none"):
        scan_noise(tmp_path / "noise")


@pytest.mark.skipif(not (REAL / "librispeech").is_dir(), reason="the real recordings are not here")
def test_real_recordings_are_as_they_are_described() -> None:
    test_other = scan(REAL / "librispeech" / "librispeech_test-other")
    assert (len(test_other.recordings), len({r.speaker for r in test_other.recordings})) == (100, 10)
    assert len(scan(REAL / "vctk").recordings) == 20
    first = test_other.recordings[0]
    signal, rate = audio.read(first.path)
    assert first.loudness == pytest.approx(pyloudnorm.Meter(rate).integrated_loudness(signal.astype(float)), abs=5.1e-4)
    assert first.rate == 16000
