"""Image files are read within a bound: special files, bombs in gzip and in images, programs in disguise are refused.

Bombs are read in a process that may take 200 MB more than it has, since what must not happen would fill this machine.
"""

import gzip
import io
import json
import os
import struct
import subprocess
import sys
import tracemalloc
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from imagefiles import AMAT_FILES, MNIST_FILES, amat, bits, idx, intensities, write, write_amats, write_mnist
from PIL import EpsImagePlugin, Image
from specialfiles import bomb, make_special, special_files, within

from vaesweep.errors import UserError
from vaesweep.families.hvae.data import ImagesConfig, load
from vaesweep.families.hvae.data.files import COUNTED, LINE_BYTES, read_amat
from vaesweep.families.hvae.data.folder import read_image

SPARE = 200 * 2**20  # bytes
SECONDS = 120.0  # on a busy machine: to unzip two gigabytes takes ten
LOAD = f"""
import json, resource, sys
from vaesweep.errors import UserError
from vaesweep.families.hvae.data import ImagesConfig, load
pages = int(open("/proc/self/statm").read().split()[0])
resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + {SPARE},) * 2)
refusals = []
for spec in sys.argv[1:]:
    try:
        load(spec, ImagesConfig())
    except UserError as error:
        refusals.append(str(error))
print(json.dumps(refusals))
"""


def assert_refused_in_little_memory(form: str, expected: Mapping[Path, str]) -> None:
    """A process that has little memory left refuses the folder of each file in one line that begins with both."""
    command = [sys.executable, "-c", LOAD, *(f"{form}:{path.parent}" for path in expected)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
    assert done.returncode == 0, done.stderr
    for (path, said), message in zip(expected.items(), json.loads(done.stdout), strict=True):
        assert message.startswith(f"{path}: {said}")
        assert "\n" not in message


def refusal(spec: str) -> str:
    with pytest.raises(UserError) as caught, within(20):
        load(spec, ImagesConfig())
    assert "\n" not in str(caught.value)
    return str(caught.value)


@special_files
@pytest.mark.parametrize(
    ("form", "name"),
    [
        ("mnist", MNIST_FILES[0]),
        ("mnist", f"{MNIST_FILES[1]}.gz"),
        ("binarised_mnist", AMAT_FILES[1]),
        ("binarised_mnist", f"{AMAT_FILES[2]}.gz"),
        ("folder", "a07.png"),
        ("folder", "a07.jpg"),
    ],
)
def test_what_is_no_regular_file_is_refused_at_once(tmp_path: Path, form: str, name: str, kind: str) -> None:
    zipped = name.endswith(".gz")
    write_mnist(tmp_path, zipped=zipped)
    write_amats(tmp_path, zipped=zipped)
    for number in range(12 if form == "folder" else 0):
        Image.new("L", (8, 8), number).save(tmp_path / f"b{number:02}.png")
    path = tmp_path / name
    path.unlink(missing_ok=True)
    called = make_special(path, kind)
    message = refusal(f"{form}:{tmp_path}")
    assert str(path) in message or str(path).removesuffix(".gz") in message
    assert called in message or kind == "link to itself"


def test_bombs_among_mnists_files_are_refused_in_little_memory(tmp_path: Path) -> None:
    """Each announces something else than the four gigabytes that it unzips to."""
    magic = struct.pack(">I", 0x803)
    bombs = {
        "more bytes than its header says: 20 images of 28 x 28 pixels take 15696": (idx(intensities(20)), b"\0"),
        "4294967295 images of 28 x 28 pixels take 3367254359296 bytes, where at most 2 GiB are read of one file": (
            magic + struct.pack(">3I", 2**32 - 1, 28, 28),
            b"\0",
        ),
        "images of 65536 x 28 pixels": (magic + struct.pack(">3I", 60_000, 2**16, 28), b"\0"),
        "not an IDX file of images": (b"\0\0\x08\x01", b"\0"),
        "images of 2051 x 2051 pixels": (magic, magic),
    }
    expected = {}
    for number, (said, content) in enumerate(bombs.items()):
        (folder := tmp_path / str(number)).mkdir()
        write_mnist(folder, zipped=True)
        path = folder / f"{MNIST_FILES[0]}.gz"
        path.write_bytes(bomb(*content, 64))
        expected[path] = said
    (folder := tmp_path / "cut").mkdir()
    write(folder, MNIST_FILES[0], magic + struct.pack(">3I", 2_739_000, 28, 28) + intensities(3).tobytes())
    expected[folder / MNIST_FILES[0]] = "2368 bytes, but 2739000 images of 28 x 28 pixels take 2147376016"
    assert_refused_in_little_memory("mnist", expected)


def test_bombs_among_larochelles_files_are_refused_in_little_memory(tmp_path: Path) -> None:
    bombs = {
        b"0": "not a text of images",
        b" ": "not a text of images",
        b"\0": "not a text of images",
        b"\n": "not a text of images",
        b"0\n": f"row 8 of more than {COUNTED} has 1 zeros and ones, not 784",
        b"2 2\n": f"row 8 of more than {COUNTED} has '22' beside zeros and ones",
        amat(bits(1)) + b"0\r" * 900: f"row 9 of more than {COUNTED} has 1 zeros and ones",
    }
    expected = {}
    for number, (filling, said) in enumerate(bombs.items()):
        (folder := tmp_path / str(number)).mkdir()
        write_amats(folder, zipped=True)
        path = folder / f"{AMAT_FILES[0]}.gz"
        path.write_bytes(bomb(amat(bits(7)), filling, 64))
        expected[path] = said
    assert_refused_in_little_memory("binarised_mnist", expected)


def test_a_text_takes_the_memory_of_its_images(tmp_path: Path) -> None:
    (tmp_path / f"{AMAT_FILES[0]}.gz").write_bytes(gzip.compress(amat(bits(1000)), 1) * 20)
    tracemalloc.start()
    images = read_amat(tmp_path, AMAT_FILES[0])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert images.shape == (20_000, 28, 28)
    assert peak < 1.2 * images.nbytes + 2**23


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("blank", [0, 1, LINE_BYTES])
def test_lines_may_end_anywhere_in_what_is_read_at_once(tmp_path: Path, end: str, blank: int) -> None:
    """A megabyte is read at a time, in which 668 rows and a part of one fit."""
    images = bits(1500)
    write_amats(tmp_path)
    text = amat(images).replace(b"\n", end.encode()) + blank * end.encode()
    for shift in range(3):  # so that the last byte read at once is each of the two that end a line
        write(tmp_path, AMAT_FILES[0], b" " * shift + text)
        data = load(f"binarised_mnist:{tmp_path}", ImagesConfig())
        train = data.domains[0].arrays
        np.testing.assert_array_equal(train["images"][train["indices"].argsort(), 0], images)


def png(width: int, height: int, *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG that says it has so many pixels, with `chunks` after its header, and few of the pixels."""
    header = struct.pack(">2I5B", width, height, 8, 0, 0, 0, 0)
    body = [(b"IHDR", header), *chunks, (b"IDAT", zlib.compress(bytes(min(width, 1000) + 1) * 4)), (b"IEND", b"")]
    parts = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in body
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def bmp(width: int, height: int) -> bytes:
    return struct.pack("<2s3I3I2H6I", b"BM", 2**20, 0, 54, 40, width, height, 1, 24, *[0] * 6) + bytes(2**10)


def jpeg(width: int, height: int) -> bytes:
    """A JPEG that says it has so many pixels, and ends early."""
    file = io.BytesIO()
    Image.new("L", (16, 16)).save(file, "JPEG")
    content = file.getvalue()
    frame = content.index(b"\xff\xc0") + 5
    return content[:frame] + struct.pack(">2H", height, width) + content[frame + 4 :]


ZEROS = zlib.compress(bytes(2**29), 9)  # half a megabyte that unzips to half a gigabyte


def test_bombs_among_images_are_refused_in_little_memory(tmp_path: Path) -> None:
    bombs = {
        "png": (png(12_000, 12_000), "12000 x 12000 pixels, where at most 134217728 are read of one image"),
        "large png": (png(60_000, 60_000), "Image size (3600000000 pixels) exceeds limit"),
        "largest png": (png(2**31 - 1, 2**31 - 1), "Image size (4611686014132420609 pixels) exceeds limit"),
        "profile": (png(4, 4, (b"iCCP", b"profile\0\0" + ZEROS)), "Decompressed data too large"),
        "text": (png(4, 4, (b"zTXt", b"text\0\0" + ZEROS)), "Decompressed data too large"),
        "text in unicode": (png(4, 4, (b"iTXt", b"text\0\1\0\0\0" + ZEROS)), "Decompressed data too large"),
        "texts": (png(4, 4, *[(b"zTXt", b"text\0\0" + zlib.compress(bytes(2**20)))] * 200), "Too much memory used"),
        "large bmp": (bmp(40_000, 40_000), "Image size (1600000000 pixels) exceeds limit"),
        "cut bmp": (bmp(11_000, 11_000), "there is not enough memory for its pixels"),
        "jpeg": (jpeg(65_000, 65_000), "Image size (4225000000 pixels) exceeds limit"),
    }
    expected = {}
    for name, (content, said) in bombs.items():
        (folder := tmp_path / name).mkdir()
        for number in range(20):
            Image.new("L", (4, 4), number).save(folder / f"{number:02}.png")
        (folder / "07.png").write_bytes(content)
        expected[folder / "07.png"] = f"cannot be read as an image: {said}"
    assert_refused_in_little_memory("folder", expected)


def test_an_image_file_that_is_too_large_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    path.write_bytes(png(4, 4))
    os.truncate(path, 2**40)
    with pytest.raises(UserError, match=r"x.png: 1 TiB, where at most 1 GiB are read of one file"), within(1):
        read_image(path, 4)


POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 4 4\n%%EndComments\nshowpage\n%%EOF\n"


def encoded(form: str) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 8), (10, 20, 30)).save(file, form)
    return file.getvalue()


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp"])
@pytest.mark.parametrize(
    "content",
    [
        lambda: POSTSCRIPT,
        lambda: b"\xc5\xd0\xd3\xc6" + struct.pack("<6I", 30, len(POSTSCRIPT), 0, 0, 0, 0) + b"\xff\xff" + POSTSCRIPT,
        *(lambda form=form: encoded(form) for form in ("GIF", "TIFF", "WEBP", "PPM", "ICO", "PDF", "SGI", "DIB")),
        lambda: b"",
        lambda: b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        lambda: b"#define x_width 8\n#define x_height 8\nstatic char x_bits[] = {0};",
    ],
)
def test_other_formats_under_an_images_name_are_refused_and_start_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: Callable[[], bytes], suffix: str
) -> None:
    started = tmp_path / "started"
    ghostscript = tmp_path / "gs"
    ghostscript.write_text(f"#!/bin/sh\ntouch {started}\n")
    ghostscript.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr(EpsImagePlugin, "gs_binary", None)  # it is looked for once
    path = tmp_path / f"x.{suffix}"
    path.write_bytes(content())
    with pytest.raises(UserError, match="cannot be read as an image: not a PNG, JPEG or BMP file; mend or remove"):
        read_image(path, 4)
    assert not started.exists()


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp"])
@pytest.mark.parametrize("form", ["PNG", "JPEG", "BMP", "MPO"])
def test_an_image_is_known_by_its_content(tmp_path: Path, form: str, suffix: str) -> None:
    path = tmp_path / f"x.{suffix}"
    path.write_bytes(encoded(form))
    assert abs(int(read_image(path, 4).mean()) - 18) <= 1  # the luma of what was encoded


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp"])
def test_an_image_cut_anywhere_is_read_or_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"x.{suffix}"
    noise = np.random.default_rng(0).integers(0, 256, (12, 12, 3)).astype(np.uint8)
    Image.fromarray(noise).save(path)
    whole, content = read_image(path, 4), path.read_bytes()
    for end in range(len(content)):
        path.write_bytes(content[:end])
        try:
            np.testing.assert_array_equal(read_image(path, 4), whole)
        except UserError as error:
            assert "cannot be read as an image" in str(error)  # noqa: PT017 - either is right


@pytest.mark.parametrize("orientation", range(1, 9))
def test_images_are_turned_upright(tmp_path: Path, orientation: int) -> None:
    upright = Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16))
    back = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # the transposition that undoes what the tag asks for
    stored = upright.transpose(Image.Transpose(back[orientation])) if orientation in back else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / "x.png", exif=exif)
    np.testing.assert_array_equal(read_image(tmp_path / "x.png", 16)[0], np.asarray(upright))
