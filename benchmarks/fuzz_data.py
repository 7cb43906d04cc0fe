"""Doors of data: tables, transport files, IDX and text of images, image files, recordings, folders of them.

Most inputs are whole files whose values are known, with damage or company that a person, a spreadsheet or a disk may do
to them. What is read must be what was written, or what an independent reader reads of the damaged file.
"""

import codecs
import csv
import io
import math
import os
import random
import re
import struct
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from fuzz import Door, Fault
from PIL import Image

from vaesweep.data.folders import find
from vaesweep.families.emd.data.speech import audio, recordings
from vaesweep.families.hvae.data import ImagesConfig, load
from vaesweep.families.hvae.data.files import SIDE, read_amat, read_idx
from vaesweep.families.hvae.data.folder import read_image
from vaesweep.families.pvae.data import sources
from vaesweep.families.pvae.data.audiograms import COLUMNS, HIGHEST, LOWEST
from vaesweep.families.pvae.data.partial import parse_partial
from vaesweep.families.pvae.data.population import read_population
from vaesweep.families.pvae.data.xport import read_xport

JUNK = (
    "",
    '"',
    '""',
    "'",
    "a",
    "=1+1",
    "@x",
    "[/note]",
    "\x1b[31m",
    "wears aids",
    '5" left',
    "ä",
    "\ufeff",
    ",",
    ";",
    "\t",
    "-",
    "1e3",
)
CELLS = (
    "",
    "NA",
    "nan",
    "10",
    "-10",
    "130",
    "666",
    "1e1",
    "1,5",
    "1.5",
    "+5",
    " 20 ",
    "0x10",
    "1_0",
    "٣",
    "1e999",
    "NR",
    '"30"',
)


def damaged(raw: bytes, rng: random.Random) -> bytes:
    """Some bytes changed, taken out, put in, or repeated; or the file cut."""
    content = bytearray(raw)
    for _ in range(rng.randrange(1, 4)):
        at = rng.randrange(len(content) + 1)
        match rng.randrange(6):
            case 0:
                content[at : at + 1] = bytes([rng.randrange(256)])
            case 1:
                del content[at : at + rng.randrange(1, 90)]
            case 2:
                content[at:at] = rng.choice(
                    [b'"', b"\n", b"\r", b"\0", b",", b";", b" " * 80, b"\xff", b"\x1a", b"\xef\xbb\xbf"]
                )
            case 3:
                content[at:at] = content[at : at + rng.randrange(200)]
            case 4:
                del content[at:]
            case 5:
                content[at : at + 4] = rng.randbytes(4)
    return bytes(content)


def _table(rng: random.Random, *, names: bool) -> tuple[bytes, list[list[str]]]:
    """A table of audiograms as bytes, and its cells, the header first."""
    header = list(COLUMNS)
    if rng.random() < 0.5:
        rng.shuffle(header)
    extra = [
        rng.choice(["note", "id", "listener", "seqn", "sex", "right_250", "", "note"]) for _ in range(rng.randrange(3))
    ]
    if names and rng.random() < 0.5:
        header = [name for name in header if name == "age" or rng.random() < 0.5]
    header += extra
    rows = []
    for _ in range(rng.randrange(1, 14)):
        cells = [str(5 * rng.randrange(-2, 20)) if name != "age" else str(rng.randrange(100)) for name in header]
        for place, name in enumerate(header):
            if name not in COLUMNS:
                cells[place] = rng.choice(JUNK) if rng.random() < 0.3 else f"P{rng.randrange(9)}"
            elif rng.random() < 0.02:
                cells[place] = rng.choice(CELLS)
        rows.append(cells)
    separator, end = rng.choice(",;\t"), rng.choice(["\n", "\r\n", "\r"])
    lines = [separator.join(cell if rng.random() < 0.97 else f'"{cell}"' for cell in row) for row in [header, *rows]]
    for _ in range(rng.randrange(3)):
        lines.insert(rng.randrange(len(lines) + 1), rng.choice(["", " ", separator * (len(header) - 1), "sep=;"]))
    if rng.random() < 0.1:
        lines.insert(0, f"sep={separator}")
    encoding = rng.choice(["utf-8", "utf-8", "utf-8-sig", "utf-16", "cp1252", "utf-16-le"])
    raw = end.join(lines).encode(encoding, "replace")
    return (damaged(raw, rng) if rng.random() < 0.5 else raw), rows


def _rows_by_line(raw: bytes) -> list[list[str]]:
    """The rows of a table, each of one line, by a reader that knows no rows of several lines."""
    marked = raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        text = raw.decode("utf-16" if marked else "utf-8-sig")
    except UnicodeDecodeError:
        text = raw.decode("cp1252")
    lines = [line for line in re.split("\r\n|\r|\n", text) if line.strip()]
    separator = max(";\t,", key=lines[0].lstrip().count)
    if named := re.match(r'\ufeff?"?sep=(.)', lines[0].strip(" "), re.IGNORECASE):
        separator, lines = named[1], lines[1:]
    cells = [next(csv.reader([line], delimiter=separator)) for line in lines]
    return [row for row in cells if any(cell.strip() for cell in row)]


def _number(cell: str) -> float:
    cell = cell.strip().replace(",", ".")
    return math.nan if cell.lower() in ("", "na", "nan") else float(cell)


def _values(raw: bytes) -> np.ndarray:
    """The audiograms `[row, 15]` of a table, NaN where there is none, by that reader."""
    header, *rows = _rows_by_line(raw)
    names = [name.strip().strip("\ufeff").strip().lower() for name in header]
    return np.array(
        [[_number(row[names.index(name)]) if name in names else math.nan for name in COLUMNS] for row in rows]
    )


def _same(found: np.ndarray, expected: np.ndarray, what: object) -> None:
    if found.shape != expected.shape or not np.array_equal(found, expected.astype(found.dtype), equal_nan=True):
        raise Fault(f"{what!r}: {found.shape} differs from {expected.shape}")


def _csv(rng: random.Random, folder: Path) -> object:
    raw, _ = _table(rng, names=False)
    (folder / "x.csv").write_bytes(raw)
    rows = read_population(folder / "x.csv")
    values = _values(raw)
    kept = values[((values >= LOWEST) & (values <= HIGHEST)).all(axis=1)]
    _same(rows.x, kept.astype(np.float32), raw)
    return raw


def _acquire(rng: random.Random, folder: Path) -> object:
    raw, _ = _table(rng, names=True)
    listeners = parse_partial(raw, "standard input")
    _same(listeners.x, _values(raw).astype(np.float32), raw)
    return raw


def _speakers(rng: random.Random, folder: Path) -> object:
    rows = [[f"{rng.randrange(9)}/{n}.wav", rng.choice(["anna", "bert", *JUNK])] for n in range(rng.randrange(12))]
    raw = "\n".join(",".join(row) for row in [["path", "speaker"], *rows]).encode()
    raw = damaged(raw, rng) if rng.random() < 0.5 else raw
    (folder / "x.csv").write_bytes(raw)
    speaker_of = recordings.by_table(folder / "x.csv")
    header, *read = _rows_by_line(raw)
    names = [name.strip().strip("\ufeff").strip().lower() for name in header]
    for row in read:
        path, speaker = (row[names.index(name)].strip() for name in ("path", "speaker"))
        if speaker_of(path) != speaker:
            raise Fault(f"{raw!r}: {path} is of {speaker_of(path)}")
    return raw


def ibm(value: float, length: int = 8) -> bytes:
    """The bytes of an IBM number."""
    if math.isnan(value):
        return b"." + bytes(length - 1)
    if value == 0:
        return bytes(length)
    mantissa, exponent = math.frexp(abs(value))
    sixteens = -(-exponent // 4)
    fraction = round(mantissa * 2.0 ** (exponent - 4 * sixteens + 56))
    return (bytes([(0x80 if value < 0 else 0) | (sixteens + 64)]) + fraction.to_bytes(7, "big"))[:length]


def xport(tables: Sequence[tuple[str, dict[str, tuple[int, list[Any]]]]]) -> bytes:
    """A transport file of tables: of each column the length, and its numbers or texts."""
    header = "HEADER RECORD*******{:<8}HEADER RECORD!!!!!!!{:0<30}  "
    raw = header.format("LIBRARY", "0").encode() + b" " * 160
    for name, columns in tables:
        raw += (
            header.format("MEMBER", "000000000000000001600000000140").encode() + header.format("DSCRPTR", "0").encode()
        )
        raw += f"SAS     {name:<8}SASLIB  9.4".encode().ljust(80) + b" " * 80
        raw += header.format("NAMESTR", f"{len(columns):010d}").encode()
        described, at = b"", 0
        for number, (column, (length, values)) in enumerate(columns.items(), 1):
            kind = 2 if values and isinstance(values[0], bytes) else 1
            fields = (kind, 0, length, number, column.encode().ljust(8), b" " * 40, b" " * 8, 0, 0, 0)
            described += struct.pack(">hhhh8s40s8shhh2s8shhl52s", *fields, b"", b" " * 8, 0, 0, at, b"")
            at += length
        raw += described.ljust(-(-len(described) // 80) * 80) + header.format("OBS", "0").encode()
        body = b""
        for row in zip(*(values for _, values in columns.values()), strict=True):
            for value, (length, _) in zip(row, columns.values(), strict=True):
                body += value.ljust(length)[:length] if isinstance(value, bytes) else ibm(value, length)
        raw += body.ljust(-(-len(body) // 80) * 80)
    return raw


def _xpt(rng: random.Random, folder: Path) -> object:
    count = rng.randrange(1, 30)
    columns: dict[str, tuple[int, list[Any]]] = {}
    for number in range(rng.randrange(1, 5)):
        if rng.random() < 0.25:
            columns[f"T{number}"] = (
                rng.randrange(1, 9),
                [rng.choice([b"", b"a", b"abc", b"    "]) for _ in range(count)],
            )
        else:
            length = rng.choice([8, 8, 8, rng.randrange(3, 9)])
            whole = [float(rng.choice([rng.randrange(-99, 700), math.nan, 0])) for _ in range(count)]
            columns[f"N{number}"] = (length, whole)
    numbers = [name for name in columns if name.startswith("N")]
    other = ("OTHER", {"X": (8, [1.0] * rng.randrange(12))})
    tables = [("TABLE", columns), *[other] * (rng.random() < 0.2)]
    rng.shuffle(tables)
    whole_file = xport(tables)
    raw = damaged(whole_file, rng) if rng.random() < 0.5 else whole_file
    path = folder / "X.XPT"
    path.write_bytes(raw)
    asked = rng.sample(numbers, rng.randrange(1, len(numbers) + 1)) if numbers else ["N0"]
    frame = read_xport(path, asked)
    if raw == whole_file:
        _same(frame.to_numpy(), np.column_stack([columns[name][1] for name in asked]), raw)
    elif len(tables) == 1 and rng.random() < 0.3:
        with warnings.catch_warnings(action="ignore"):
            try:
                other_frame = pd.read_sas(io.BytesIO(raw), format="xport", encoding="latin-1")
            except ValueError:  # it looks at more of the headers, and does not read their names as it is told to
                return asked, len(frame)
        other_frame = other_frame[asked].mask(other_frame[asked].abs() < 1e-70, 0.0)
        common = min(len(frame), len(other_frame))
        a, b = frame.to_numpy()[:common], other_frame.to_numpy()[:common]
        if not np.allclose(a, b, rtol=1e-14, atol=1e-70, equal_nan=True):
            raise Fault(f"{raw!r}: {a} and by pandas {b}")
    return asked, len(frame)


def _idx(rng: random.Random, folder: Path) -> object:
    rows = rng.randrange(4)
    pixels = rng.randbytes(rows * SIDE**2)
    whole = struct.pack(">4I", 0x803, rows, SIDE, SIDE) + pixels
    raw = damaged(whole, rng) if rng.random() < 0.6 else whole
    (folder / "x").write_bytes(raw)
    images = read_idx(folder, "x")
    _same(images, np.frombuffer(raw[16:], np.uint8).reshape(-1, SIDE, SIDE), raw[:16])
    return len(images)


def _amat(rng: random.Random, folder: Path) -> object:
    lines = [" ".join(rng.choice("01") for _ in range(SIDE**2)) for _ in range(rng.randrange(1, 4))]
    raw = "\n".join(lines).encode()
    raw = damaged(raw, rng) if rng.random() < 0.6 else raw
    (folder / "x").write_bytes(raw)
    images = read_amat(folder, "x")
    rows = [
        [int(digit) for digit in re.sub(rb"[ \t]", b"", line).decode()]
        for line in re.split(rb"\r\n|\r|\n", raw)
        if line.strip()
    ]
    _same(images.reshape(len(images), -1), np.array(rows), raw[:40])
    return len(images)


MODES = ("L", "RGB", "RGBA", "P", "LA", "1", "I;16", "F", "I", "CMYK")
KINDS = ("PNG", "JPEG", "BMP", "TIFF", "GIF", "WEBP", "EPS", "PPM", "ICO", "TGA", "PCX", "JPEG2000")


def _picture(rng: random.Random, size: int) -> tuple[Image.Image, np.ndarray]:
    grey = np.frombuffer(rng.randbytes(size * size), np.uint8).reshape(size, size)
    return Image.fromarray(grey), grey


def _image(rng: random.Random, folder: Path) -> object:
    size = rng.randrange(4, 12)
    image, grey = _picture(rng, size)
    mode, kind = rng.choice(MODES), rng.choice(KINDS[: rng.choice([1, 3, 12])])
    raw = io.BytesIO()
    try:
        if mode == "I;16":
            image = Image.fromarray(grey.astype(np.uint16) * 257)
        elif mode != "L":
            image = image.convert(mode)
        image.save(raw, kind)
    except (OSError, ValueError, KeyError):
        return None  # Pillow does not write this
    whole = raw.getvalue()
    content = damaged(whole, rng) if rng.random() < 0.5 else whole
    path = folder / f"x{rng.choice(['.png', '.jpg', '.bmp', '.PNG'])}"
    path.write_bytes(content)
    found = read_image(path, size)[0]
    if content == whole and kind in ("PNG", "BMP") and mode in ("L", "RGB", "RGBA", "LA", "I;16"):
        _same(found, grey, (mode, kind))
    if kind not in ("PNG", "JPEG", "BMP") and content == whole:
        raise Fault(f"{kind} was read")
    return mode, kind, content == whole


NAMES = (
    *("a.wav", "b.wav", "c.WAV", "d.flac", ".e.wav", "._f.wav", "g.wav.part", "h.crdownload", "i.wav~", "j.txt", "k"),
    *(".hidden", "l.wav.bak", "#m.wav#", "~$n.wav", "o.mp4", "p.swp", "a\x1b[31m.wav", "[bold].wav", "x\ny.wav"),
    *("\u00e4.wav", "a\u0308.wav", "=1+1.wav", "Thumbs.db", "__MACOSX", "sub", "sub2.wavs", ".git", "q.wav.tmp"),
)


def _is_hidden(name: str) -> bool:
    return any(part.startswith(".") or part == "__MACOSX" for part in name.split("/"))


def _folder(rng: random.Random, folder: Path) -> object:
    expected: dict[str, bytes] = {}
    root = folder / "data"
    root.mkdir()
    places, seen = [""], [""]  # folders, and those of them that are not hidden
    for number in range(rng.randrange(16)):
        parent, name = rng.choice(places), rng.choice(NAMES)
        own = f"{parent}{name}"
        path = root / own
        if os.path.lexists(path):
            continue
        what = rng.random()
        if what < 0.15 or name in ("sub", ".git", "__MACOSX"):
            if path.suffix.lower() != ".wav" or name.startswith("."):
                path.mkdir()
                places.append(f"{own}/")
                seen += [f"{own}/"] * (not _is_hidden(own))
        elif what < 0.25:
            path.symlink_to(root / rng.choice(seen), target_is_directory=True)
        elif what < 0.35 and expected:
            path.symlink_to(root / rng.choice(sorted(expected)))
        else:
            path.write_bytes(str(number).encode())
            wanted = name.lower().endswith((".wav", ".flac")) and not name.startswith(("#", "~$"))
            if wanted and not _is_hidden(own):
                expected[own] = str(number).encode()
    found = find(root, (".wav", ".flac"))
    read = [(root / name).read_bytes() for name in found.names]
    if sorted(read) != sorted(expected.values()):
        raise Fault(f"{sorted(map(str, root.rglob('*')))}: {found.names} and not {sorted(expected)}")
    if any(not line.isprintable() for line in found.summary):
        raise Fault(repr(found.summary))
    return found


def _wav(rng: random.Random, folder: Path) -> object:
    rate, frames = rng.choice([8000, 16000, 44100, 1, 10**9]), rng.randrange(0, 400)
    samples = np.frombuffer(rng.randbytes(2 * frames), np.int16)
    form, kind = rng.choice([("WAV", "PCM_16"), ("FLAC", "PCM_16"), ("WAV", "FLOAT"), ("OGG", "VORBIS")])
    rate = rate if form != "OGG" else 8000  # libsndfile itself fails where it writes others
    path = folder / f"x.{rng.choice(['wav', 'flac', 'ogg', 'mp3'])}"
    raw = io.BytesIO()
    try:
        audio.soundfile.write(raw, samples, rate, format=form, subtype=kind)
    except Exception:
        return None  # libsndfile does not write this
    whole = raw.getvalue()
    content = damaged(whole, rng) if rng.random() < 0.6 else whole
    path.write_bytes(content)
    about = audio.info(path)
    signal, found_rate = audio.read(path)
    if len(signal) != about.frames or found_rate != about.rate or not np.isfinite(signal).all():
        raise Fault(f"{len(signal)} samples of {about}")
    if content == whole and kind == "PCM_16":
        _same(signal, (samples / 2**15).astype(np.float32), form)
    return form, kind, about


def _pictures(rng: random.Random, folder: Path) -> object:
    root = folder / "p"
    root.mkdir()
    for number in range(rng.randrange(12, 24)):
        image, _ = _picture(rng, 4)
        name = f"{number}{rng.choice(['.png', '.png', '.png', '.bmp', '.tif', '.gif', ' (1).png'])}"
        image.save(root / name)
        if rng.random() < 0.03:
            (root / name).write_bytes(damaged((root / name).read_bytes(), rng))
    data = load(f"folder:{root}", ImagesConfig(size=4))
    wanted = [path for path in root.iterdir() if path.suffix in (".png", ".bmp")]
    if sum(len(domain) for domain in data.domains) != len(wanted):
        raise Fault(f"{sum(len(domain) for domain in data.domains)} of {len(wanted)} images")
    return len(wanted)


def _nhanes(rng: random.Random, folder: Path) -> object:
    root = folder / "n"
    root.mkdir()
    thresholds = [f"AUXU{f}{ear}" for ear in "RL" for f in ("500", "1K1", "2K", "3K", "4K", "6K", "8K")]
    kept = 0
    for letter in rng.sample("BCGI", rng.randrange(1, 3)):
        count, first = rng.randrange(5, 14), 1000 * ord(letter)
        people = [float(first + person) for person in range(count)]
        exam: dict[str, tuple[int, list[Any]]] = {"SEQN": (8, people)}
        exam |= {n: (8, [float(5 * rng.randrange(-2, 20)) for _ in range(count)]) for n in thresholds}
        files = {
            f"AUX_{letter}.XPT": xport([("AUX", exam)]),
            f"DEMO_{letter}.xpt": xport(
                [("DEMO", {"SEQN": (8, people), "RIDAGEYR": (8, [float(rng.randrange(80)) for _ in people])})]
            ),
        }
        for name, raw in files.items():
            if rng.random() < 0.95:
                (root / name).write_bytes(damaged(raw, rng) if rng.random() < 0.05 else raw)
        kept += count
    data = sources.load(f"nhanes:{root}", 0)
    if sum(len(domain) for domain in data.domains) > kept:
        raise Fault(f"{sum(len(domain) for domain in data.domains)} rows of {kept}")
    return kept


DOORS = (
    Door("csv", "tables of audiograms", _csv),
    Door("acquire", "the input of vaesweep acquire", _acquire),
    Door("speakers", "tables of speakers", _speakers),
    Door("xpt", "SAS transport files", _xpt),
    Door("idx", "MNIST's files", _idx),
    Door("amat", "texts of images", _amat),
    Door("image", "image files of all kinds under the names of three", _image),
    Door("folder", "folders with links, copies and company", _folder),
    Door("wav", "recordings", _wav),
    Door("pictures", "folders of images", _pictures, share=0.1),
    Door("nhanes", "folders of NHANES", _nhanes, share=0.1),
)
