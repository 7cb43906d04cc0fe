"""A pack's state is its file: tensors and JSON, exact both ways; what is not such a file is refused in one line."""

import contextlib
import dataclasses
import json

import pytest
import safetensors.torch
import torch

from vaesweep.errors import UserError
from vaesweep.training.sealed import header, seal, unseal
from vaesweep.training.state import FORMATS, PackState, merge

LAYOUT = (("layer.weight", (2, 3)), ("layer.bias", (2,)), ("scale", ()))


def made_up(cells: tuple[str, ...] = ("a", "b", "c"), seed: int = 0) -> PackState:
    """A state with odd values in it: NaN, infinities, and numbers that no decimal would keep."""
    draw = torch.Generator().manual_seed(seed)
    n = len(cells)
    flat, average, square = torch.randn(3, n, 9, generator=draw).unbind(0)
    state = PackState(
        cells=cells,
        layout=LAYOUT,
        step=40,
        flat=flat.clone(),
        exp_avg=average.clone(),
        exp_avg_sq=square.square(),
        failed=torch.tensor([-1, 7, -1][:n]),
        average=flat[:, :0] if seed else flat / 2,
        sums=torch.rand(n, 3, generator=draw, dtype=torch.float64),
        control={"z.beta": torch.rand(n, generator=draw, dtype=torch.float64), "z.stuck": torch.zeros(n)},
        skips={"row": torch.arange(n), "total": torch.arange(n) + 3},
        plateau={"stop.best": torch.full((n,), torch.inf, dtype=torch.float64), "flag": torch.ones(n) > 0},
    )
    state.flat[0, :3] = torch.tensor([torch.nan, torch.inf, 1e-45])
    for step in (20, 40):
        state.step = step
        state.record({"valid/elbo": torch.randn(n, generator=draw, dtype=torch.float64), "train/beta.z": torch.ones(n)})
    return state


def assert_same(one: PackState, other: PackState) -> None:
    for name in ("cells", "layout", "step", "evaluated"):
        assert getattr(one, name) == getattr(other, name), name
    assert one.tensors().keys() == other.tensors().keys()
    for name, value in one.tensors().items():
        assert value.dtype == other.tensors()[name].dtype, name
        assert torch.equal(value.nan_to_num(9.0), other.tensors()[name].nan_to_num(9.0)), name
        assert torch.equal(value.isnan(), other.tensors()[name].isnan()), name


def test_a_state_comes_back_from_its_file_bit_for_bit() -> None:
    state = made_up()
    assert_same(PackState.from_bytes(state.to_bytes(), "here"), state)


def test_the_file_is_plain_safetensors_with_json_in_its_header() -> None:
    state = made_up()
    assert safetensors.torch.load(state.to_bytes()).keys() == state.tensors().keys()
    about = header(state.to_bytes(), "here", FORMATS)
    assert about["cells"] == ["a", "b", "c"]
    assert about["step"] == 40
    assert json.loads(json.dumps(about)) == about


def test_the_header_alone_is_enough_to_know_the_cells() -> None:
    data = made_up().to_bytes()
    start = data[: 8 + int.from_bytes(data[:8], "little")]
    assert len(start) < len(data)
    assert header(start, "here", FORMATS) == header(data, "here", FORMATS)


def test_views_of_one_tensor_can_be_saved() -> None:
    state = made_up()
    table = torch.randn(2, 3, dtype=torch.float64)
    state.record({"valid/elbo": table[0], "train/beta.z": table[1]})
    assert_same(PackState.from_bytes(state.to_bytes(), "here"), state)


def test_selecting_keeps_those_cells_in_that_order_and_copies_them() -> None:
    state = made_up()
    chosen = state.select([2, 0])
    assert chosen.cells == ("c", "a")
    for name, value in chosen.tensors().items():
        assert torch.equal(value.nan_to_num(9.0), state.tensors()[name][[2, 0]].nan_to_num(9.0)), name
    before = state.flat.nan_to_num(9.0).clone()
    chosen.flat.zero_()
    assert torch.equal(state.flat.nan_to_num(9.0), before)


def test_merging_what_was_selected_restores_it() -> None:
    state = made_up()
    assert_same(merge([state.select([i]) for i in range(3)]), state)
    assert_same(merge([state.select([0, 1]), state.select([2])]), state)
    assert merge([state]) is state


def test_recording_appends_one_column_a_metric() -> None:
    state = made_up()
    assert state.evaluated == (20, 40)
    assert state.history["valid/elbo"].shape == (3, 2)
    state.step = 60
    state.record({"valid/elbo": torch.tensor([1.0, 2.0, 3.0])})
    assert state.evaluated == (20, 40, 60)
    assert state.history["valid/elbo"][:, -1].tolist() == [1.0, 2.0, 3.0]


def refusal(data: bytes) -> str:
    with pytest.raises(UserError, match=r"^results/pack\.ckpt ") as caught:
        PackState.from_bytes(data, "results/pack.ckpt")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_file_cut_short_anywhere_is_refused() -> None:
    whole = made_up().to_bytes()
    for length in [*range(24), *range(24, len(whole), 37), len(whole) - 1]:
        assert "damaged" in refusal(whole[:length])


def test_a_file_with_something_behind_its_end_is_refused() -> None:
    refusal(made_up().to_bytes() + b"more")


FOREIGN = {
    "nothing": b"",
    "text": b"epoch,loss\n1,2\n" * 40,
    "a pickle": b"\x80\x05\x95" + bytes(200),
    "a zip": b"PK\x03\x04" + bytes(200),
    "ones": b"\xff" * 300,
    "somebody else's safetensors": safetensors.torch.save({"weight": torch.zeros(3)}),
    "safetensors with other metadata": safetensors.torch.save({"weight": torch.zeros(3)}, {"format": "pt"}),
    "our key, not our content": safetensors.torch.save({"weight": torch.zeros(3)}, {"vaesweep": "[]"}),
    "our format, not our tensors": safetensors.torch.save(
        {"weight": torch.zeros(3)},
        {"vaesweep": json.dumps({"format": 1, "cells": ["a"], "step": 1, "layout": [], "evaluated": []})},
    ),
    "our format, keys missing": safetensors.torch.save({"weight": torch.zeros(3)}, {"vaesweep": '{"format": 1}'}),
}


@pytest.mark.parametrize("data", FOREIGN.values(), ids=FOREIGN.keys())
def test_what_is_no_checkpoint_is_refused(data: bytes) -> None:
    refusal(data)


def test_another_format_names_both_numbers() -> None:
    about, tensors = unseal(made_up().to_bytes(), "here", FORMATS)
    assert "format 9, this vaesweep reads up to 2" in refusal(seal({**about, "format": 9}, tensors))


def test_a_damaged_header_is_refused_or_read_but_never_anything_else() -> None:
    whole = made_up().to_bytes()
    end = 8 + int.from_bytes(whole[:8], "little")
    for place in range(end):
        damaged = bytearray(whole)
        damaged[place] ^= 0x15
        with contextlib.suppress(UserError):
            PackState.from_bytes(bytes(damaged), "here")


def test_a_state_has_no_tensor_that_its_file_lacks() -> None:
    fields = {f.name for f in dataclasses.fields(PackState)}
    in_header = {"cells", "layout", "step", "evaluated", "begun"}
    in_groups = {name.split("/")[0] for name in made_up().tensors()}
    assert fields == in_header | in_groups
