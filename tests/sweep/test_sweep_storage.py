"""Storage: files that appear whole or not at all, in a folder or behind a URI."""

from pathlib import Path
from typing import Any

import pytest

from vaesweep.errors import UserError
from vaesweep.sweep import storage as storage_module
from vaesweep.sweep.storage import FINISHED, Storage, checkpoint_name, finished_name


@pytest.fixture(params=["folder", "file URI"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    place = tmp_path / "a folder" / "cells"
    return Storage(str(place) if request.param == "folder" else f"file://{tmp_path}/cells")


def test_what_was_written_is_read_back(storage: Storage) -> None:
    storage.write("finished/a.safetensors", b"content")
    assert storage.read("finished/a.safetensors") == b"content"
    assert storage.read("finished/a.safetensors", 4) == b"cont"
    assert storage.read("finished/a.safetensors", 2**60) == b"content"


def test_nothing_is_there_before_it_was_written(storage: Storage) -> None:
    assert storage.names(FINISHED) == []
    assert not storage.exists(finished_name("a"))
    with pytest.raises(FileNotFoundError):
        storage.read(finished_name("a"))


def test_files_are_listed_by_folder_in_order(storage: Storage) -> None:
    for name in (finished_name("b"), finished_name("a"), checkpoint_name("p", 20)):
        storage.write(name, b"x")
    assert storage.names(FINISHED) == ["finished/a.safetensors", "finished/b.safetensors"]
    assert storage.names("checkpoints") == ["checkpoints/p-20.safetensors"]


def test_a_deleted_file_is_gone_and_deleting_it_again_is_no_fault(storage: Storage) -> None:
    storage.write(finished_name("a"), b"x")
    storage.delete(finished_name("a"))
    storage.delete(finished_name("a"))
    assert not storage.exists(finished_name("a"))


def test_a_later_write_replaces_the_earlier_one(storage: Storage) -> None:
    storage.write(finished_name("a"), b"a long earlier content")
    storage.write(finished_name("a"), b"later")
    assert storage.read(finished_name("a")) == b"later"


def test_two_storages_of_one_place_see_the_same_files(tmp_path: Path) -> None:
    Storage(str(tmp_path)).write(finished_name("a"), b"x")
    assert Storage(f"file://{tmp_path}").names(FINISHED) == ["finished/a.safetensors"]


def test_a_relative_folder_means_the_same_after_the_process_has_moved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    storage = Storage("cells")
    monkeypatch.chdir("/")
    storage.write(finished_name("a"), b"x")
    assert (tmp_path / "cells" / "finished" / "a.safetensors").read_bytes() == b"x"
    assert storage.uri == str(tmp_path / "cells")


def test_drafts_are_not_listed(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    storage.write(finished_name("a"), b"x")
    (tmp_path / "finished" / "b.safetensors.0123.part").write_bytes(b"half")
    (tmp_path / "finished" / "notes.txt").write_bytes(b"somebody's")
    assert storage.names(FINISHED) == ["finished/a.safetensors"]


def test_a_folder_of_that_name_is_no_file(tmp_path: Path) -> None:
    (tmp_path / finished_name("a")).mkdir(parents=True)
    storage = Storage(str(tmp_path))
    assert storage.names(FINISHED) == []
    assert not storage.exists(finished_name("a"))


def test_a_write_that_is_cut_short_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = Storage(str(tmp_path))
    storage.write(finished_name("a"), b"earlier")

    def killed(*_: Any) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(storage_module.os, "fsync", killed)
    with pytest.raises(OSError, match="no space"):
        storage.write(finished_name("a"), b"later")
    assert storage.read(finished_name("a")) == b"earlier"
    assert storage.names(FINISHED) == [finished_name("a")]


@pytest.mark.parametrize("uri", ["nosuch://bucket/folder", "gs:///"])
def test_a_uri_that_leads_nowhere_is_refused_in_one_line(uri: str) -> None:
    with pytest.raises(UserError) as caught:
        Storage(uri)
    assert str(caught.value).startswith(f"--storage {uri}: ")
    assert "\n" not in str(caught.value)
