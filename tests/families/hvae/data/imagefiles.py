"""Small files in MNIST's two formats, for tests to read."""

import gzip
import struct
from pathlib import Path

import numpy as np

MNIST_FILES = "train-images-idx3-ubyte", "t10k-images-idx3-ubyte"
AMAT_FILES = tuple(f"binarized_mnist_{part}.amat" for part in ("train", "valid", "test"))


def intensities(rows: int, seed: int = 0) -> np.ndarray:
    """Images `[rows, 28, 28]`, uint8, with many pixels of 0 and of 255."""
    grey = np.random.default_rng(seed).integers(-200, 456, (rows, 28, 28))
    return grey.clip(0, 255).astype(np.uint8)


def bits(rows: int, seed: int = 0) -> np.ndarray:
    """Images `[rows, 28, 28]`, uint8, of 0 and 1."""
    return np.random.default_rng(seed).integers(0, 2, (rows, 28, 28)).astype(np.uint8)


def idx(images: np.ndarray) -> bytes:
    """`images` `[row, height, width]` in LeCun's format."""
    return struct.pack(">4I", 0x803, *images.shape) + images.tobytes()


def amat(images: np.ndarray) -> bytes:
    """`images` `[row, 28, 28]` in Larochelle's format."""
    return "".join(" ".join(map(str, image)) + "\n" for image in images.reshape(len(images), -1)).encode()


def write(folder: Path, name: str, content: bytes, zipped: bool = False) -> None:
    """The file `name`, or `name.gz`."""
    (folder / (f"{name}.gz" if zipped else name)).write_bytes(gzip.compress(content) if zipped else content)


def write_mnist(
    folder: Path, rows: int = 60, test_rows: int = 10, zipped: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Both of MNIST's files of images, and what is in them."""
    images = intensities(rows, seed=1), intensities(test_rows, seed=2)
    for name, part in zip(MNIST_FILES, images, strict=True):
        write(folder, name, idx(part), zipped)
    return images


def write_amats(folder: Path, rows: tuple[int, int, int] = (20, 6, 7), zipped: bool = False) -> np.ndarray:
    """All three of Larochelle's files, and what is in them, one after the other."""
    images = [bits(count, seed) for seed, count in enumerate(rows)]
    for name, part in zip(AMAT_FILES, images, strict=True):
        write(folder, name, amat(part), zipped)
    return np.concatenate(images)
