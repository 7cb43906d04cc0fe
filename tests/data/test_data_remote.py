"""Data in object storage: what a manifest lists is copied once and checked, and everything else is refused."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pyarrow import fs

from vaesweep.cli.main import main
from vaesweep.data.remote import MANIFEST, copied, local_copy, write_manifest
from vaesweep.data.spelling import existing
from vaesweep.errors import UserError

FILES = {"a.csv": b"one,two\n1,2\n", "more/b.bin": bytes(range(256)) * 9000, "more/empty": b""}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VAESWEEP_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "data"


@pytest.fixture
def bucket(tmp_path: Path) -> Path:
    folder = tmp_path / "bucket" / "numbers"
    for name, content in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    write_manifest(folder)
    return folder


def uri(folder: Path) -> str:
    return f"file://{folder}"


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_folder_is_copied_under_its_own_name(bucket: Path) -> None:
    copy = existing(uri(bucket))
    assert copy.name == "numbers"
    assert contents(copy) == FILES


def test_a_file_is_found_by_the_manifest_beside_it(bucket: Path) -> None:
    copy = local_copy(uri(bucket / "a.csv"))
    assert (copy.name, copy.read_bytes()) == ("a.csv", FILES["a.csv"])
    assert not list(copy.parent.glob("more")), "nothing else is copied"


def test_what_was_copied_is_not_copied_again(bucket: Path) -> None:
    copy = local_copy(uri(bucket))
    for name in FILES:
        (bucket / name).unlink()
    assert local_copy(uri(bucket)) == copy
    assert contents(copy) == FILES


def test_a_copy_that_lacks_a_file_is_completed(bucket: Path) -> None:
    copy = local_copy(uri(bucket))
    (copy / "more" / "b.bin").write_bytes(b"cut")
    (copy / "a.csv").unlink()
    assert contents(local_copy(uri(bucket))) == FILES


def test_other_data_under_the_same_uri_are_another_copy(bucket: Path) -> None:
    first = local_copy(uri(bucket))
    (bucket / "a.csv").write_bytes(b"three\n")
    write_manifest(bucket)
    second = local_copy(uri(bucket))
    assert first != second
    assert (first / "a.csv").read_bytes() == FILES["a.csv"]
    assert (second / "a.csv").read_bytes() == b"three\n"


@pytest.mark.parametrize("content", [b"one,two\n1,3\n", b"one,two\n1,2\n3,4\n", b"one"], ids=["bit", "longer", "cut"])
def test_a_file_that_is_not_what_the_manifest_says_is_refused_and_not_kept(
    bucket: Path, cache: Path, content: bytes
) -> None:
    (bucket / "a.csv").write_bytes(content)
    with pytest.raises(UserError, match=r"a\.csv is not what manifest\.json says"):
        local_copy(uri(bucket))
    assert not list(cache.rglob("a.csv"))
    (bucket / "a.csv").write_bytes(FILES["a.csv"])
    assert contents(local_copy(uri(bucket))) == FILES


def test_a_listed_file_that_is_missing_is_named(bucket: Path) -> None:
    (bucket / "a.csv").unlink()
    with pytest.raises(UserError, match=r"a\.csv cannot be copied"):
        local_copy(uri(bucket))


def test_a_folder_without_a_manifest_is_refused_with_the_command_that_writes_one(bucket: Path) -> None:
    (bucket / MANIFEST).unlink()
    with pytest.raises(UserError, match="vaesweep manifest DIR"):
        local_copy(uri(bucket))


def test_a_file_that_the_manifest_does_not_list_is_refused(bucket: Path) -> None:
    (bucket / "new.csv").write_bytes(b"")
    with pytest.raises(UserError, match=r"does not list new\.csv"):
        local_copy(uri(bucket / "new.csv"))


@pytest.mark.parametrize("name", ["../outside", "/etc/outside", "a/../../outside", "", MANIFEST])
def test_a_manifest_that_names_what_is_not_below_it_is_refused(bucket: Path, name: str) -> None:
    entry = {"name": name, "bytes": 0, "sha256": hashlib.sha256(b"").hexdigest()}
    (bucket / MANIFEST).write_text(json.dumps({"format": 1, "files": [entry]}))
    with pytest.raises(UserError, match="is no file below it"):
        local_copy(uri(bucket))


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 1}', '{"format": 1, "files": [3]}', '{"format": 2}'])
def test_what_is_no_manifest_is_refused(bucket: Path, text: str) -> None:
    (bucket / MANIFEST).write_text(text)
    with pytest.raises(UserError, match=r"is not a manifest of vaesweep|has format 2"):
        local_copy(uri(bucket))


@pytest.mark.parametrize(
    "with_credentials",
    ["s3://AKIA:hidden@bucket/data", "s3://AKIA@bucket/data", "s3://bucket/data?secret_key=hidden"],
)
def test_credentials_in_a_uri_are_refused_and_not_repeated(with_credentials: str) -> None:
    with pytest.raises(UserError, match="holds no credentials") as refused:
        existing(with_credentials)
    assert "hidden" not in str(refused.value)


def test_an_unknown_scheme_is_refused_in_a_line() -> None:
    with pytest.raises(UserError, match="s3://bucket/folder"):
        existing("nowhere://bucket/data")


def test_more_than_the_disk_has_room_for_is_refused_before_it_is_copied(
    bucket: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 9, 1))
    with pytest.raises(UserError, match="set VAESWEEP_CACHE"):
        local_copy(uri(bucket))


@pytest.fixture
def object_store(bucket: Path) -> Any:
    """pyarrow's stand-in for one, which has no local files."""
    store = fs._MockFileSystem()
    store.create_dir("bucket/numbers/more", recursive=True)
    for name, content in contents(bucket).items():
        with store.open_output_stream(f"bucket/numbers/{name}") as stream:
            stream.write(content)
    return store


def test_any_file_system_of_pyarrow_will_do(object_store: Any, cache: Path) -> None:
    copy = copied(object_store, "bucket/numbers", "mock://bucket/numbers", cache)
    assert contents(copy) == FILES


def test_the_command_writes_the_manifest(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], bucket: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (bucket / MANIFEST).unlink()
    assert main(["manifest", str(bucket)]) == 0
    assert f"written: {bucket / MANIFEST}, of 3 files" in capsys.readouterr().out
    listed = json.loads((bucket / MANIFEST).read_text())["files"]
    assert {file["name"]: (file["bytes"], file["sha256"]) for file in listed} == {
        name: (len(content), hashlib.sha256(content).hexdigest()) for name, content in FILES.items()
    }


@pytest.mark.parametrize("make", [lambda folder: None, Path.mkdir], ids=["none", "empty"])
def test_a_folder_with_nothing_in_it_has_no_manifest(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / "nothing")
    with pytest.raises(UserError, match="name the "):
        write_manifest(tmp_path / "nothing")
