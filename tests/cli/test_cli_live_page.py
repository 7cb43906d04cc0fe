"""The page of a sweep is drawn while it trains, and whatever happens to that drawing ends nothing."""

import sys
import time
from pathlib import Path

import pytest

from vaesweep.cli import live_page
from vaesweep.cli.live_page import LivePage


def wait_until(path: Path, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not path.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert path.exists()


def drawing(page: LivePage, code: str) -> LivePage:
    """`page`, which runs `code` in the place of the report."""
    page._words = [sys.executable, "-c", code]
    return page


def test_it_is_drawn_again_and_again_with_a_pause(tmp_path: Path) -> None:
    code = f"import pathlib, uuid; pathlib.Path({str(tmp_path)!r}, uuid.uuid4().hex).touch()"
    page = drawing(LivePage("toy", "aaaa", tmp_path, least=0.05, share=0.1), code)
    with page:
        deadline = time.monotonic() + 60
        while len(list(tmp_path.iterdir())) < 3 and time.monotonic() < deadline:
            time.sleep(0.02)
    assert len(list(tmp_path.iterdir())) >= 3


def test_a_drawing_that_fails_is_tried_again(tmp_path: Path) -> None:
    tried = tmp_path / "tried"
    code = f"import pathlib, sys; p = pathlib.Path({str(tried)!r}); p.exists() and p.with_name('again').touch()"
    with drawing(LivePage("toy", "aaaa", tmp_path, least=0.05, share=0.1), code + "; p.touch(); sys.exit(1)"):
        wait_until(tmp_path / "again")


def test_a_drawing_that_hangs_ends_with_training(tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    code = f"import pathlib, time; pathlib.Path({str(begun)!r}).touch(); time.sleep(600)"
    page = drawing(LivePage("toy", "aaaa", tmp_path, least=0.01), code)
    with page:
        wait_until(begun)
    assert page._drawing is not None
    assert page._drawing.wait(30) != 0
    assert not page._thread.is_alive()


def test_a_machine_without_processes_to_spare_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[object] = []

    def refuse(*words: object, **_: object) -> None:
        tried.append(words)
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(live_page.subprocess, "Popen", refuse)
    with LivePage("toy", "aaaa", tmp_path, least=0.01, share=1.0) as page:
        deadline = time.monotonic() + 60
        while len(tried) < 3 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert page._thread.is_alive()
    assert len(tried) >= 3
