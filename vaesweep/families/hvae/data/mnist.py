"""MNIST as binary images: binarised here, or Larochelle's fixed binarisation (thesis, "Binarized MNIST").

The thesis takes the construction of the Efficient VD-VAE's code (Hazami et al., 2022): images padded with zeros to
32 x 32 pixels, the training images binarised anew for every batch, the others once. It trains on all 60 000 images of
the training file and halves the test file for validation and testing; here validation is the training file's last sixth
and all of the test file is for testing, as in Larochelle and Murray (2011).
"""

from pathlib import Path

import numpy as np
import torch

from vaesweep.data.domains import DataSet, Domain, Role
from vaesweep.errors import UserError
from vaesweep.families.hvae.data.binary import binarised_by_index, thresholded
from vaesweep.families.hvae.data.config import Binarisation, ImageCondition, ImagesConfig, PixelKind
from vaesweep.families.hvae.data.files import SIDE, read_amat, read_idx
from vaesweep.families.hvae.data.parts import data_set, shuffled

KIND, BINARISED = "mnist", "binarised_mnist"
TRAIN_FILE, TEST_FILE = "train-images-idx3-ubyte", "t10k-images-idx3-ubyte"
SHARE = 6  # of the training file's images, one in so many is for validation: 10 000 of 60 000


def load(folder: Path, config: ImagesConfig) -> DataSet:
    """MNIST, or data in its files' format, from `folder`; `indices` are rows of the training file, then of the other.

    Images are uint8: 0 and 1, or 0 to 255 for a training domain that is binarised anew for every batch.
    """
    _check_size(config)
    training, test = read_idx(folder, TRAIN_FILE), read_idx(folder, TEST_FILE)
    valid = len(training) // SHARE
    if valid == 0:
        raise UserError(f"{folder}: {len(training)} images in {TRAIN_FILE}; at least {SHARE} are needed")
    starts = {Role.TRAIN: 0, Role.VALID: len(training) - valid, Role.TEST: len(training)}
    parts = {Role.TRAIN: training[:-valid], Role.VALID: training[-valid:], Role.TEST: test}
    return data_set(
        [
            _domain(KIND, role, images, starts[role], config, _binarisation(role, config))
            for role, images in parts.items()
        ]
    )


def load_binarised(folder: Path, config: ImagesConfig) -> DataSet:
    """Larochelle's binarised MNIST from `folder`; `indices` are rows of its files, one after the other.

    Images are uint8: 0 and 1.
    """
    _check_size(config)
    domains, start = [], 0
    for role in (Role.TRAIN, Role.VALID, Role.TEST):
        images = read_amat(folder, f"binarized_mnist_{role}.amat")
        domains.append(_domain(BINARISED, role, images, start, config, None))
        start += len(images)
    return data_set(domains)


def _check_size(config: ImagesConfig) -> None:
    if config.size is not None and config.size < SIDE:
        raise UserError(f"size={config.size}: MNIST's images have {SIDE} x {SIDE} pixels; set {SIDE}, or more to pad")


def _binarisation(role: Role, config: ImagesConfig) -> Binarisation:
    dynamic = config.binarisation is Binarisation.DYNAMIC
    return Binarisation.STATIC if dynamic and role is not Role.TRAIN else config.binarisation


def _domain(
    kind: str, role: Role, images: np.ndarray, start: int, config: ImagesConfig, binarisation: Binarisation | None
) -> Domain:
    rows = shuffled(len(images), config.rows.of(role))
    images, indices = images[rows][:, None], start + rows
    match binarisation:
        case Binarisation.STATIC:
            images = binarised_by_index(torch.from_numpy(images), torch.from_numpy(indices)).numpy()
        case Binarisation.THRESHOLD:
            images = thresholded(torch.from_numpy(images)).numpy()
    condition = ImageCondition(
        kind=PixelKind.BINARY, size=config.size or SIDE, drawn=binarisation is Binarisation.DYNAMIC
    )
    return Domain(f"{kind}.{role}", role, {"images": _padded(images, condition.size), "indices": indices}, condition)


def _padded(images: np.ndarray, size: int) -> np.ndarray:
    """`images` `[row, 1, 28, 28]` with zeros around; of an odd number, one more below and to the right."""
    before, after = (size - SIDE) // 2, (size - SIDE + 1) // 2
    if after == 0:
        return images
    return np.pad(images, ((0, 0), (0, 0), (before, after), (before, after)))
