"""Rendered pulses are the formula; each kind of noise is what its name says; a sample does not know its batch."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from vaesweep.families.emd.data.pulses import CONDITIONS, TRAINING, PulseCondition, draw_parameters, noise, render
from vaesweep.families.emd.data.pulses.audio import pulse

INDICES = torch.arange(100_000, 100_004)
MANY = torch.arange(100_000, 100_200)


def rendered(condition: PulseCondition, indices: Tensor = INDICES) -> tuple[Tensor, Tensor]:
    return render(torch.from_numpy(draw_parameters(condition, indices.numpy())), condition, indices)


def one_pulse(fundamental: float, scale: float, condition: PulseCondition, phase: float = 1.0) -> np.ndarray:
    """A pulse of amplitude 2 in the middle of the segment."""
    parameters = torch.tensor([fundamental, 2.0, phase, condition.seconds / 2, scale], dtype=torch.float64)
    return pulse(parameters, condition).double().numpy()


@pytest.mark.parametrize("name", ["training", "overtones_0", "overtones_9", "sines_2", "sines_4", "scale_short"])
def test_sources_are_the_sum_of_pulses_as_written(name: str) -> None:
    condition = CONDITIONS[name]
    time = np.arange(24_000) / 8000
    expected = np.zeros((len(INDICES), 2, 24_000))
    drawn = draw_parameters(condition, INDICES.numpy())
    for row, speaker, sine in np.ndindex(drawn.shape[:3]):
        fundamental, amplitude, phase, delay, scale = drawn[row, speaker, sine]
        waves = [np.sin(h * (math.tau * fundamental * time + phase)) / h for h in range(1, condition.overtones + 2)]
        expected[row, speaker] += amplitude * np.exp(-((time - delay) ** 2) / (2 * scale**2)) * sum(waves)
    np.testing.assert_allclose(rendered(condition)[1].numpy(), expected, atol=2e-5)


def test_shapes_and_types() -> None:
    mixture, sources = rendered(TRAINING)
    assert (mixture.shape, sources.shape) == ((4, 24_000), (4, 2, 24_000))
    assert mixture.dtype == sources.dtype == torch.float32


def test_a_mixture_is_its_sources_and_noise() -> None:
    mixture, sources = rendered(TRAINING)
    torch.testing.assert_close(mixture, sources.sum(1) + noise(TRAINING, INDICES))


@pytest.mark.parametrize("name", ["noise_0", "noise_1", "modulated_noise", "band_passed_noise"])
def test_sources_know_nothing_of_the_noise(name: str) -> None:
    assert torch.equal(rendered(CONDITIONS[name])[1], rendered(TRAINING)[1])


@pytest.mark.parametrize("name", CONDITIONS)
def test_a_sample_does_not_depend_on_its_batch(name: str) -> None:
    mixture, sources = rendered(CONDITIONS[name])
    alone = rendered(CONDITIONS[name], INDICES[[3, 1]])
    torch.testing.assert_close(alone[0], mixture[[3, 1]], rtol=0, atol=1e-5)
    torch.testing.assert_close(alone[1], sources[[3, 1]], rtol=0, atol=1e-5)


def test_any_number_of_speakers_can_be_rendered() -> None:
    for count in (1, 3):
        condition = TRAINING.model_copy(update={"speakers": ((100.0, 200.0),) * count})
        mixture, sources = rendered(condition)
        torch.testing.assert_close(mixture - noise(condition, INDICES), sources.sum(1), rtol=0, atol=1e-5)
        assert sources.shape[1] == count


def test_the_energy_of_a_pulse_is_that_of_its_lines_under_the_squared_envelope() -> None:
    # Lines are far apart compared with their width of 1 / scale, so that their energies add.
    energy = (one_pulse(150, 0.2, TRAINING) ** 2).sum() / TRAINING.sample_rate
    lines = 2**2 / 2 * sum(1 / h**2 for h in range(1, 6))
    assert energy == pytest.approx(lines * 0.2 * math.pi**0.5, rel=1e-4)


def test_the_envelope_has_the_scale_as_its_standard_deviation() -> None:
    condition = CONDITIONS["overtones_0"]
    envelope = np.hypot(one_pulse(300, 0.2, condition), one_pulse(300, 0.2, condition, phase=1.0 + math.pi / 2))
    time = np.arange(24_000) / 8000
    assert envelope.max() == pytest.approx(2, rel=1e-5)
    assert np.average((time - 1.5) ** 2, weights=envelope) ** 0.5 == pytest.approx(0.2, rel=1e-4)


def test_overtones_are_lines_at_multiples_with_the_decay_as_their_slope() -> None:
    condition = TRAINING.model_copy(update={"overtone_decay": 1.5})
    spectrum = np.abs(np.fft.rfft(one_pulse(180, 0.3, condition)))
    frequencies = np.fft.rfftfreq(24_000, 1 / 8000)
    heights = [spectrum[np.abs(frequencies - 180 * h) < 20].max() for h in range(1, 6)]
    np.testing.assert_allclose(heights, heights[0] * np.arange(1, 6) ** -1.5, rtol=1e-3)
    assert spectrum[frequencies > 180 * 5 + 20].max() < 1e-4 * heights[0]


def test_noise_amplitude_is_the_standard_deviation_and_scales_one_and_the_same_noise() -> None:
    half = noise(TRAINING, MANY)
    count = half.numel()
    assert float(half.double().std()) == pytest.approx(0.5, abs=4 * 0.5 / (2 * count) ** 0.5)
    torch.testing.assert_close(noise(CONDITIONS["noise_1"], MANY), 2 * half)
    assert not noise(CONDITIONS["noise_0"], MANY).any()


def test_modulated_noise_is_the_white_noise_times_a_slow_wave_between_nothing_and_one() -> None:
    ratio = (noise(CONDITIONS["modulated_noise"], INDICES) / noise(TRAINING, INDICES)).double().numpy()
    time = np.arange(24_000) / 8000
    for row in ratio:
        cosine, sine = (2 * np.mean((row - 0.5) * wave(math.tau * 2 * time)) for wave in (np.cos, np.sin))
        wave = cosine * np.cos(math.tau * 2 * time) + sine * np.sin(math.tau * 2 * time)
        np.testing.assert_allclose(row, 0.5 + wave, atol=1e-4)
        assert np.hypot(cosine, sine) == pytest.approx(0.5, abs=1e-4)


def test_the_phase_of_the_modulation_is_uniform_over_samples() -> None:
    indices = torch.arange(500)
    condition = CONDITIONS["modulated_noise"].model_copy(update={"seconds": 0.5, "noise_amplitude": 1.0})
    white = TRAINING.model_copy(update={"seconds": 0.5, "noise_amplitude": 1.0})
    ratio = (noise(condition, indices) / noise(white, indices)).double().numpy()
    phase = np.angle(np.fft.rfft(ratio)[:, 1]) / math.tau  # 2 Hz is one turn of half a second
    assert stats.kstest(phase % 1, "uniform").pvalue > 1e-4


def test_band_passed_noise_is_the_white_noise_within_the_speakers_band() -> None:
    white, passed = (np.fft.rfft(noise(CONDITIONS[n], INDICES).numpy()) for n in ("training", "band_passed_noise"))
    frequencies = np.fft.rfftfreq(24_000, 1 / 8000)
    inside = (frequencies >= 100) & (frequencies <= 2000)
    np.testing.assert_allclose(passed[:, inside], white[:, inside], atol=1e-2)
    assert np.abs(passed[:, ~inside]).max() < 1e-4 * np.abs(white).max()


@pytest.mark.parametrize(("name", "share"), [("modulated_noise", 3 / 8), ("band_passed_noise", 1900 / 4000)])
def test_other_kinds_have_less_power_than_the_white_noise(name: str, share: float) -> None:
    power: Callable[[str], float] = lambda one: float(noise(CONDITIONS[one], MANY).double().square().mean())  # noqa: E731
    assert power(name) / power("training") == pytest.approx(share, rel=0.01)
