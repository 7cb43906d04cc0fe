"""Conditions say what the thesis says; parameters lie in their ranges and are shared between conditions."""

import math
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError
from scipy import stats
from splitmix import splitmix_in_python

from vaesweep.errors import UserError
from vaesweep.families.emd.data.pulses import (
    CONDITIONS,
    PARAMETERS,
    SHIFTS,
    TRAINING,
    PulseCondition,
    draw_parameters,
    shifted,
)
from vaesweep.families.emd.data.pulses.parameters import Parameter

INDICES = np.arange(100_000, 102_000)


def changed(**settings: Any) -> PulseCondition:
    return PulseCondition.model_validate(TRAINING.model_dump() | settings)


def test_a_training_mixture_is_three_seconds_at_8_khz_with_lines_from_100_to_2000_hz() -> None:
    assert TRAINING.samples == 24_000
    assert TRAINING.band == (100, 2000)


def test_a_shifted_condition_differs_from_the_one_trained_on_in_one_setting() -> None:
    for name, settings in SHIFTS.items():
        here, there = TRAINING.model_dump(), CONDITIONS[name].model_dump()
        assert {key for key in here if here[key] != there[key]} == set(settings)
        assert len(settings) == 1


def test_a_shift_keeps_what_else_the_condition_trained_on_sets() -> None:
    short = shifted(changed(seconds=0.5, noise_amplitude=0.1), "sines_4")
    assert (short.seconds, short.noise_amplitude, short.sines) == (0.5, 0.1, 4)


def test_ten_multiples_of_400_hz_are_the_most_that_8_khz_can_hold() -> None:
    assert CONDITIONS["overtones_9"].band[1] == 4000
    with pytest.raises(ValidationError, match=r"highest overtone, 4400 Hz, lies above half the sample rate of 8000 Hz"):
        changed(overtones=10)


def test_only_the_named_frequency_ranges_overlap() -> None:
    gaps = {name: CONDITIONS[name].speakers[0][0] - CONDITIONS[name].speakers[1][1] for name in CONDITIONS}
    assert gaps["fundamentals_wider"] == 50
    assert 0 < gaps["fundamentals_near"] < 50
    assert [name for name, gap in gaps.items() if gap < 0] == ["fundamentals_overlapping"]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"scale": (0.3, 0.05)}, "range from 0.3 to 0.05 is inverted"),
        ({"speakers": ((400.0, 300.0),)}, "range from 400 to 300 is inverted"),
        ({"speakers": ()}, "at least 1 item"),
        ({"noise_amplitude": -0.1}, "greater than or equal to 0"),
        ({"amplitude": (0.0, 1.0)}, "greater than 0"),
        ({"seconds": 0.0001}, "fewer than 2 samples"),
        ({"noise_kind": "pink"}, "'white', 'modulated' or 'band_passed'"),
        ({"sines": 0}, "greater than or equal to 1"),
        ({"overtones": -1}, "greater than or equal to 0"),
        ({"overtons": 1}, "not permitted"),
    ],
)
def test_a_wrong_condition_is_refused_and_says_why(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        changed(**settings)


def test_a_shift_that_does_not_fit_the_condition_trained_on_is_refused() -> None:
    three = changed(speakers=((100.0, 200.0), (300.0, 400.0), (500.0, 600.0)))
    with pytest.raises(UserError, match="fundamentals_near: 2 speakers, but 3 are trained on"):
        shifted(three, "fundamentals_near")
    with pytest.raises(UserError, match="overtones_9: the highest overtone, 6000 Hz"):
        shifted(three, "overtones_9")


@pytest.mark.parametrize("name", CONDITIONS)
def test_every_parameter_is_uniform_over_its_range(name: str) -> None:
    condition = CONDITIONS[name]
    drawn = draw_parameters(condition, INDICES)
    assert drawn.shape == (len(INDICES), len(condition.speakers), condition.sines, len(PARAMETERS))
    assert drawn.dtype == np.float64
    for speaker, fundamentals in enumerate(condition.speakers):
        ranges = [fundamentals, condition.amplitude, (0, math.tau), (0, condition.seconds), condition.scale]
        for parameter, (low, high) in zip(Parameter, ranges, strict=True):
            values = drawn[:, speaker, :, parameter].ravel()
            assert low <= values.min() <= values.max() <= high
            assert stats.kstest((values - low) / (high - low), "uniform").pvalue > 1e-5


def test_parameters_of_a_sample_are_uncorrelated() -> None:
    drawn = draw_parameters(TRAINING, INDICES).reshape(len(INDICES), -1)
    z = np.corrcoef(drawn.T)[np.triu_indices(drawn.shape[1], 1)] * len(INDICES) ** 0.5
    assert np.abs(z).max() < 4.5  # 435 standard normals: P = 3e-3
    z = (drawn[1:] - drawn.mean(0)) * (drawn[:-1] - drawn.mean(0)) / drawn.var(0)
    assert np.abs(z.mean(0) * len(z) ** 0.5).max() < 4.5


def test_parameters_are_the_documented_function_of_the_index() -> None:
    index, speaker, sine = 100_123, 1, 2
    key = splitmix_in_python(index, 0)
    expected = [
        low + (high - low) * (splitmix_in_python(key, speaker * 2**32 + sine * 2**16 + parameter) >> 11) / 2**53
        for parameter, (low, high) in enumerate([(100, 200), (0.5, 1.5), (0, math.tau), (0, 3), (0.05, 0.3)])
    ]
    drawn = draw_parameters(TRAINING, np.array([99, index]))[1, speaker, sine]
    np.testing.assert_allclose(drawn, expected, rtol=1e-15)


def test_parameters_do_not_depend_on_other_rows() -> None:
    order = np.random.default_rng(0).permutation(len(INDICES))
    whole = draw_parameters(TRAINING, INDICES)
    np.testing.assert_array_equal(draw_parameters(TRAINING, INDICES[order]), whole[order])


def test_conditions_share_the_draws_of_an_index() -> None:
    three = draw_parameters(TRAINING, INDICES)
    np.testing.assert_array_equal(draw_parameters(CONDITIONS["sines_2"], INDICES), three[:, :, :2])
    np.testing.assert_array_equal(draw_parameters(CONDITIONS["sines_4"], INDICES)[:, :, :3], three)
    for name in ("noise_1", "overtones_9", "modulated_noise", "band_passed_noise"):
        np.testing.assert_array_equal(draw_parameters(CONDITIONS[name], INDICES), three)


def test_another_range_changes_its_own_parameter_only_and_keeps_the_order_of_draws() -> None:
    here, there = draw_parameters(TRAINING, INDICES), draw_parameters(CONDITIONS["scale_any"], INDICES)
    np.testing.assert_array_equal(here[..., : Parameter.SCALE], there[..., : Parameter.SCALE])
    np.testing.assert_allclose((here[..., -1] - 0.05) / 0.25, (there[..., -1] - 0.01) / 0.49, atol=1e-12)


def test_another_speaker_leaves_the_others_as_they_are() -> None:
    more = changed(speakers=(*TRAINING.speakers, (500.0, 600.0)))
    np.testing.assert_array_equal(draw_parameters(more, INDICES)[:, :2], draw_parameters(TRAINING, INDICES))


@pytest.mark.parametrize("name", CONDITIONS)
def test_at_least_half_of_every_pulse_lies_in_the_segment(name: str) -> None:
    delay, scale = np.moveaxis(draw_parameters(CONDITIONS[name], INDICES)[..., Parameter.DELAY :], -1, 0)
    inside = stats.norm.cdf((3 - delay) / scale) - stats.norm.cdf(-delay / scale)
    assert inside.min() > 0.5 - 1e-9
