"""An interval of a difference covers all that was drawn: listeners, trainings, fits and splits."""

import numpy as np
import pytest

from vaesweep.families.pvae.analysis.differences import difference

TRUTH = -0.3


def drawn(
    rng: np.random.Generator, splits: int, *, of_split: float = 0.0, of_seed: float = 0.0, of_fit: float = 0.0
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Areas of three trainings and three fits on each split, `TRUTH` apart, judged on listeners of each split's own."""
    own, other = {}, {}
    for number in range(splits):
        listeners = 60 + 10 * rng.standard_normal(80)
        shift = of_split * rng.standard_normal()
        trainings = TRUTH + shift + of_seed * rng.standard_normal((3, 1))
        own[str(number)] = listeners + trainings + rng.standard_normal((3, 80))
        other[str(number)] = listeners + of_fit * rng.standard_normal((3, 1)) + rng.standard_normal((3, 80))
    return own, other


def holds(rng: np.random.Generator, splits: int, **sources: float) -> bool:
    found = difference(*drawn(rng, splits, **sources), same_listeners=False)
    assert found is not None
    return found.interval.low <= TRUTH <= found.interval.high


@pytest.mark.parametrize(
    ("splits", "sources"),
    [
        (1, {}),
        (1, {"of_seed": 1.0}),
        (1, {"of_fit": 1.0}),
        (4, {"of_split": 1.0}),
        (3, {"of_split": 0.5, "of_seed": 0.5, "of_fit": 0.5}),
    ],
)
def test_95_percent_of_intervals_hold_whatever_the_chance_is_in(splits: int, sources: dict[str, float]) -> None:
    rng = np.random.default_rng(0)
    share = np.mean([holds(rng, splits, **sources) for _ in range(400)])
    assert share >= 0.95 - 3 * np.sqrt(0.95 * 0.05 / 400)


def test_an_interval_over_listeners_alone_would_not_hold() -> None:
    """Or the test above could not fail."""
    rng, inside = np.random.default_rng(0), []
    for _ in range(400):
        own, other = drawn(rng, 1, of_seed=1.0)
        values = own["0"].mean(0) - other["0"].mean(0)
        inside.append(abs(values.mean() - TRUTH) <= 2 * values.std(ddof=1) / np.sqrt(len(values)))
    assert np.mean(inside) < 0.6


def test_the_same_listeners_on_all_splits_are_counted_once() -> None:
    rng = np.random.default_rng(1)
    listeners = 60 + 10 * rng.standard_normal(80)
    skill = 3 * rng.standard_normal(80)  # the models differ on a listener in the same way on every split
    own = {split: listeners + skill + 0.1 * rng.standard_normal((3, 80)) for split in "abcd"}
    other = {split: listeners + 0.1 * rng.standard_normal((3, 80)) for split in "abcd"}
    same, others = (difference(own, other, same_listeners=choice) for choice in (True, False))
    assert same is not None
    assert others is not None
    assert (same.listeners, others.listeners) == (80, 320)
    widths = [found.interval.high - found.interval.low for found in (same, others)]
    assert widths[0] == pytest.approx(2 * widths[1], rel=0.1)
    assert same.drawn == "80 listeners, 3 seeds, 3 fits, 4 splits"


def test_rows_that_differ_make_no_difference() -> None:
    assert difference({"0": np.ones((2, 4))}, {"0": np.ones((2, 5))}, same_listeners=False) is None
    assert difference({}, {"0": np.ones((2, 5))}, same_listeners=False) is None
