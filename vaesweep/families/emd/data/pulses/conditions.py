"""Conditions that mixtures of Gaussian pulses are drawn under: the one trained on, and the shifted ones.

Thesis, study B, appendix K.1 for the condition trained on and appendix M (Figure 10) for the shifted ones. What the
thesis leaves open is chosen here and marked so.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any, Self

from pydantic import AfterValidator, Field, PositiveFloat, ValidationError, model_validator

from vaesweep.errors import UserError
from vaesweep.packing import Frozen


class NoiseKind(StrEnum):
    """The kind of Gaussian noise that is added to the mixture; none is rescaled to the white noise's power."""

    WHITE = "white"
    MODULATED = "modulated"  # in amplitude, slowly, between nothing and all of the white noise
    BAND_PASSED = "band_passed"  # what of the white noise lies between the lowest fundamental and highest overtone


def _ordered(values: tuple[float, float]) -> tuple[float, float]:
    low, high = values
    if low > high:
        raise ValueError(f"range from {low:g} to {high:g} is inverted; write the smaller number first")
    return values


Range = Annotated[tuple[PositiveFloat, PositiveFloat], AfterValidator(_ordered)]


class PulseCondition(Frozen):
    """The distribution of mixtures; the defaults are what the thesis trains on (K.1). Ranges are drawn from uniformly.

    A source is a sum of `sines` pulses. A pulse is a sine with `overtones` at the multiples of its frequency, under a
    Gaussian envelope. The mixture is the sum of one source a speaker, and noise.
    """

    sample_rate: int = Field(8000, gt=0, le=1_000_000, description="Hz")
    seconds: PositiveFloat = 3.0
    speakers: tuple[Range, ...] = Field(
        ((300.0, 400.0), (100.0, 200.0)), min_length=1, description="fundamental frequencies of each speaker, Hz"
    )
    sines: int = Field(3, ge=1, le=1_000, description="pulses a source")
    overtones: int = Field(4, ge=0, le=1_000, description="added to each fundamental, at 2, 3, ... times its frequency")
    overtone_decay: float = Field(1.0, ge=0, description="multiple h has h**-decay of the amplitude; not in the thesis")
    amplitude: Range = Field((0.5, 1.5), description="of a pulse's fundamental at its peak; not in the thesis")
    scale: Range = Field((0.05, 0.3), description="standard deviation of a pulse's envelope, s")
    noise_amplitude: float = Field(0.5, ge=0, description="standard deviation of the white noise")
    noise_kind: NoiseKind = NoiseKind.WHITE
    modulation: PositiveFloat = Field(2.0, description="frequency of the modulated noise's amplitude, Hz")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.samples < 2:
            raise ValueError(f"{self.seconds:g} s at {self.sample_rate} Hz are fewer than 2 samples; use more seconds")
        if self.band[1] > self.sample_rate / 2:
            raise ValueError(
                f"the highest overtone, {self.band[1]:g} Hz, lies above half the sample rate of {self.sample_rate} Hz; "
                "use fewer overtones, lower fundamentals or a higher sample rate"
            )
        return self

    @property
    def samples(self) -> int:
        """Samples of a mixture."""
        return round(self.seconds * self.sample_rate)

    @property
    def band(self) -> tuple[float, float]:
        """Lowest fundamental and highest overtone that any speaker's pulse may have, Hz."""
        lowest, highest = min(low for low, _ in self.speakers), max(high for _, high in self.speakers)
        return lowest, highest * (1 + self.overtones)


# Thesis lines 1620-1623. Its counts of overtones there (five, six, ten) include the fundamental: K.1 adds four to it,
# and the tenth multiple of 400 Hz is the last that 8 kHz can hold.
SHIFTS: Mapping[str, Mapping[str, Any]] = {
    "noise_0": {"noise_amplitude": 0.0},
    "noise_025": {"noise_amplitude": 0.25},  # the steps on the way to 1.0 are not in the thesis
    "noise_075": {"noise_amplitude": 0.75},
    "noise_1": {"noise_amplitude": 1.0},
    "sines_2": {"sines": 2},
    "sines_4": {"sines": 4},
    "overtones_0": {"overtones": 0},
    "overtones_5": {"overtones": 5},
    "overtones_9": {"overtones": 9},
    "modulated_noise": {"noise_kind": NoiseKind.MODULATED},
    "band_passed_noise": {"noise_kind": NoiseKind.BAND_PASSED},
    "scale_any": {"scale": (0.01, 0.5)},
    "scale_short": {"scale": (0.01, 0.05)},
    "scale_long": {"scale": (0.3, 0.5)},
    "fundamentals_wider": {"speakers": ((275.0, 425.0), (75.0, 225.0))},
    # Not in the thesis: the same widening carried on, to 10 Hz between the speakers and to 50 Hz in common.
    "fundamentals_near": {"speakers": ((255.0, 445.0), (55.0, 245.0))},
    "fundamentals_overlapping": {"speakers": ((225.0, 475.0), (25.0, 275.0))},
}


def shifted(training: PulseCondition, name: str) -> PulseCondition:
    """The condition `name` of `SHIFTS`: `training` but for what the shift sets.

    A shift that `training` cannot take is refused with a `UserError`: of another number of speakers, or one that the
    sample rate cannot hold.
    """
    try:
        condition = PulseCondition.model_validate(training.model_dump() | dict(SHIFTS[name]))
    except ValidationError as error:
        raise UserError(f"shifted condition {name}: {error.errors()[0]['msg'].removeprefix('Value error, ')}") from None
    if len(condition.speakers) != len(training.speakers):
        raise UserError(
            f"shifted condition {name}: {len(condition.speakers)} speakers, but {len(training.speakers)} are trained "
            "on; leave this condition out"
        )
    return condition


TRAINING = PulseCondition()
CONDITIONS: Mapping[str, PulseCondition] = {"training": TRAINING} | {name: shifted(TRAINING, name) for name in SHIFTS}
