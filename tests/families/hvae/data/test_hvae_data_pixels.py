"""Batches are float, standardised or binary, while the images stay as small as they are stored."""

from pathlib import Path

import numpy as np
import pytest
import torch
from imagefiles import write_mnist

from vaesweep.data.domains import DataSet, Domain, Role
from vaesweep.errors import UserError
from vaesweep.families.hvae.data import Binarisation, ImagesConfig, PixelKind, Pixels, load

CPU = torch.device("cpu")


def mnist(folder: Path, binarisation: Binarisation, size: int = 28) -> DataSet:
    return load(f"mnist:{folder}", ImagesConfig(binarisation=binarisation, size=size))


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_real_pixels_are_standardised() -> None:
    data = load("poisson", ImagesConfig())
    train = data.domain(Role.TRAIN)
    pixels = Pixels(train, data.standardisation, CPU)
    assert pixels.condition.kind is PixelKind.REAL
    rows = torch.tensor([5, 700, 5])
    expected = (train.arrays["images"][rows] - data.standardisation.mean) / data.standardisation.std
    np.testing.assert_allclose(pixels.batch(rows), expected, rtol=1e-4, atol=1e-5)
    assert pixels.batch(slice(3, 9)).shape == (6, 1, 16, 16)
    assert pixels.batch(rows).dtype == torch.float32
    assert pixels.indices(rows).tolist() == [5, 700, 5]
    assert len(pixels) == 820


def test_binary_pixels_are_as_they_are(tmp_path: Path) -> None:
    write_mnist(tmp_path)
    data = mnist(tmp_path, Binarisation.STATIC)
    train = data.domain(Role.TRAIN)
    batch = Pixels(train, data.standardisation, CPU).batch(slice(None), generator(0))
    np.testing.assert_array_equal(batch, train.arrays["images"])
    assert batch.dtype == torch.float32


def test_intensities_are_drawn_anew_by_a_generator_and_nothing_else(tmp_path: Path) -> None:
    write_mnist(tmp_path)
    data = mnist(tmp_path, Binarisation.DYNAMIC)
    train = data.domain(Role.TRAIN)
    pixels = Pixels(train, data.standardisation, CPU)
    rows = torch.arange(40)
    one, again, other = (pixels.batch(rows, generator(seed)) for seed in (1, 1, 2))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
    grey = torch.as_tensor(train.arrays["images"])[rows].double() / 255
    assert (one[grey == 0] == 0).all()
    assert (one[grey == 1] == 1).all()
    mean = torch.stack([pixels.batch(rows, generator(seed)) for seed in range(200)]).double().mean(0)
    z = (mean - grey)[(grey > 0.05) & (grey < 0.95)]
    assert z.square().mean().sqrt() == pytest.approx((0.17 / 200) ** 0.5, rel=0.1)  # p (1 - p) is 0.17 on average


@pytest.mark.parametrize("size", [28, 33])
def test_without_a_generator_intensities_become_the_images_of_static_binarisation(tmp_path: Path, size: int) -> None:
    write_mnist(tmp_path)
    dynamic, static = mnist(tmp_path, Binarisation.DYNAMIC, size), mnist(tmp_path, Binarisation.STATIC, size)
    batch = Pixels(dynamic.domain(Role.TRAIN), dynamic.standardisation, CPU).batch(slice(10, 30))
    np.testing.assert_array_equal(batch, static.domain(Role.TRAIN).arrays["images"][10:30])


def test_images_keep_their_size_in_memory_and_may_be_read_only(
    tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    write_mnist(tmp_path)
    data = mnist(tmp_path, Binarisation.DYNAMIC)
    train = data.domain(Role.TRAIN)
    for array in train.arrays.values():
        array.setflags(write=False)
    pixels = Pixels(train, data.standardisation, CPU)
    assert pixels._images.data_ptr() == train.arrays["images"].ctypes.data
    pixels.batch(slice(None), generator(0))
    assert not recwarn.list


def test_a_pixel_that_is_not_finite_is_refused() -> None:
    data = load("poisson", ImagesConfig())
    train = data.domain(Role.TRAIN)
    images = train.arrays["images"].copy()
    images[17, 0, 3, 3] = np.nan
    bad = Domain(train.name, train.role, {**train.arrays, "images": images}, train.condition)
    with pytest.raises(UserError, match=r"poisson.train: row 17 has a pixel that is not finite"):
        Pixels(bad, data.standardisation, CPU)
