"""The size of a pack follows from measured time and memory; a step is compiled where that pays."""

import math
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from vaesweep.families.pvae.family import PartialVaeCell
from vaesweep.family import family
from vaesweep.training import autotune as autotune_module
from vaesweep.training import memory
from vaesweep.training.autotune import (
    EXPECTED_RATIO,
    MARGIN,
    MeasuredSize,
    autotune,
    best_size,
    compile_seconds,
    is_worth,
    measure_sizes,
)
from vaesweep.training.compiling import Compiled, SharedCompiling
from vaesweep.training.loop import start_state, train_pack
from vaesweep.training.problem import Problem

CPU = torch.device("cpu")
MIB = 2**20
MODEL = {"latents": 2, "embedding": 4, "features": 8, "hidden": 8, "layers": 1}


def cells(count: int, **training: Any) -> list[Any]:
    return [
        family("pvae").config.model_validate({"seed": seed, "model": MODEL, "training": training})
        for seed in range(count)
    ]


@pytest.fixture(scope="module")
def problem() -> Problem:
    return family("pvae").problem(cells(1)[0], family("pvae").example(), CPU)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which nothing has been compiled yet."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    return tmp_path


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, cache: Path) -> Callable[..., list[int]]:
    """A made-up device: `seconds(cells)` a step, `each` bytes a cell; gives the list of sizes that were tried."""

    def make(seconds: Callable[[int], float], each: float = 0.0, compiled: float | Exception = 1.0) -> list[int]:
        tried: list[int] = []

        class Meter:
            def __init__(self, device: torch.device) -> None:
                pass

            def restart(self) -> None:
                pass

            def peak(self) -> int:
                return int(tried[-1] * each)

        def step_seconds(problem: Any, configs: Any, clock: Any, *, compiled: bool = False) -> float:
            if compiled and isinstance(gain, Exception):
                raise gain
            tried.append(len(configs))
            return seconds(len(configs)) * (gain if compiled and not isinstance(gain, Exception) else 1.0)

        gain = compiled
        monkeypatch.setattr(autotune_module, "Meter", Meter)
        monkeypatch.setattr(autotune_module, "step_seconds", step_seconds)
        return tried

    return make


def overhead(cells: int) -> float:
    """A small model: a step costs as much as ten cells before the first of them."""
    return 1e-4 * (10 + cells)


def still() -> float:
    return 0.0


def test_all_cells_train_together_where_more_of_them_cost_less(problem: Problem, machine: Any) -> None:
    tried = machine(overhead)
    assert autotune(problem, cells(100), 1000, math.inf, still).cells == 100
    assert tried == [1, 4, 16, 64, 100]


def test_a_model_that_fills_the_device_alone_trains_alone(problem: Problem, machine: Any) -> None:
    tried = machine(lambda cells: 1.0 * cells**1.5)
    found = autotune(problem, cells(64), 100, math.inf, still, compiling="never")
    assert found.cells == 1
    assert tried == [1, 4], "what is slower already is not tried with more"
    assert "slower" in found.notes[0]


def test_the_search_stops_before_the_memory_does(problem: Problem, machine: Any) -> None:
    tried = machine(overhead, each=10 * MIB)
    found = autotune(problem, cells(64), 1000, 200 * MIB, still)
    assert max(tried) <= 20
    assert found.cells == 16, "20 would fit: 64 in four equal groups are 16 each"
    assert "200 MiB" in found.notes[0]


def test_a_device_that_runs_out_of_memory_ends_the_search(problem: Problem, machine: Any) -> None:
    def seconds(cells: int) -> float:
        if cells > 10:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return overhead(cells)

    machine(seconds)
    assert [rung.cells for rung in measure_sizes(problem, cells(64), math.inf, still)] == [1, 4]


def test_another_error_is_not_taken_for_want_of_memory(problem: Problem, machine: Any) -> None:
    def seconds(cells: int) -> float:
        if cells > 1:
            raise RuntimeError("shapes do not match")
        return overhead(cells)

    machine(seconds)
    with pytest.raises(RuntimeError, match="shapes"):
        list(measure_sizes(problem, cells(64), math.inf, still))


@pytest.mark.parametrize(
    ("rungs", "cells", "expected"),
    [
        ([(1, 1.0), (4, 1.2), (10, 2.0)], 10, 10),  # one group of 10 in 2.0, three of 4 in 3.6
        ([(1, 1.0), (4, 1.2), (10, 9.0)], 10, 4),
        ([(1, 1.0), (4, 4.0), (10, 9.5)], 10, 1),  # about equal: less memory
        ([(1, 1.0), (4, 3.0), (10, 8.0)], 10, 10),
        ([(1, 1.0), (4, 2.5), (10, 13.0)], 10, 4),
        ([(1, 1.0), (4, 8.0)], 10, 1),
    ],
)
def test_the_best_size_is_the_smallest_that_is_about_as_soon_through_with_all_cells(
    rungs: list[tuple[int, float]], cells: int, expected: int
) -> None:
    assert best_size([MeasuredSize(size, seconds, 0) for size, seconds in rungs], cells) == expected


def test_a_size_that_was_asked_for_is_not_measured(problem: Problem, machine: Any) -> None:
    tried = machine(overhead)
    assert autotune(problem, cells(20), 1000, 0.0, still, size=5, compiling="never").cells == 5
    assert tried == []


def test_a_size_larger_than_the_pack_is_the_pack(problem: Problem, machine: Any) -> None:
    machine(overhead)
    found = autotune(problem, cells(3), 1000, 0.0, still, size=5, compiling="never")
    assert (found.cells, found.notes) == (3, ())


def test_a_short_run_is_not_measured(problem: Problem, machine: Any) -> None:
    tried = machine(overhead)
    assert autotune(problem, cells(20), 50, math.inf, still).cells == 20
    assert tried == []


@pytest.mark.parametrize(
    ("steps", "gain", "compiling", "expected"),
    [
        (1.5, 0.4, "auto", True),
        (1.5, 0.95, "auto", False),  # hardly faster
        (0.5, 0.4, "auto", False),  # over too soon
        (0.5, 0.4, "always", True),
        (1.5, 0.4, "never", False),
        (1.5, RuntimeError("no C++ compiler"), "auto", False),
    ],
)
def test_a_step_is_compiled_where_it_pays(
    problem: Problem, machine: Any, steps: float, gain: Any, compiling: Any, expected: bool
) -> None:
    machine(overhead, compiled=gain)
    worth = MARGIN / (1 - 1 / EXPECTED_RATIO)
    count = round(steps * worth * compile_seconds(problem) / overhead(10))
    found = autotune(problem, cells(10), count, math.inf, still, compiling=compiling)
    assert found.compiled == expected
    if isinstance(gain, Exception):
        assert "no C++ compiler" in found.notes[-1]


# --- memory -----------------------------------------------------------------------------------------------------


def test_the_meter_sees_what_a_step_takes_and_gives_back() -> None:
    """In a process of its own, whose allocator holds nothing yet that it could give out again."""
    script = """
import torch
from vaesweep.training.memory import Meter

meter = Meter(torch.device("cpu"))
meter.restart()
torch.ones(64 * 2**18).sum()
print(meter.peak())
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert 0.9 * 64 * MIB < int(done.stdout) < 1.5 * 64 * MIB


def test_the_room_is_a_share_of_what_is_free() -> None:
    whole, half = memory.available_bytes(CPU, 1.0), memory.available_bytes(CPU, 0.5)
    assert 0 < half < whole
    assert half == pytest.approx(whole / 2, rel=0.1)  # others take and free memory between the two


def test_a_containers_limit_counts(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "memory.max").write_text(f"{300 * MIB}\n")
    (tmp_path / "memory.current").write_text(f"{200 * MIB}\n")
    monkeypatch.setattr(memory, "CONTROL_GROUP", tmp_path)
    assert memory.available_bytes(CPU, 1.0) == pytest.approx(memory.HEADROOM * 100 * MIB)
    (tmp_path / "memory.max").write_text("max\n")
    assert memory.available_bytes(CPU, 1.0) > 100 * MIB


def test_running_out_of_memory_is_known_from_other_errors() -> None:
    with pytest.raises(RuntimeError) as refused:
        torch.empty(2**60)
    assert memory.is_out_of_memory(refused.value)
    assert memory.is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"))
    assert memory.is_out_of_memory(MemoryError())
    assert not memory.is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    assert not memory.is_out_of_memory(ValueError("out of memory"))


def test_what_compiling_gained_is_known_to_the_next_pack(problem: Problem, machine: Any) -> None:
    """A step that compiling hardly hastens is compiled once, and never again on this machine."""
    tried = machine(overhead, compiled=0.95)
    first = autotune(problem, cells(10), 10**6, math.inf, still, size=10)
    compiled = len(tried)
    second = autotune(problem, cells(10), 10**6, math.inf, still, size=10)
    assert "not compiled: 1.1 times as fast" in first.notes[-1]
    assert not second.compiled
    assert compiled == 2  # as it is, and compiled
    assert len(tried) == 3  # once more as it is


def test_a_step_that_torch_has_in_its_cache_is_compiled_for_shorter_runs(problem: Problem, cache: Path) -> None:
    cold = Compiled(compile_seconds(problem), EXPECTED_RATIO)
    shared = SharedCompiling(cells(1)[0], "cpu", 1)
    assert shared.known() is None
    shared.remember(cold.seconds, cold.ratio)
    warm = shared.known()
    assert warm is not None
    assert warm.seconds < cold.seconds
    plain = 2 * cold.seconds  # of which compiling saves half
    assert not is_worth(plain, cold)
    assert is_worth(plain, warm)


def test_settings_that_do_not_change_a_step_share_what_is_compiled(cache: Path) -> None:
    def name(settings: dict[str, Any]) -> str:
        return SharedCompiling(PartialVaeCell.model_validate(settings), "cpu", 3).name

    plain = name({})
    assert name({"seed": 3, "training": {"steps": 7, "evaluate_every": 2, "learning_rate": 0.1}}) == plain
    assert name({"model": {"hidden": 9}}) != plain
    assert name({"training": {"batch_size": 8}}) != plain


def test_one_process_compiles_a_structure_and_another_waits_for_it(cache: Path) -> None:
    code = """
import sys, time
from vaesweep.families.pvae.family import PartialVaeCell
from vaesweep.training.compiling import SharedCompiling
with SharedCompiling(PartialVaeCell(), "cpu", 15).alone():
    print("begun", flush=True)
    sys.stdin.readline()
"""
    other = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=dict(os.environ)
    )
    with other:
        assert other.stdout is not None
        assert other.stdin is not None
        assert other.stdout.readline() == "begun\n"
        begun = threading.Event()

        def compile_too() -> None:
            with SharedCompiling(PartialVaeCell(), "cpu", 15).alone():
                begun.set()

        thread = threading.Thread(target=compile_too, daemon=True)
        thread.start()
        assert not begun.wait(0.5)
        other.stdin.write("\n")
        other.stdin.flush()
        assert begun.wait(30)
        thread.join()


def test_what_is_in_the_cache_is_taken_by_as_many_as_want_it(cache: Path) -> None:
    shared = SharedCompiling(PartialVaeCell(), "cpu", 15)
    shared.remember(30.0, 2.0)
    within: list[int] = []

    def take_too(cells: int) -> threading.Thread:
        def take() -> None:
            with SharedCompiling(PartialVaeCell(), "cpu", cells).alone():
                within.append(cells)

        thread = threading.Thread(target=take, daemon=True)
        thread.start()
        thread.join(1)
        return thread

    with shared.alone():
        take_too(15)
        assert within == [15]
    with SharedCompiling(PartialVaeCell(), "cpu", 10).alone():  # which it has not
        waiting = take_too(12)
        assert within == [15]
    waiting.join(30)
    assert within == [15, 12]


# --- compiled ---------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_compiled_steps_are_the_same_steps_while_cells_come_and_go(problem: Problem, recorder: type) -> None:
    """One cell diverges at once and leaves, so that the compiled step goes on with fewer cells than it was made for."""
    steps = {"steps": 40, "evaluate_every": 20, "batch_size": 32}
    control = {"total": {"kind": "target", "target": 1.0, "patience": 5}}
    made = {
        str(n): one.model_copy(update={"rates": type(one).model_validate({"rates": control}).rates})
        for n, one in enumerate(cells(5, **steps))
    }
    made["4"] = type(made["0"]).model_validate(
        made["4"].model_dump() | {"training": made["4"].training.model_dump() | {"learning_rate": 1e30}}
    )
    found = {}
    for compiled in (False, True):
        kept = recorder()
        configs = list(made.values())
        train_pack(problem, configs, start_state(problem, configs, list(made)), kept, compiled=compiled)
        found[compiled] = kept.results
    assert found[True]["4"].diverged == found[False]["4"].diverged is not None
    for name in "0123":
        torch.testing.assert_close(found[True][name].state.flat, found[False][name].state.flat, rtol=0, atol=1e-4)


# --- models that cannot be stacked ------------------------------------------------------------------------------


class Stubborn:
    """A problem whose model branches on a value, which no vectorised call can do."""

    def __init__(self, problem: Problem) -> None:
        self._problem = problem

    def __getattr__(self, name: str) -> Any:
        return getattr(self._problem, name)

    def build(self) -> torch.nn.Module:
        model = self._problem.build()

        class Branching(type(model)):  # type: ignore[misc]
            stackable = False

            def forward(self, x: torch.Tensor, observed: torch.Tensor, noise: torch.Tensor) -> Any:
                return super().forward(x if float(noise.sum()) < math.inf else -x, observed, noise)

        model.__class__ = Branching
        return model


def test_a_model_that_cannot_be_stacked_trains_one_cell_at_a_time_and_says_so(problem: Problem) -> None:
    found = autotune(Stubborn(problem), cells(3), 1000, math.inf, still)  # type: ignore[arg-type]
    assert found.cells == 1
    assert "Branching cannot be stacked" in found.notes[0]


def test_a_model_that_cannot_be_stacked_gives_the_same_cells(problem: Problem, recorder: type) -> None:
    configs, names = cells(2, steps=6, evaluate_every=3, batch_size=16), ["a", "b"]
    found = []
    for one in (problem, Stubborn(problem)):
        kept = recorder()
        train_pack(one, configs, start_state(one, configs, names), kept)  # type: ignore[arg-type]
        found.append(kept.results)
    for name in names:
        torch.testing.assert_close(found[1][name].state.flat, found[0][name].state.flat, rtol=0, atol=1e-5)
        assert found[1][name].metrics == pytest.approx(found[0][name].metrics, rel=1e-4, abs=1e-4)


def test_what_compiling_takes_follows_from_calls_and_not_from_modules(problem: Problem) -> None:
    class Twice(torch.nn.Module):
        def __init__(self, model: torch.nn.Module) -> None:
            super().__init__()
            self.model = model

        def forward(self, **batch: torch.Tensor) -> Any:
            self.model(**batch)
            return self.model(**batch)

    class Calls:
        device, read, train_share = problem.device, problem.read, problem.train_share

        def build(self) -> torch.nn.Module:
            return Twice(problem.build())

    assert compile_seconds(Calls()) == pytest.approx(2 * compile_seconds(problem))
