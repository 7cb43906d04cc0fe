"""Write small SAS transport files (XPT, version 5), which pandas cannot write, and folders of NHANES files."""

import math
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

THRESHOLDS = [f"AUXU{f}{ear}" for ear in "RL" for f in ("500", "1K1", "2K", "3K", "4K", "6K", "8K")]
AUDIOGRAM = np.array([10, 10, 15, 20, 30, 40, 50, 5, 10, 15, 25, 30, 45, 55], dtype=float)  # dB HL, as THRESHOLDS


def ibm(value: float) -> bytes:
    """The eight bytes of an IBM double; NaN is SAS's missing value `.`."""
    if math.isnan(value):
        return b"." + bytes(7)
    if value == 0:
        return bytes(8)
    mantissa, exponent = math.frexp(abs(value))
    sixteens = -(-exponent // 4)
    fraction = round(mantissa * 2.0 ** (exponent - 4 * sixteens + 56))
    return bytes([(0x80 if value < 0 else 0) | (sixteens + 64)]) + fraction.to_bytes(7, "big")


def _card(text: str) -> bytes:
    return text.encode().ljust(80)


def _padded(raw: bytes) -> bytes:
    return raw.ljust(-(-len(raw) // 80) * 80)


def _describe(name: str, number: int, text: bool) -> bytes:
    fields = (2 if text else 1, 0, 8, number, name.encode().ljust(8), b" " * 40, b" " * 8, 0, 0, 0)
    return struct.pack(">hhhh8s40s8shhh2s8shhl52s", *fields, b"", b" " * 8, 0, 0, 8 * (number - 1), b"")


def xport(columns: Mapping[str, Sequence[float | str]]) -> bytes:
    """A transport file of one table; numbers and texts take eight bytes each."""
    header = "HEADER RECORD*******{:<8}HEADER RECORD!!!!!!!{:0<30}  "
    sas = "SAS     {:<8}SASLIB  9.4     LINUX" + " " * 27 + "01JAN20:00:00:00"
    names = list(columns)
    texts = [any(isinstance(value, str) for value in columns[name]) for name in names]
    head = _card(header.format("LIBRARY", "0")) + _card(sas.format("SAS")) + _card("01JAN20:00:00:00")
    head += _card(header.format("MEMBER", "000000000000000001600000000140")) + _card(header.format("DSCRPTR", "0"))
    head += _card(sas.format("TABLE")) + _card("01JAN20:00:00:00")
    head += _card(header.format("NAMESTR", f"{len(names):010d}"))
    described = b"".join(_describe(n, i + 1, t) for i, (n, t) in enumerate(zip(names, texts, strict=True)))
    rows = zip(*columns.values(), strict=True)
    body = b"".join(v.encode().ljust(8) if isinstance(v, str) else ibm(v) for row in rows for v in row)
    return head + _padded(described) + _card(header.format("OBS", "0")) + _padded(body)


def write_cycle(
    folder: Path,
    suffix: str,
    audiograms: np.ndarray,
    ages: Sequence[float],
    first: int = 1,
) -> None:
    """Write the two files of a cycle: `audiograms` `[row, 14]`, their `ages`, and SEQN counted from `first`.

    `suffix` is `1` for 1999-2000, a letter for a later cycle, `P` for 2017-2020.
    """
    exam, demo = {"1": ("AUX1", "DEMO"), "P": ("P_AUX", "P_DEMO")}.get(suffix, (f"AUX_{suffix}", f"DEMO_{suffix}"))
    people = [float(first + i) for i in range(len(audiograms))]
    thresholds = {name: list(column) for name, column in zip(THRESHOLDS, np.transpose(audiograms), strict=True)}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{exam}.XPT").write_bytes(xport({"SEQN": people, **thresholds}))
    (folder / f"{demo}.XPT").write_bytes(xport({"SEQN": people[::-1], "RIDAGEYR": list(ages)[::-1]}))


def audiograms(rows: int, seed: int = 0) -> tuple[np.ndarray, list[float]]:
    """Thresholds `[rows, 14]` in steps of 5 dB and ages, all plausible, every dimension varying."""
    rng = np.random.default_rng(seed)
    return AUDIOGRAM + 5.0 * rng.integers(-2, 3, (rows, 14)), list(rng.integers(20, 70, rows).astype(float))
