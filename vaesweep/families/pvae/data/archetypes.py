"""Synthetic audiograms: noisy convex combinations of a few archetypes (thesis, "Synthetic data").

Five archetypes are drawn from a 15-dimensional normal around a sloping hearing loss. An audiogram is a convex
combination of them with weights from Dir(1), plus Gaussian observation noise of 5 dB (5 years for the age). Two unseen
domains repeat this with archetypes that were moved by noise of 0.05 or 0.5 times the standard deviation of the
training data (thesis, "Rate-distortion trade-offs", Figure 8).

    archetypes [5, 15] ──mix──> [row, 15] ──observe──> 4096 rows ──partition──> synthetic.train, .valid, .test
        └──corrupt──> moved archetypes ──mix, observe──> small_corruption, large_corruption

The thesis gives the relations that the covariance induces, not its numbers. There are two sets of them:

- `synthetic`, of release 0.1: an archetype's threshold has a standard deviation of 13 dB at 500 Hz and of 18 dB at
  8 kHz, which mixing shrinks to a third. Once the age is known most of these audiograms are within 5 dB of their mean.
- `synthetic_wide`: an audiogram's threshold, before noise, has these standard deviations in expectation, which are
  those of real audiograms. Its domains keep the audiogram before noise too (`CLEAN`).
"""

import numpy as np

from vaesweep.data.domains import Domain, Role
from vaesweep.families.pvae.data.audiograms import DIMS, EARS, FREQUENCIES, THRESHOLDS, Loaded, partitioned, unseen

ARCHETYPES = 5
ROWS = 4096
UNSEEN_ROWS = 1024
NOISE = 5.0  # dB, and years for the age
CORRUPTIONS = {
    "small_corruption": 0.05,
    "large_corruption": 0.5,
}  # times the training data's standard deviation

SLOPING_LOSS = np.array([12.0, 14.0, 22.0, 32.0, 40.0, 48.0, 52.0])  # dB HL at FREQUENCIES, the same on both ears
MEAN = np.concatenate([np.tile(SLOPING_LOSS, len(EARS)), [55.0]])
AGE = 18.0  # years
LOSS_WITH_AGE = np.array([4.0, 5.0, 7.0, 9.0, 11.0, 13.0, 14.0])  # dB at FREQUENCIES per AGE
OVERALL, NEIGHBOURS, ACROSS, OWN = 6.0, 8.0, 6.0, 2.0  # dB
NARROW = np.ones(DIMS)
# Weights from Dir(1) of k archetypes leave (k - 1) / (k (k + 1)) of an archetype's variance: it is made good here for
# thresholds. Ages are widened less, so that they stay those of people.
WIDE = np.array([np.sqrt(ARCHETYPES * (ARCHETYPES + 1) / (ARCHETYPES - 1))] * THRESHOLDS + [2.0])


def covariance() -> np.ndarray:
    """Covariance of an archetype, `[15, 15]` in dB² (dB·years and years² for the age).

    It is the covariance of a sum of independent normal parts, one for each relation of the thesis:

    - age: one standard normal that adds `AGE` years and `LOSS_WITH_AGE` dB, so it has rank one;
    - overall on the ear: one offset per ear, `OVERALL² I₂ ⊗ 1₇`;
    - neighbouring frequencies: on each ear a process over log-frequency, `NEIGHBOURS² I₂ ⊗ K` with
      `K = exp(-octaves between)`, the kernel of an Ornstein-Uhlenbeck process;
    - across ears: one offset per frequency, the same on both ears, `ACROSS² 1₂ ⊗ I₇`;
    - own: independent in every dimension, `OWN² I₁₅`.

    Each part is positive semi-definite and the last one is positive definite, hence so is the sum; its smallest
    eigenvalue is at least `OWN²`.
    """
    ears, frequencies = len(EARS), len(FREQUENCIES)
    octaves = np.log2(FREQUENCIES)
    neighbours = np.exp(-np.abs(octaves[:, None] - octaves[None, :]))
    thresholds = (
        OVERALL**2 * np.kron(np.eye(ears), np.ones((frequencies, frequencies)))
        + NEIGHBOURS**2 * np.kron(np.eye(ears), neighbours)
        + ACROSS**2 * np.kron(np.ones((ears, ears)), np.eye(frequencies))
    )
    with_age = np.concatenate([np.tile(LOSS_WITH_AGE, ears), [AGE]])
    total = np.outer(with_age, with_age) + OWN**2 * np.eye(DIMS)
    total[:THRESHOLDS, :THRESHOLDS] += thresholds
    return total


def archetypes_of(seed: int, width: np.ndarray = NARROW) -> np.ndarray:
    """The archetypes `[5, 15]` (dB HL, years) behind `synthetic(seed)`, or of another `width`, as `WIDE`."""
    (stream,) = np.random.SeedSequence(seed).spawn(1)  # the first of the streams that are drawn from
    return draw_archetypes(np.random.default_rng(stream), width=width)


def draw_archetypes(rng: np.random.Generator, count: int = ARCHETYPES, width: np.ndarray = NARROW) -> np.ndarray:
    """Draw archetypes `[count, 15]` (dB HL, years), whose standard deviations are `width` times the covariance's."""
    return MEAN + width * (rng.standard_normal((count, DIMS)) @ np.linalg.cholesky(covariance()).T)


def mix(archetypes: np.ndarray, rows: int, rng: np.random.Generator) -> np.ndarray:
    """Convex combinations `[rows, 15]` of `archetypes` `[k, 15]`, with weights from Dir(1)."""
    return rng.dirichlet(np.ones(len(archetypes)), size=rows) @ archetypes


def observe(audiograms: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Add observation noise of `NOISE` dB or years to `audiograms` `[row, 15]`; returns float32."""
    return (audiograms + NOISE * rng.standard_normal(audiograms.shape)).astype(np.float32)


def corrupt(archetypes: np.ndarray, std: float, rng: np.random.Generator) -> np.ndarray:
    """Move `archetypes` `[k, 15]` by Gaussian noise of `std` (dB, years) in every dimension."""
    return archetypes + std * rng.standard_normal(archetypes.shape)


def synthetic(seed: int, rows: int = ROWS, unseen_rows: int = UNSEEN_ROWS) -> Loaded:
    """Generate `synthetic.train`, `.valid`, `.test`, `small_corruption` and `large_corruption` from one `seed`.

    The corruptions are relative to the "overall standard deviation of the training dataset across all dimensions",
    read as one number: the standard deviation of all entries of `synthetic.train` around their common mean, in
    physical units (`x.std()`). It therefore includes the differences between the means of the dimensions.

    `rows` and `unseen_rows` change the number of audiograms, never the archetypes.
    """
    return _generate("synthetic", seed, rows, unseen_rows, NARROW, keep_clean=False)


def synthetic_wide(seed: int, rows: int = ROWS, unseen_rows: int = UNSEEN_ROWS) -> Loaded:
    """Generate the domains of `synthetic` from wider archetypes, with the audiograms before noise beside them."""
    return _generate("synthetic_wide", seed, rows, unseen_rows, WIDE, keep_clean=True)


def _generate(name: str, seed: int, rows: int, unseen_rows: int, width: np.ndarray, *, keep_clean: bool) -> Loaded:
    streams = [np.random.default_rng(s) for s in np.random.SeedSequence(seed).spawn(2 + len(CORRUPTIONS))[1:]]
    archetypes = archetypes_of(seed, width)
    clean = mix(archetypes, rows, streams[0])
    x = observe(clean, streams[0])
    domains: list[Domain] = list(partitioned(name, x, seed, clean=clean if keep_clean else None))
    (train,) = (domain for domain in domains if domain.role is Role.TRAIN)
    overall = float(train.arrays["x"].std(dtype=np.float64))
    summary = [f"{name}: {rows} rows from {len(archetypes)} archetypes, data seed {seed}"]
    for (corruption, factor), rng in zip(CORRUPTIONS.items(), streams[1:], strict=True):
        moved = corrupt(archetypes, factor * overall, rng)
        clean = mix(moved, unseen_rows, rng)
        domains.append(unseen(corruption, observe(clean, rng), clean if keep_clean else None))
        summary.append(
            f"{corruption}: {unseen_rows} rows, archetypes moved by {factor:g} x {overall:.1f} = "
            f"{factor * overall:.1f} dB"
        )
    return Loaded(tuple(domains), tuple(summary))
