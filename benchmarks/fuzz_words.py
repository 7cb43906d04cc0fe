"""Doors of words: `--set`, `--data`, and options that are numbers."""

import contextlib
import io
import json
import math
import random
import re
from functools import cache
from pathlib import Path
from typing import Any

from fuzz import Door, Fault
from pydantic import BaseModel

from vaesweep.cli.script import make_parser
from vaesweep.data.domains import DataSet
from vaesweep.errors import UserError, line_of
from vaesweep.family import family
from vaesweep.sweep.cells import Preset, Sweep, expand
from vaesweep.sweep.settings import build, parse

FAMILIES = ("pvae", "emd", "hvae")
ODD = (
    *("yes", "no", "on", "off", "y", "n", "True", "False", "TRUE", "null", "Null", "~", "none", "010", "0o10"),
    *("0x1F", "0b11", "1_000", "1__0", "1:30", "1:30:30", "1e3", "1E3", "-0", "+5", ".5", "5.", ".inf"),
    *("-.inf", ".nan", "inf", "nan", "NaN", "Infinity", "1e30", "1e999", "1e-999", "-1", "1e18", "9223372036854775808"),
    *("2026-11-27", "12:00", "<<", "=", "&a", "*a", "!!int", "!x", "|", ">", "@x", "`x`", "%x", "#", "[]"),
    *("[0", "0]", "[[0,1],[1]]", "[,]", "[0,]", "{}", "{a:1}", "{", "'", '"', "''", '""', "'12'", '"yes"'),
    *("[yes,no]", "[true,false]", "[null]", "١٢", "1²", "1,5", "1.5.5", "--1", "1e", "1e+", "e5", "0.1.0"),
    *("00", "0.0", "1e-3", "0x", "1L", "1j", "5%", "$HOME", "~/x", "\\", "\\n"),
)
ALPHABET = "0123456789eE+-._:[]{}'\",=!&*#|>%@`~<> \\/abnostyfruelNTF\t\n\r\0\x1b\x7f\x9b\u2028\u202e\ufeffäé中١"


def _word(rng: random.Random) -> str:
    """The text of a value."""
    match rng.randrange(6):
        case 0:
            return rng.choice(ODD)
        case 1:
            return str(
                rng.choice([rng.randint(-5, 5000), rng.random(), rng.uniform(-1, 1) * 10 ** rng.randint(-40, 40)])
            )
        case 2:
            return f"[{','.join(_word(rng) for _ in range(rng.randrange(4)))}]"
        case 3:
            return "".join(rng.choice(ALPHABET) for _ in range(rng.randrange(12)))
        case 4:
            return _mutated(rng.choice(["0.001", "2000", "true", "target", "[0,1,2]", '"larger and longer"']), rng)
    return rng.choice(
        ["1" * rng.randrange(1, 9000), "[" * rng.randrange(2000), "[" + "0," * rng.randrange(20000), "x" * 9000]
    )


def _mutated(text: str, rng: random.Random) -> str:
    characters = list(text)
    for _ in range(rng.randrange(1, 4)):
        at = rng.randrange(len(characters) + 1)
        characters[at : at + rng.randrange(2)] = rng.choice(ALPHABET) * rng.randrange(2)
    return "".join(characters)


@cache
def _keys(name: str) -> tuple[str, ...]:
    """The dotted keys of the single values of a family's default configuration, and of some unions."""

    def walk(config: BaseModel, prefix: str) -> list[str]:
        keys = []
        for key in type(config).model_fields:
            value = getattr(config, key)
            keys += walk(value, f"{prefix}{key}.") if isinstance(value, BaseModel) else [f"{prefix}{key}"]
        return keys

    more = ["rates.total.target", "rates.total.kind", "free_nats.z.nats", "training.skip.norm", "pretraining.seed"]
    return (*walk(family(name).config(), ""), *more)


def _set(rng: random.Random, folder: Path) -> object:
    name = rng.choice(FAMILIES)
    kind, key, text = family(name).config, rng.choice(_keys(name)), _word(rng)
    if rng.random() < 0.05:
        key = _mutated(key, rng)
    settings = parse([f"{key}={text}"])
    if rng.random() < 0.2:
        configs = [config for config, _ in expand(family(name), Preset(), settings)]
    else:
        configs = [build(kind, settings)]
    ((own, value),) = settings.items()
    _compare_with_json(text, value)
    values = value if isinstance(value, list) and len(configs) == len(value) else [value]
    for config, single in zip(configs, values, strict=False):
        found: Any = config
        for part in own.split("."):
            found = found.get(part) if isinstance(found, dict) else getattr(found, part)
        _compare(text, single, found)
    return own, text, settings


def _compare_with_json(text: str, value: Any) -> None:
    """Whether what was read is what JSON says, where the text is JSON."""
    with contextlib.suppress(ValueError, RecursionError):
        if _plain(json.loads(text.strip(" "), parse_constant=lambda word: word)) != _plain(value):
            raise Fault(f"{text!r} was read as {value!r}")


def _compare(text: str, value: Any, found: Any) -> None:
    """Whether a single value of a configuration is what plain decimal notation says that the text is."""
    stripped = text.strip(" ")
    if isinstance(found, bool):
        if value is not found:
            raise Fault(f"{text!r} became {found}")
    elif isinstance(found, int | float):
        if isinstance(value, bool | str) or not math.isfinite(found) or float(value) != float(found):
            raise Fault(f"{text!r} became {found}")
        if not isinstance(value, list) and not stripped.startswith("["):
            if not re.fullmatch(r"[-+]?[0-9]*\.?[0-9]*([eE][-+]?[0-9]+)?", stripped, re.ASCII):
                raise Fault(f"{text!r} became {found}")
            if float(stripped) != float(found) or re.match(r"[-+]?0[0-9]", stripped):
                raise Fault(f"{text!r} became {found}")
        if abs(found) > 2**63:
            raise Fault(f"{text!r} became {found}")
    elif isinstance(found, str) and str(found) != value:
        raise Fault(f"{text!r} became {found!r}")


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


SPECS = (
    *("synthetic", "nhanes:DIR", "csv:FILE", "csv:DIR", "nhanes:FILE", "synthetic,unseen=FILE", "csv:FILE,unseen=FILE"),
    *(
        "nhanes:DIR,exam=complete",
        "poisson",
        "poisson:unseen=noise_2",
        "poisson:unseen=",
        "mnist:DIR",
        "binarised_mnist:DIR",
    ),
    *("folder:DIR", "folder:FILE", "pulses", "pulses:conditions=none", "pulses:conditions=noise_0+noise_0"),
    *("speech:DIR", "speech:DIR,noise=DIR", "speech:DIR,speaker=(", "speech:DIR,speakers=FILE", "librimix:DIR"),
    *("wham:DIR,train=x", "whamr:DIR", "file:///DIR"),
)


def _data(rng: random.Random, folder: Path) -> object:
    (folder / "some").mkdir()
    (folder / "some" / "x.csv").write_bytes(rng.randbytes(rng.randrange(60)))
    spec = rng.choice(SPECS).replace("DIR", str(folder / "some")).replace("FILE", str(folder / "some" / "x.csv"))
    if rng.random() < 0.6:
        spec = _mutated(spec, rng)
    if rng.random() < 0.1:
        spec += rng.choice(ODD) * rng.randrange(1, 400)
    if re.search(r"[a-z0-9]+://", spec) and "file://" not in spec:
        return None  # a store that would be asked over the network
    name = rng.choice(FAMILIES)
    owner = family(name)
    data = owner.load(spec, _small(name))
    if not isinstance(data, DataSet) or not all(len(domain) for domain in data.domains):
        raise Fault(f"{spec!r} gave {data!r}")
    for line in data.summary:
        if not line_of(line, None).isprintable():
            raise Fault(f"{spec!r}: {line!r}")
    return spec


@cache
def _small(name: str) -> Any:
    rows = {"emd": {"data.rows.train": 16, "data.rows.valid": 9, "data.rows.test": 9}}.get(name, {})
    return build(family(name).config, rows)


OPTIONS = ("--pack-size", "--workers", "--gpus", "--scale-to", "--checkpoint-every")


@cache
def _parser() -> Any:
    return make_parser(Sweep("fuzz", "pvae", lambda data: {"smoke": Preset()}), None)


def _option(rng: random.Random, folder: Path) -> object:
    option, text = rng.choice(OPTIONS), _word(rng).replace("\n", "")
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            found = vars(_parser().parse_args([f"{option}={text}"]))[option.strip("-").replace("-", "_")]
    except SystemExit as error:
        if error.code != 2:
            raise Fault(f"{option}={text!r} ended with {error.code}") from None
        raise UserError("refused by its parser") from None
    if not re.fullmatch(r"[-+]?[0-9]*\.?[0-9]*([eE][-+]?[0-9]+)?", text.strip(), re.ASCII) or float(text) != float(
        found
    ):
        raise Fault(f"{option}={text!r} became {found}")
    return option, text, found


DOORS = (
    Door("set", "words after --set, for every key of every family", _set),
    Door("data", "words after --data", _data),
    Door("options", "options that are numbers", _option),
)
