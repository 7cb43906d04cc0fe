"""A small corpus of voices that are none, and an index of recordings that no other test sees."""

from collections.abc import Callable
from pathlib import Path

import pytest
from voices import RATE, voice

from vaesweep.families.emd.data.speech import audio


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("VAESWEEP_CACHE", str(folder))
    return folder


@pytest.fixture
def corpus(tmp_path: Path) -> Callable[..., Path]:
    """Makes a folder of `speakers` times `utterances` files of different lengths."""

    def make(speakers: int = 6, utterances: int = 2, name: str = "corpus", **format: str) -> Path:
        for speaker in range(speakers):
            for utterance in range(utterances):
                folder = tmp_path / name / f"s{speaker}"
                folder.mkdir(parents=True, exist_ok=True)
                seconds = 1.5 + 0.25 * ((speaker + utterance) % 4)
                signal = voice(100 * speaker + utterance, seconds)
                audio.write(folder / f"{utterance}.wav", signal, RATE, subtype="FLOAT")
        return tmp_path / name

    return make
