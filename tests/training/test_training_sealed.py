"""A file proves that it is what was written, under the name that it was written for."""

import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vaesweep.training import sealed
from vaesweep.training.sealed import DamagedFile, NewerFile, header, seal, unseal

ABOUT = {"format": 2, "cell": "a", "metrics": {"x/rate": 1.25}}
TENSORS = {
    "model/a": torch.arange(6.0).reshape(2, 3),
    "model/scalar": torch.tensor(2.5, dtype=torch.float64),
    "model/half": torch.ones(3, dtype=torch.bfloat16),
    "kept/order": torch.arange(4, dtype=torch.uint8),
    "kept/flag": torch.tensor([True, False]),
    "kept/none": torch.empty(0, 3),
}
FILE = seal(ABOUT, TENSORS)


def test_what_was_sealed_is_read_back() -> None:
    about, tensors = unseal(FILE, "here", (1, 2))
    assert about == ABOUT
    assert tensors.keys() == TENSORS.keys()
    for name, value in TENSORS.items():
        assert torch.equal(tensors[name], value)
        assert tensors[name].dtype == value.dtype
    start = header(FILE[: 8 + int.from_bytes(FILE[:8], "little")], "here", (1, 2))
    assert {**start, "digest": ""} == {**ABOUT, "digest": ""}


def test_the_same_content_is_the_same_file() -> None:
    assert {seal(ABOUT, dict(reversed(TENSORS.items()))) for _ in range(20)} == {FILE}


def test_every_single_bit_counts() -> None:
    """Whichever bit is flipped, the file is refused or says exactly the same."""
    for place in range(len(FILE)):
        for bit in (0x01, 0x10, 0x80):
            damaged = bytearray(FILE)
            damaged[place] ^= bit
            assert_refused_or_same(bytes(damaged))


@settings(max_examples=300, deadline=None)
@given(st.integers(0, len(FILE)), st.binary(max_size=40), st.integers(0, 40))
def test_whatever_is_cut_out_and_put_in_its_place_is_noticed(place: int, inserted: bytes, removed: int) -> None:
    assert_refused_or_same(FILE[:place] + inserted + FILE[place + removed :])


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
def test_no_other_content_is_taken(content: bytes) -> None:
    with pytest.raises(DamagedFile):
        unseal(content, "here", (1, 2))


def assert_refused_or_same(content: bytes) -> None:
    try:
        about, tensors = unseal(content, "here", (1, 2))
    except (DamagedFile, NewerFile):
        return
    assert about == ABOUT
    assert tensors.keys() == TENSORS.keys()
    assert all(torch.equal(tensors[name], value) for name, value in TENSORS.items())


def test_a_digit_of_a_metric_is_noticed() -> None:
    with pytest.raises(DamagedFile, match="here is damaged"):
        unseal(FILE.replace(b"1.25", b"1.26"), "here", (1, 2))


def test_a_file_without_its_digest_is_no_file_of_ours() -> None:
    import safetensors.torch

    bare = safetensors.torch.save(TENSORS, {sealed.ABOUT: json.dumps(ABOUT)})
    with pytest.raises(DamagedFile):
        unseal(bare, "here", (1, 2))


def test_a_file_of_the_first_format_had_no_digest_and_is_read() -> None:
    import safetensors.torch

    old = safetensors.torch.save(TENSORS, {sealed.ABOUT: json.dumps(ABOUT | {"format": 1})})
    assert unseal(old, "here", (1, 2))[0]["cell"] == "a"


def test_a_newer_file_is_left_to_the_version_that_wrote_it() -> None:
    with pytest.raises(NewerFile, match="use the version that wrote it") as refusal:
        unseal(seal(ABOUT | {"format": 3}, TENSORS), "here", (1, 2))
    assert "delete" not in str(refusal.value)


@pytest.mark.parametrize("number", [3, 6, 22])
def test_a_damaged_number_of_the_format_is_not_a_newer_version(number: int) -> None:
    old, new = b'\\"format\\": 2,', f'\\"format\\": {number},'.encode()
    damaged = FILE.replace(old, new)
    length = int.from_bytes(damaged[:8], "little") + len(new) - len(old)
    damaged = length.to_bytes(8, "little") + damaged[8:]
    with pytest.raises(DamagedFile):
        unseal(damaged, "here", (1, 2))
