"""Qualities of separated speech beside SI-SDR, of whole signals: BSS-eval's SDR, STOI, extended STOI and PESQ.

STOI predicts how much of the speech is understood (Taal et al. 2011; extended: Jensen and Taal 2016), PESQ how good it
sounds (ITU-T P.862, and P.862.2 of wide bands). Both take a library and compare with the source as it was mixed,
whatever gain and sign the estimate has. Where a source has no such value it is NaN here, and in no mean.
"""

import importlib
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from vaesweep.errors import UserError
from vaesweep.likelihoods import sdr

Quality = Literal["sdr", "stoi", "estoi", "pesq"]
QUALITIES: tuple[Quality, ...] = ("sdr", "stoi", "estoi", "pesq")
LIBRARIES = {"stoi": "pystoi", "estoi": "pystoi", "pesq": "pesq"}
BANDS = {8000: "nb", 16000: "wb"}  # of PESQ, by Hz: narrow and wide
SHORTEST_STOI = 0.4  # seconds: 30 frames of 25.6 ms, each half over the next
LEAST_SDR = -120.0  # dB
LEAST_PESQ = {8000: 1.02, 16000: 1.04}  # by Hz, of a raw score of -0.5 (P.862.1, P.862.2)
LONGEST_PESQ = 19.0  # seconds: the library dies of more than 50 utterances, none of which is shorter than 0.4 s

Measure = Callable[[np.ndarray, np.ndarray, int], float]  # of a source, an estimate `[time]` and their sample rate


def check(qualities: Sequence[Quality], sample_rate: int) -> None:
    """Refuse, with a `UserError`, qualities whose library is not installed, and PESQ of other rates than it knows."""
    for quality in qualities:
        if quality in LIBRARIES:
            _library(quality)
    if "pesq" in qualities and sample_rate not in BANDS:
        known = " and ".join(map(str, BANDS))
        raise UserError(
            f"evaluation.qualities: pesq is of signals of {known} Hz, the model is made for {sample_rate} Hz; "
            "leave pesq out, or use another model.sample_rate"
        )


def judge(
    qualities: Sequence[Quality], sources: Tensor, estimates: Tensor, audible: Tensor, sample_rate: int
) -> dict[str, Tensor]:
    """The `qualities` of `estimates` of `sources` `[batch, speaker, time]`: each `[batch, speaker]`, float64.

    NaN where a source has no value: one that is not `audible` `[batch, speaker]`, too short or too long for a quality,
    or that a library finds no speech in; and of estimates that are silent, or not finite.
    """
    sound = audible & estimates.isfinite().all(-1) & estimates.any(-1)
    return {quality: _values(quality, sources, estimates, sound, sample_rate) for quality in qualities}


def least(quality: Quality, sample_rate: int) -> float:
    """The value of an estimate with nothing of its source."""
    return {"sdr": LEAST_SDR, "pesq": LEAST_PESQ.get(sample_rate, 1.0)}.get(quality, 0.0)


def _values(quality: Quality, sources: Tensor, estimates: Tensor, sound: Tensor, sample_rate: int) -> Tensor:
    if quality == "sdr":
        return torch.where(sound, sdr(sources, estimates), torch.nan)
    measure = MEASURES[quality]
    values = torch.full(sound.shape, torch.nan, dtype=torch.float64)
    for row, speaker in sound.nonzero().tolist():
        source, estimate = (_peak_one(signals[row, speaker]) for signals in (sources, estimates))
        values[row, speaker] = measure(source, estimate, sample_rate)
    return values.to(sources.device)


def _peak_one(signal: Tensor) -> np.ndarray:
    """A signal `[time]` that is not silent, with a largest sample of one: libraries' bounds depend on the level."""
    values = signal.double().cpu().numpy()
    return values / np.abs(values).max()


def _stoi(source: np.ndarray, estimate: np.ndarray, sample_rate: int, *, extended: bool = False) -> float:
    """STOI, or the extended one; NaN of less than 0.4 s of speech, of which the library warns."""
    if len(source) < SHORTEST_STOI * sample_rate:
        return float("nan")
    with warnings.catch_warnings(), _fixed_noise():
        warnings.simplefilter("error", RuntimeWarning)
        try:
            return float(_library("stoi").stoi(source, estimate, sample_rate, extended=extended))
        except RuntimeWarning:
            return float("nan")


def _estoi(source: np.ndarray, estimate: np.ndarray, sample_rate: int) -> float:
    return _stoi(source, estimate, sample_rate, extended=True)


def _pesq(source: np.ndarray, estimate: np.ndarray, sample_rate: int) -> float:
    """PESQ as a mean opinion score; NaN where the library finds no utterance, or could find too many."""
    if len(source) > LONGEST_PESQ * sample_rate:
        return float("nan")
    library = _library("pesq")
    try:
        return float(library.pesq(sample_rate, source, estimate, BANDS[sample_rate]))
    except library.PesqError:
        return float("nan")


MEASURES: dict[Quality, Measure] = {"stoi": _stoi, "estoi": _estoi, "pesq": _pesq}


@contextmanager
def _fixed_noise() -> Iterator[None]:
    """The extended STOI adds a little noise from numpy's global state: here always the same, and the state is kept."""
    state = np.random.get_state()  # noqa: NPY002
    np.random.seed(0)  # noqa: NPY002
    try:
        yield
    finally:
        np.random.set_state(state)  # noqa: NPY002


def _library(quality: Quality) -> Any:
    name = LIBRARIES[quality]
    try:
        return importlib.import_module(name)
    except ImportError:
        raise UserError(
            f"evaluation.qualities: {quality} takes {name}, which is not installed: pip install 'vaesweep[speech]'"
        ) from None
