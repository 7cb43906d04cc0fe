"""Rendering of pulses to sound from their parameters, a batch at a time, on the device of the parameters.

    parameters ──pulses──> [batch, speaker, sine, time] ──sum──> sources [batch, speaker, time] ──sum──┐
    indices ──hash, Box-Muller──> white ──modulate or filter──> noise [batch, time] ───────────────────┴──> mixture

Thesis, study B, appendix K.1 for the pulses, appendix M for the kinds of noise. Rows are independent: a sample does
not depend on what else is in its batch. CPU and GPU differ by float32 rounding only.
"""

import math

import torch
from torch import Tensor

from vaesweep.data.counters import Stream, normal, uniform
from vaesweep.families.emd.data.pulses.conditions import NoiseKind, PulseCondition


def render(parameters: Tensor, condition: PulseCondition, indices: Tensor) -> tuple[Tensor, Tensor]:
    """The mixtures `[batch, time]` and their sources `[batch, speaker, time]`, float32.

    `parameters` `[batch, speaker, sine, 5]`, float64, are `draw_parameters(condition, indices)`, and `indices`
    `[batch]`, int64, key the noise. Noise is in the mixture only (thesis line 1611).
    """
    sources = pulse(parameters[:, :, 0], condition)
    for sine in range(1, condition.sines):  # one after the other: large tensors cost more than many operations
        sources += pulse(parameters[:, :, sine], condition)
    return sources.sum(1) + noise(condition, indices), sources


def pulse(parameters: Tensor, condition: PulseCondition) -> Tensor:
    """Pulses `[..., time]`, float32, of `parameters` `[..., 5]`, float64.

    With fundamental f, amplitude A, phase φ, delay d and scale σ, a pulse is

        A exp(-(t - d)² / 2σ²) Σ_h h^-decay sin(h (2πft + φ)),    h = 1, ..., 1 + overtones.

    Cycles are counted in float64 and only their fraction is rounded; in float32 the phase of 400 Hz would be off by up
    to 4e-4 rad after 3 s.
    """
    fundamental, amplitude, phase, delay, scale = parameters[..., None].unbind(-2)
    time = torch.arange(condition.samples, dtype=torch.float64, device=parameters.device) / condition.sample_rate
    angle = math.tau * torch.addcmul(phase / math.tau, fundamental, time).frac_().float()
    distance = (time.float() - delay.float()) / scale.float()
    envelope = distance.square_().mul_(-0.5).exp_()
    return _multiples(angle, condition).mul_(envelope).mul_(amplitude.float())


def _multiples(angle: Tensor, condition: PulseCondition) -> Tensor:
    """Σ_h h^-decay sin(h angle) by Clenshaw's recurrence: one sine and one cosine, however many overtones."""
    *weights, last = [multiple**-condition.overtone_decay for multiple in range(1, 2 + condition.overtones)]
    twice = 2 * angle.cos()
    b1, b2 = torch.full_like(angle, last), torch.zeros_like(angle)
    for weight in reversed(weights):
        b1, b2 = (twice * b1).add_(weight).sub_(b2), b1
    return angle.sin().mul_(b1)


def noise(condition: PulseCondition, indices: Tensor) -> Tensor:
    """The noise `[batch, time]`, float32, of the samples `indices` `[batch]`."""
    if condition.noise_amplitude == 0:
        return torch.zeros(len(indices), condition.samples, device=indices.device)
    white = condition.noise_amplitude * normal(Stream.NOISE, indices, condition.samples)
    match condition.noise_kind:
        case NoiseKind.WHITE:
            return white
        case NoiseKind.MODULATED:
            return white * _modulator(condition, indices)
        case NoiseKind.BAND_PASSED:
            return _band_passed(white, condition)


def _modulator(condition: PulseCondition, indices: Tensor) -> Tensor:
    """(1 + sin(2πft + φ)) / 2, `[batch, time]`, with a phase φ that is uniform over the samples."""
    time = torch.arange(condition.samples, device=indices.device) / condition.sample_rate
    start = uniform(Stream.MODULATION, indices, torch.zeros_like(indices)).float()
    return (1 + (math.tau * (condition.modulation * time + start[:, None])).sin()) / 2


def _band_passed(white: Tensor, condition: PulseCondition) -> Tensor:
    """The part of `white` `[batch, time]` in the condition's band of frequencies, cut off sharply."""
    frequencies = torch.fft.rfftfreq(condition.samples, 1 / condition.sample_rate, device=white.device)
    low, high = condition.band
    kept = (frequencies >= low) & (frequencies <= high)
    return torch.fft.irfft(torch.fft.rfft(white) * kept, condition.samples)
