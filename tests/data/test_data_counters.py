"""Numbers keyed by (stream, index, counter) are SplitMix64's, and as random as those of a generator with a state."""

import numpy as np
import pytest
import torch
from scipy import stats
from splitmix import WORD, splitmix_in_python

from vaesweep.data import counters
from vaesweep.data.counters import Stream, normal, random_bits, splitmix, uniform

LEAST_P = 1e-4  # seeds are fixed: a test that passes once passes always, and a sound generator passes with 0.9999


def unsigned(words: torch.Tensor) -> list[int]:
    return [int(word) & WORD for word in words]


@pytest.fixture(scope="module")
def normals() -> np.ndarray:
    """`[128, 24000]`: the noise of 128 neighbouring samples."""
    return normal(Stream.NOISE, torch.arange(100_000, 100_128), 24_000).double().numpy()


def test_splitmix_gives_the_published_outputs() -> None:
    published = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431]
    assert unsigned(splitmix(torch.tensor(1234567), torch.arange(4))) == published


def test_bits_are_those_of_unbounded_integers() -> None:
    index, counter = torch.arange(100_000, 100_050), torch.arange(50) * (2**32 + 7)
    for stream in Stream:
        expected = [
            splitmix_in_python(splitmix_in_python(int(i), stream), int(c)) for i, c in zip(index, counter, strict=True)
        ]
        assert unsigned(random_bits(stream, index, counter)) == expected


def test_every_bit_is_set_half_the_time_and_independently_of_its_neighbours() -> None:
    bits = random_bits(Stream.NOISE, torch.arange(200)[:, None], torch.arange(1000)).flatten().numpy().view(np.uint64)
    columns = np.unpackbits(bits.view(np.uint8).reshape(-1, 8), axis=1).astype(float)
    z = (columns.mean(0) - 0.5) * 2 * len(columns) ** 0.5
    assert np.abs(z).max() < 4.5  # 64 standard normals: P = 4e-4
    correlation = np.corrcoef(columns.T)[np.triu_indices(64, 1)] * len(columns) ** 0.5
    assert np.abs(correlation).max() < 5.5  # 2016 standard normals: P = 8e-5


def test_uniforms_are_uniform_in_every_stream() -> None:
    for stream in Stream:
        draws = uniform(stream, torch.arange(20_000)[:, None], torch.arange(3)).numpy()
        assert draws.min() >= 0
        assert draws.max() < 1
        assert stats.kstest(draws.ravel(), "uniform").pvalue > LEAST_P


def test_streams_of_one_index_are_uncorrelated() -> None:
    draws = np.stack([uniform(s, torch.arange(100), torch.arange(1000)[:, None]).numpy().ravel() for s in Stream])
    correlation = np.corrcoef(draws)[np.triu_indices(len(Stream), 1)]
    assert np.abs(correlation).max() < 4 / 100_000**0.5


def test_normals_have_the_moments_of_a_normal(normals: np.ndarray) -> None:
    count = normals.size
    # Standard errors of the first four moments of `count` standard normals: sqrt of (1, 2, 15, 96) / count.
    for power, moment, variance in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):
        assert abs((normals**power).mean() - moment) < 4 * (variance / count) ** 0.5


def test_normals_pass_a_kolmogorov_smirnov_test_together_and_one_sample_at_a_time(normals: np.ndarray) -> None:
    assert stats.kstest(normals.ravel(), "norm").pvalue > LEAST_P
    each = [stats.kstest(row, "norm").pvalue for row in normals]
    assert stats.kstest(each, "uniform").pvalue > LEAST_P


def test_normals_reach_into_the_tails(normals: np.ndarray) -> None:
    expected = 2 * normals.size * stats.norm.sf(4)
    assert abs((np.abs(normals) > 4).sum() - expected) < 4 * expected**0.5


@pytest.mark.parametrize("power", [1, 2])
def test_normals_and_their_squares_have_no_autocorrelation_at_any_lag(normals: np.ndarray, power: int) -> None:
    values = normals**power
    values = (values - values.mean()) / values.std()
    spectrum = np.abs(np.fft.rfft(values, 2 * values.shape[1])) ** 2
    correlation = np.fft.irfft(spectrum)[:, 1:20_000].sum(0) / len(values)
    z = correlation / ((values.shape[1] - np.arange(1, 20_000)) / len(values)) ** 0.5
    assert np.abs(z).max() < 5.5  # 20 000 standard normals: P = 8e-4
    assert abs(z[0]) < 4  # the two of a Box-Muller pair
    assert abs(z.std() - 1) < 0.03


def test_normals_of_neighbouring_indices_are_uncorrelated(normals: np.ndarray) -> None:
    z = np.corrcoef(normals)[np.triu_indices(len(normals), 1)] * normals.shape[1] ** 0.5
    assert np.abs(z).max() < 5.5  # 8128 standard normals: P = 3e-4
    assert abs(z.std() - 1) < 0.03


def test_normals_do_not_depend_on_other_rows_or_on_how_many_are_asked_for() -> None:
    whole = normal(Stream.NOISE, torch.arange(50, 60), 1001)
    torch.testing.assert_close(normal(Stream.NOISE, torch.tensor([57, 52]), 1001), whole[[7, 2]])
    torch.testing.assert_close(normal(Stream.NOISE, torch.arange(50, 60), 333), whole[:, :333])


@pytest.mark.parametrize(("rows", "count"), [(1, 1), (3, 7), (2, 4001), (5, 0)])
def test_normals_are_the_same_however_many_are_made_at_a_time(
    rows: int, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = torch.arange(rows) * 7919
    whole = normal(Stream.NOISE, index, count)
    monkeypatch.setattr(counters, "AT_ONCE", 64)
    assert torch.equal(normal(Stream.NOISE, index, count), whole)
    assert whole.shape == (rows, count)
