"""MNIST's files are read as they are, whichever way they are made binary, and damaged ones are refused."""

from pathlib import Path

import numpy as np
import pytest
from imagefiles import AMAT_FILES, MNIST_FILES, amat, bits, idx, intensities, write, write_amats, write_mnist

from vaesweep.data.domains import DataSet, Role
from vaesweep.errors import UserError
from vaesweep.families.hvae.data import Binarisation, ImageCondition, ImageRows, ImagesConfig, load

REAL = Path(__file__).resolve().parents[5] / "shared" / "data"
real_mnist = pytest.mark.skipif(not (REAL / "mnist").is_dir(), reason="no MNIST files at ../shared/data/mnist")
real_amats = pytest.mark.skipif(
    not (REAL / "binarized_mnist").is_dir(), reason="no binarised MNIST files at ../shared/data/binarized_mnist"
)
ROLES = Role.TRAIN, Role.VALID, Role.TEST


def mnist(folder: Path, binarisation: str = "static", size: int | None = None, **rows: int) -> DataSet:
    config = ImagesConfig(binarisation=Binarisation(binarisation), size=size, rows=ImageRows(**rows))
    return load(f"mnist:{folder}", config)


def binarised(folder: Path, **rows: int) -> DataSet:
    return load(f"binarised_mnist:{folder}", ImagesConfig(rows=ImageRows(**rows)))


def refusal(spec: str, config: ImagesConfig | None = None) -> str:
    with pytest.raises(UserError) as caught:
        load(spec, config or ImagesConfig())
    message = str(caught.value)
    assert "\n" not in message
    return message


def by_index(data: DataSet) -> np.ndarray:
    """The images of all domains in the order of their indices."""
    images = np.concatenate([domain.arrays["images"] for domain in data.domains])
    return images[np.concatenate([domain.arrays["indices"] for domain in data.domains]).argsort()]


@pytest.mark.parametrize("zipped", [False, True])
def test_the_last_sixth_of_the_training_file_is_for_validation(tmp_path: Path, zipped: bool) -> None:
    write_mnist(tmp_path, zipped=zipped)
    data = mnist(tmp_path)
    assert [domain.name for domain in data.domains] == ["mnist.train", "mnist.valid", "mnist.test"]
    found = [sorted(data.domain(role).arrays["indices"]) for role in ROLES]
    assert found == [list(range(50)), list(range(50, 60)), list(range(60, 70))]
    for domain in data.domains:
        assert domain.arrays["images"].dtype == np.uint8
        assert domain.arrays["images"].shape == (len(domain), 1, 28, 28)
        assert domain.condition == ImageCondition(kind="binary", size=28)


def test_a_threshold_is_half_the_full_intensity(tmp_path: Path) -> None:
    images = np.concatenate(write_mnist(tmp_path))
    np.testing.assert_array_equal(by_index(mnist(tmp_path, "threshold"))[:, 0], images / 255 >= 0.5)


def test_static_binarisation_draws_each_pixel_with_its_intensity_and_always_the_same(tmp_path: Path) -> None:
    images = np.full((600, 28, 28), 64, np.uint8)
    images[:, :14] = intensities(600)[:, :14]
    write(tmp_path, MNIST_FILES[0], idx(images))
    write(tmp_path, MNIST_FILES[1], idx(images))
    drawn = by_index(mnist(tmp_path))[:, 0]
    np.testing.assert_array_equal(drawn, by_index(mnist(tmp_path))[:, 0])
    grey = np.concatenate([images, images])
    assert (drawn[grey == 0] == 0).all()
    assert (drawn[grey == 255] == 1).all()
    p = 64 / 255
    half = drawn[:, 14:].astype(float)
    assert abs(half.mean() - p) < 4 * (p * (1 - p) / half.size) ** 0.5
    assert abs(((half[:600] - p) * (half[600:] - p)).mean()) < 4 * p * (1 - p) / (half.size / 2) ** 0.5  # other indices
    each = half.mean((1, 2))
    assert each.std() == pytest.approx((p * (1 - p) / 392) ** 0.5, rel=4 / (2 * 1200) ** 0.5)  # pixels independent


def test_dynamic_binarisation_keeps_intensities_for_training_and_draws_the_others_once(tmp_path: Path) -> None:
    images, _ = write_mnist(tmp_path)
    dynamic, static = mnist(tmp_path, "dynamic"), mnist(tmp_path, "static")
    train = dynamic.domain(Role.TRAIN)
    assert train.condition == ImageCondition(kind="binary", size=28, drawn=True)
    np.testing.assert_array_equal(train.arrays["images"][:, 0], images[train.arrays["indices"]])
    for role in (Role.VALID, Role.TEST):
        assert dynamic.domain(role).condition == static.domain(role).condition
        np.testing.assert_array_equal(dynamic.domain(role).arrays["images"], static.domain(role).arrays["images"])
    assert "drawn anew" in dynamic.summary[0]


def test_larger_images_have_zeros_around_the_same_pixels(tmp_path: Path) -> None:
    write_mnist(tmp_path)
    plain = by_index(mnist(tmp_path))
    for size, before in ((32, 2), (31, 1)):
        larger = by_index(mnist(tmp_path, size=size))
        assert larger.shape[2:] == (size, size)
        np.testing.assert_array_equal(larger[:, :, before : before + 28, before : before + 28], plain)
        assert larger.sum() == plain.sum()


@pytest.mark.parametrize("zipped", [False, True])
def test_larochelles_files_are_read_pixel_by_pixel(tmp_path: Path, zipped: bool) -> None:
    images = write_amats(tmp_path, zipped=zipped)
    data = binarised(tmp_path)
    assert [len(data.domain(role)) for role in ROLES] == [20, 6, 7]
    np.testing.assert_array_equal(by_index(data)[:, 0], images)
    assert data.domains[0].arrays["images"].dtype == np.uint8
    assert data.domains[0].condition == ImageCondition(kind="binary", size=28)


def test_line_ends_and_blanks_do_not_matter(tmp_path: Path) -> None:
    images = write_amats(tmp_path)
    text = amat(images[:20])
    for other in (text.replace(b"\n", b"\r\n"), text.replace(b" ", b"\t"), text[:-1], text + b"\n\n"):
        write(tmp_path, AMAT_FILES[0], other)
        np.testing.assert_array_equal(by_index(binarised(tmp_path))[:, 0], images)


def test_the_first_rows_of_a_sorted_file_show_some_of_everything_and_caps_keep_them(tmp_path: Path) -> None:
    images = np.zeros((200, 28, 28), np.uint8)
    images[100:] = 1
    for name in AMAT_FILES:
        write(tmp_path, name, amat(images))
    data = binarised(tmp_path)
    few = binarised(tmp_path, train=40, valid=30, test=20)
    for role, count in zip(ROLES, (40, 30, 20), strict=True):
        first = data.domain(role).arrays["images"][:count]
        np.testing.assert_array_equal(few.domain(role).arrays["images"], first)
        np.testing.assert_array_equal(few.domain(role).arrays["indices"], data.domain(role).arrays["indices"][:count])
        assert abs(first.mean() - 0.5) < 4 * 0.5 / count**0.5
    assert [len(domain) for domain in binarised(tmp_path, train=10_000).domains] == [200, 200, 200]


def test_damaged_idx_files_are_refused_with_what_is_wrong(tmp_path: Path) -> None:
    write_mnist(tmp_path)
    whole, (train, test) = idx(intensities(12)), MNIST_FILES
    small = np.zeros((3, 27, 28), np.uint8)
    faults = {
        "not an IDX file of images (it begins with '00000801'": b"\x00\x00\x08\x01" + whole[4:],
        "not an IDX file of images (it begins with ''": b"",
        "3c68746d": b"<html><body>Not found</body></html>",
        "it ends within row 11": whole[: 16 + 784 * 10 + 5],
        "12 images of 28 x 28 pixels take 9424": whole + b"\0",
        "images of 27 x 28 pixels; 28 x 28 are needed": idx(small),
        "0 images": idx(intensities(0)),
    }
    for said, content in faults.items():
        write(tmp_path, train, content)
        message = refusal(f"mnist:{tmp_path}")
        assert said in message
        assert str(tmp_path / train) in message
    write(tmp_path, train, idx(intensities(5)))
    assert "at least 6 are needed" in refusal(f"mnist:{tmp_path}")
    (tmp_path / test).unlink()
    write(tmp_path, train, whole)
    assert f"{test}: no such file" in refusal(f"mnist:{tmp_path}")


@pytest.mark.parametrize("end", [10, 200, -4])
def test_zipped_files_that_are_cut_short_or_no_gzip_are_refused(tmp_path: Path, end: int) -> None:
    write_amats(tmp_path, zipped=True)
    path = tmp_path / f"{AMAT_FILES[1]}.gz"
    path.write_bytes(path.read_bytes()[:end])
    assert f"{path}: cannot be read" in refusal(f"binarised_mnist:{tmp_path}")
    path.write_bytes(b"0 1 0\n")
    assert f"{path}: cannot be read" in refusal(f"binarised_mnist:{tmp_path}")


def test_damaged_text_is_refused_with_its_row(tmp_path: Path) -> None:
    write_amats(tmp_path)
    text = amat(bits(9))
    line = 2 * 784
    faults = {
        "row 5 of 5 has 300 zeros and ones, not 784": text[: 4 * line + 600],
        "row 3 of 9 has 785 zeros and ones, not 784": text[: 2 * line] + b"1 " + text[2 * line :],
        "row 2 of 9 has '2' beside zeros and ones": text[:line] + b"2" + text[line + 1 :],
        "row 1 of 9 has '.' beside zeros and ones": text[:3] + b"." + text[4:],
        "row 4 of 9 has 'nan' beside zeros and ones": text[: 3 * line] + b"nan " + text[3 * line :],
        "row 2 of 10 has 0 zeros and ones": text[:line] + b"\n" + text[line:],
        "holds no images": b" \n",
    }
    for said, content in faults.items():
        write(tmp_path, AMAT_FILES[2], content)
        message = refusal(f"binarised_mnist:{tmp_path}")
        assert said in message
        assert str(tmp_path / AMAT_FILES[2]) in message


def test_a_size_below_mnists_is_refused(tmp_path: Path) -> None:
    write_mnist(tmp_path)
    write_amats(tmp_path)
    for kind in ("mnist", "binarised_mnist"):
        assert "size=16: MNIST's images have 28 x 28 pixels" in refusal(f"{kind}:{tmp_path}", ImagesConfig(size=16))


@real_amats
def test_larochelles_own_files() -> None:
    data = binarised(REAL / "binarized_mnist")
    assert [len(data.domain(role)) for role in ROLES] == [50_000, 10_000, 10_000]
    assert [round(float(data.domain(role).arrays["images"].mean()), 4) for role in ROLES] == [0.1306, 0.1311, 0.1325]
    first = by_index(data)[0, 0]
    assert first.sum() == 123
    assert "".join(map(str, first[14])) == "0000001110000010000000011000"


@real_mnist
def test_lecuns_own_files() -> None:
    data = mnist(REAL / "mnist", "dynamic")
    assert [len(data.domain(role)) for role in ROLES] == [50_000, 10_000, 10_000]
    train, test = data.domain(Role.TRAIN), data.domain(Role.TEST)
    assert round(float(train.arrays["images"].mean()) / 255, 4) == 0.131
    # The mean of static draws is that of the intensities, 0.1324 for the test file: 7.8 million pixels, error 1e-4.
    assert abs(float(test.arrays["images"].mean()) - 0.1325) < 4e-4
    first = train.arrays["images"][int(np.flatnonzero(train.arrays["indices"] == 0)[0]), 0]
    assert first[5, 12:24].tolist() == [3, 18, 18, 18, 126, 136, 175, 26, 166, 255, 247, 127]
