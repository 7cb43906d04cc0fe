"""The page of a sweep, report.html: one file that needs nothing beside it, and report.json with the same numbers.

The page draws what its JSON has, which is report.json's own text. It asks for nothing from elsewhere and keeps nothing:
it works from a file, from an e-mail, and in the frame in which MLflow shows artifacts.
"""

import base64
import html
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache, partial
from importlib.resources import files
from pathlib import Path
from typing import Any

from vaesweep.analysis.contents import FORMAT, contents, differences, rows_of, settings_that_differ
from vaesweep.analysis.runs import Runs
from vaesweep.analysis.tables import Tables, make_tables
from vaesweep.data.writing import replace_file

PAGE, NUMBERS = "report.html", "report.json"
KINDS = {".png": "image/png", ".svg": "image/svg+xml", ".wav": "audio/wav", ".flac": "audio/flac"}
MOST_BYTES = 1_200_000  # of a page's figures and sounds together, before they are written as base64


def write(runs: Runs, out: Path, media: Iterable[Path] = (), tables: Tables | None = None) -> tuple[Path, Path]:
    """Write report.html and report.json of a sweep into `out`; figures and sounds of `media` go into the page."""
    return write_contents(contents(runs, tables), out, media)


def write_contents(sweep: Mapping[str, Any], out: Path, media: Iterable[Path] = ()) -> tuple[Path, Path]:
    """`write`, of the `contents` of a sweep."""
    return _write({"format": FORMAT, "sweeps": [sweep]}, out, media)


def compare(first: Runs, second: Runs, out: Path) -> tuple[Path, Path]:
    """Write the page of two sweeps side by side, with their differences, first less second."""
    tables = [make_tables(first), make_tables(second)]
    both = [contents(first, tables[0]), contents(second, tables[1])]
    apart = rows_of(differences(tables[0].cells, tables[1].cells))
    page = {"format": FORMAT, "sweeps": both, "differences": apart, "settings": settings_that_differ(both)}
    return _write(page, out, ())


def _write(page: Mapping[str, Any], out: Path, media: Iterable[Path]) -> tuple[Path, Path]:
    out.mkdir(parents=True, exist_ok=True)
    numbers = _text(page)
    return (
        replace_file(out / PAGE, partial(_write_text, text=_page(_title(page), numbers, embedded(media)))),
        replace_file(out / NUMBERS, partial(_write_text, text=f"{numbers}\n")),
    )


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


def render(page: Mapping[str, Any], media: Sequence[Mapping[str, str]] = ()) -> str:
    """The page as HTML. `media` are as of `embedded`."""
    return _page(_title(page), _text(page), media)


def _title(page: Mapping[str, Any]) -> str:
    return " and ".join(f"{sweep['sweep']['name']} ({sweep['sweep']['preset']})" for sweep in page["sweeps"])


def _page(title: str, numbers: str, media: Sequence[Mapping[str, str]]) -> str:
    parts = {
        "title": html.escape(title),
        "style": _part("page.css"),
        "plotly": _part("plotly-basic.min.js"),
        "script": _part("page.js"),
        "numbers": _in_script(numbers),
        "media": _in_script(_text(list(media))),
    }
    return re.sub(r"/\*(\w+)\*/", lambda place: parts[place[1]], _part("page.html"))


def _text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def _in_script(text: str) -> str:
    """JSON that no HTML parser takes for the end of its script element."""
    return text.replace("<", "\\u003c")


@cache
def _part(name: str) -> str:
    return files("vaesweep.analysis").joinpath("page_files", name).read_text(encoding="utf-8")


def embedded(media: Iterable[Path]) -> list[dict[str, str]]:
    """Figures and sounds as the page holds them: name, kind and data; those beyond `MOST_BYTES` are only named."""
    entries, left = [], MOST_BYTES
    for path in media:
        if path.suffix not in KINDS or not path.is_file():
            continue
        entry, size = {"name": path.name}, path.stat().st_size
        if size <= left:
            left -= size
            entry |= {"kind": KINDS[path.suffix], "data": base64.b64encode(path.read_bytes()).decode()}
        entries.append(entry)
    return entries
