"""Folders of images: grey, square, of one size, split always the same way; a file that is no image is named."""

import contextlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vaesweep.data.domains import DataSet, Role
from vaesweep.errors import UserError
from vaesweep.families.hvae.data import ImageCondition, ImageRows, ImagesConfig, load
from vaesweep.families.hvae.data.folder import read_image


def pictures(folder: Path, count: int = 20) -> Path:
    """A folder of images that are each of one grey, ten times its number by name."""
    folder.mkdir()
    (folder / "b").mkdir()
    for number in range(count):
        place = folder / "b" if number >= count // 2 else folder
        Image.new("L", (9, 7), 10 * number).save(place / f"{'c' if number >= count // 2 else 'a'}{number:02}.png")
    return folder


def read(folder: Path, **settings: object) -> DataSet:
    return load(f"folder:{folder}", ImagesConfig.model_validate({"size": 8} | settings))


def refusal(folder: Path) -> str:
    with pytest.raises(UserError) as caught:
        read(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_an_images_index_is_its_place_by_name_and_the_split_is_always_the_same(tmp_path: Path) -> None:
    folder = pictures(tmp_path / "Grey pictures")
    (folder / "notes.txt").write_text("no image")
    (folder / "._a00.png").write_text("no image either")
    data = read(folder)
    assert [domain.name for domain in data.domains] == [f"grey_pictures.{part}" for part in ("train", "valid", "test")]
    assert [len(domain) for domain in data.domains] == [16, 2, 2]
    indices = np.concatenate([domain.arrays["indices"] for domain in data.domains])
    assert sorted(indices) == list(range(20))
    for domain in data.domains:
        assert domain.condition == ImageCondition(kind="real", size=8)
        assert domain.arrays["images"].dtype == np.uint8
        expected = np.broadcast_to(10 * domain.arrays["indices"][:, None, None, None], (len(domain), 1, 8, 8))
        np.testing.assert_array_equal(domain.arrays["images"], expected)
    assert read(folder).fingerprint() == data.fingerprint()
    assert read(folder, partition=1).fingerprint() != data.fingerprint()


def test_caps_keep_images_of_the_uncapped_split(tmp_path: Path) -> None:
    folder = pictures(tmp_path / "p")
    few, all_ = read(folder, rows=ImageRows(train=5, valid=1).model_dump()), read(folder)
    assert [len(domain) for domain in few.domains] == [5, 1, 2]
    for role in (Role.TRAIN, Role.VALID, Role.TEST):
        np.testing.assert_array_equal(
            few.domain(role).arrays["indices"], all_.domain(role).arrays["indices"][: len(few.domain(role))]
        )


def test_pixels_are_standardised_over_the_training_domain(tmp_path: Path) -> None:
    data = read(pictures(tmp_path / "p"))
    train = data.domain(Role.TRAIN).arrays["images"].astype(float)
    assert data.standardisation.mean.tolist() == pytest.approx([train.mean()])
    assert data.standardisation.std.tolist() == pytest.approx([train.std()])


@pytest.mark.parametrize("suffix", ["png", "jpg", "JPEG", "bmp"])
def test_colour_becomes_grey_and_the_middle_square_is_kept(tmp_path: Path, suffix: str) -> None:
    colours = np.zeros((16, 48, 3), np.uint8)
    colours[:, 16:32] = 255, 0, 0  # red has a luma of 0.299
    path = tmp_path / f"red.{suffix}"
    Image.fromarray(colours).save(path)
    found = read_image(path, 8)
    assert found.shape == (1, 8, 8)
    np.testing.assert_allclose(found[:, :, 1:-1], 76, atol=3)  # JPEG is not exact, least so beside an edge


def test_other_depths_and_palettes_are_read(tmp_path: Path) -> None:
    images = {
        "sixteen": Image.fromarray(np.full((8, 8), 200 * 256 + 7, np.uint16)),
        "palette": Image.new("RGB", (8, 8), (200, 200, 200)).convert("P", palette=Image.Palette.ADAPTIVE),
        "transparent": Image.new("RGBA", (8, 8), (200, 200, 200, 10)),
        "two": Image.new("LA", (8, 8), (200, 255)),
    }
    for name, image in images.items():
        path = tmp_path / f"{name}.png"
        image.save(path)
        assert (read_image(path, 4) == 200).all()
    Image.new("1", (8, 8), 1).save(tmp_path / "bits.png")
    assert (read_image(tmp_path / "bits.png", 4) == 255).all()


def test_damaged_files_are_named(tmp_path: Path) -> None:
    folder = pictures(tmp_path / "p")
    path = folder / "a03.png"
    noise = np.random.default_rng(0).integers(0, 256, (40, 40)).astype(np.uint8)
    Image.fromarray(noise).save(path)
    whole = path.read_bytes()
    for content in (b"", b"<html>", whole[:20], whole[:60], whole[: len(whole) // 2]):
        path.write_bytes(content)
        assert f"{path}: cannot be read as an image" in refusal(folder)


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp"])
def test_no_damage_leads_to_anything_but_an_image_or_a_refusal(tmp_path: Path, suffix: str) -> None:
    random = np.random.default_rng(1)
    path = tmp_path / f"noise.{suffix}"
    Image.fromarray(random.integers(0, 256, (24, 24, 3)).astype(np.uint8)).save(path)
    whole = path.read_bytes()
    for _ in range(300):
        content = bytearray(whole)
        for place in random.integers(0, min(len(whole), 200), 3):
            content[place] = random.integers(256)
        path.write_bytes(content)
        with contextlib.suppress(UserError):
            assert read_image(path, 8).shape == (1, 8, 8)


def test_folders_without_enough_images_are_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "no PNG, JPEG or BMP file in it" in refusal(tmp_path / "empty")
    assert "9 rows cannot be split" in refusal(pictures(tmp_path / "few", 9))


def test_images_that_are_all_equal_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "same"
    folder.mkdir()
    for number in range(12):
        Image.new("L", (8, 8), 7).save(folder / f"{number}.png")
    assert "same.train: all pixels are equal" in refusal(folder)


def test_what_is_left_out_and_images_of_one_grey_level_are_told(tmp_path: Path) -> None:
    folder = pictures(tmp_path / "p")
    Image.new("L", (4, 4)).save(folder / "x.tif")
    (folder / "a00 (1).png").write_bytes((folder / "a00.png").read_bytes())
    summary = read(folder).summary
    assert any(
        "1 copies of a file beside them, such as a00 (1).png, 1 with other endings (.tif 1)" in s for s in summary
    )
    assert any(s.startswith("p.train: 16 of 16 images are one grey level each, such as ") for s in summary)


def test_equal_images_of_two_domains_are_counted(tmp_path: Path) -> None:
    (tmp_path / "p").mkdir()
    for number in range(20):
        image = Image.new("L", (8, 8), 10 if number % 2 else 200)
        image.putpixel((0, 0), 0)
        image.save(tmp_path / "p" / f"{number}.png")
    assert any(
        "p.test: of 2 rows some are equal to others: 2 to rows of p.train" in s for s in read(tmp_path / "p").summary
    )


@pytest.mark.parametrize("kind", ["TIFF", "EPS", "GIF", "WEBP"])
def test_a_file_of_another_kind_under_an_images_name_is_refused(tmp_path: Path, kind: str) -> None:
    folder = pictures(tmp_path / "p")
    image = Image.new("F", (8, 8), 0.5) if kind == "TIFF" else Image.new("RGB", (8, 8))
    image.save(folder / "a03.png", kind)
    assert "a03.png: cannot be read as an image: not a PNG, JPEG or BMP file" in refusal(folder)
