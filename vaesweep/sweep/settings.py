"""Dotted settings such as `training.steps=2000`: typed, put into a configuration, refused with a hint if unknown."""

import difflib
import json
import math
import re
from collections.abc import Iterable, Mapping
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, NamedTuple, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from vaesweep.data.numbers import decimal
from vaesweep.errors import UserError

ConfigT = TypeVar("ConfigT", bound=BaseModel)
Settings = Mapping[str, Any]  # by dotted key
PRETRAINING = "pretraining"  # the field of a cell that holds a cell: settings below it override the cell's own
_PREFIX = f"{PRETRAINING}."
CONSTANTS: Mapping[str, bool | None] = {"true": True, "false": False, "null": None}
LONGEST_LIST, DEEPEST = 10_000, 4
MOST = 1e12  # what numbers may be at most, whole ones less where their setting says nothing else
MOST_WHOLE = 10**9
EXACT = 2**53  # from here on floats do not hold every whole number
MOST_OF = {  # by the last part of a key, or by its first: more is a slip of the hand, and no machine has the memory
    "learning_rate": 1e3,
    "batch_size": 2**20,
    "accumulation": 2**16,
    "sample_rate": 10**6,
    "samples": 10**5,
    "prior_samples": 10**6,
    "draws": 10**5,
    "repeats": 10**4,
    "model": 2**16,
}
_WORD = re.compile(r"[^\W_0-9][^\[\]{}\"'`,#&*!|<>@%?\\]*|[0-9+.~_-][\w.:+/~-]*")


def parse(words: Iterable[str]) -> dict[str, Any]:
    """Values by key from `key=value` words: numbers in decimal, true, false, null, words, "quoted" ones and `[lists]`.

    Nothing else is read as anything: `yes`, `1:30`, `1__0` and `010` are words, which no number accepts.
    """
    values: dict[str, Any] = {}
    for word in words:
        key, equals, text = word.partition("=")
        if not equals or not key.strip():
            raise UserError(f"--set {word}: write dotted.key=value, such as training.steps=2000")
        try:
            values[key.strip()] = _Reader(text).whole()
        except OverflowError as error:
            raise UserError(f"--set {word}: {text!r} is {error}; write one of at most {MOST:g}") from None
        except ValueError as error:
            reason = f" ({error})" if str(error) else ""
            raise UserError(f"--set {word}: {text!r} is not a number, a word or a [list]{reason}") from None
    return values


class _Reader:
    """Reads the text of one value from left to right; `ValueError` where it is none, `OverflowError` of numbers."""

    def __init__(self, text: str) -> None:
        self._text, self._at = text.strip(" "), 0

    def whole(self) -> Any:
        """The value that the whole text is."""
        if not self._text:
            raise ValueError("nothing follows the =; write null for none")
        value = self._value(0) if self._text[0] in "[\"'" else self._plain(self._text)
        if self._text[0] in "[\"'" and self._at < len(self._text):
            raise ValueError(f"{self._text[self._at :][:20]!r} follows its end")
        return value

    def _value(self, depth: int) -> Any:
        """The value that begins here, within `depth` lists."""
        match self._text[self._at : self._at + 1]:
            case "[":
                return self._list(depth)
            case '"' | "'":
                return self._quoted()
        end = re.compile(r"[,\[\]]|$").search(self._text, self._at)
        assert end
        text, self._at = self._text[self._at : end.start()], end.start()
        return self._plain(text.strip(" "))

    def _list(self, depth: int) -> list[Any]:
        if depth == DEEPEST:
            raise ValueError(f"more than {DEEPEST} lists in each other")
        values: list[Any] = []
        self._at += 1
        while self._next() != "]":
            values.append(self._value(depth + 1))
            if len(values) > LONGEST_LIST:
                raise ValueError(f"more than {LONGEST_LIST} values")
            if self._next() == ",":
                self._at += 1
                if self._next() in ("]", ","):
                    raise ValueError("a place between commas is empty")
            elif self._next() != "]":
                raise ValueError("its ] is missing" if not self._next() else "a comma is missing")
        self._at += 1
        self._next()
        return values

    def _next(self) -> str:
        """The next character that is no blank, to which this goes on; nothing at the end."""
        while self._text[self._at : self._at + 1] == " ":
            self._at += 1
        return self._text[self._at : self._at + 1]

    def _quoted(self) -> str:
        quote = self._text[self._at]
        end = self._text.find(quote, self._at + 1)
        if end < 0:
            raise ValueError(f"its closing {quote} is missing")
        text, self._at = self._text[self._at + 1 : end], end + 1
        if "\\" in text or not text.isprintable():
            raise ValueError("a quoted word has no backslash and nothing that cannot be printed")
        self._next()
        return text

    @staticmethod
    def _plain(text: str) -> Any:
        if text in CONSTANTS:
            return CONSTANTS[text]
        number = decimal(text)
        if number is not None:
            return number
        if not _WORD.fullmatch(text) or not text.isprintable():
            raise ValueError
        return text


def build(kind: type[ConfigT], settings: Settings) -> ConfigT:
    """The configuration of class `kind` with `settings` put in; every fault is a `UserError` that names its key.

    Where there are settings of pretraining, it is a configuration too: of the cell's settings with those over them.
    """
    own, pretraining = _split(settings)
    config = _build(kind, own, "")
    if not pretraining:
        return config
    return config.model_copy(update={PRETRAINING: _build(kind, combine(own, pretraining), _PREFIX)})


def _split(settings: Settings) -> tuple[dict[str, Any], dict[str, Any]]:
    """The settings of a cell, and those of its pretraining, with the cell's keys."""
    if settings.get(PRETRAINING) is not None:
        raise UserError(f"setting {PRETRAINING}: set what is below it, such as {_PREFIX}training.steps=2000, or null")
    pretraining = {key.removeprefix(_PREFIX): value for key, value in settings.items() if key.startswith(_PREFIX)}
    if any(key.partition(".")[0] == PRETRAINING for key in pretraining):
        raise UserError(f"setting {_PREFIX}{PRETRAINING}: there is one pretraining, not one before another")
    return {key: value for key, value in settings.items() if not key.startswith(_PREFIX)}, pretraining


def _build(kind: type[ConfigT], settings: Settings, prefix: str) -> ConfigT:
    for key in settings:
        check_key(kind, key, prefix)
        if (fault := _misread(kind, key, settings[key])) is not None:
            raise UserError(f"setting {prefix}{key}={_shown(settings[key])}: {fault}")
    kept = {key: value for key, value in settings.items() if value is not None or not _is_entry(kind, key)}
    try:
        return kind.model_validate(_merge(kind().model_dump(), _nested(kept)))
    except ValidationError as error:
        raise UserError(_explain(kind, error, settings, prefix)) from None


def _misread(kind: type[BaseModel], key: str, value: Any) -> str | None:
    """What is wrong with a value that pydantic would take for another one, or that is beyond all sense."""
    taken = _taken_at(kind, key)
    if isinstance(value, bool | int | float | str) or value is None:
        return _misread_scalar(key, value, taken.single, bounded=taken.bounded)
    if isinstance(value, list | tuple):
        parts = [part for item in value for part in (item if isinstance(item, list | tuple) else (item,))]
        return next((fault for part in parts if (fault := _misread_scalar(key, part, taken.items, bounded=True))), None)
    return None


class _Taken(NamedTuple):
    """What a setting takes: the kinds of a single value and of a list's items; whether a number needs our bound."""

    single: frozenset[type]
    items: frozenset[type]
    bounded: bool


@cache
def _taken_at(kind: type[BaseModel], key: str) -> _Taken:
    places: list[Any] = [kind]
    for part in key.split("."):
        places = _below(places, part)
    items = _scalars([item for place in places for item in _items(place)])
    return _Taken(_scalars(places), items, not any(_has_upper_bound(place) for place in places))


def _misread_scalar(key: str, value: Any, kinds: frozenset[type], *, bounded: bool) -> str | None:
    """The fault of a value where values of `kinds` are wanted; none where pydantic says it, or there is none."""
    if not kinds or value is None:
        return None
    if isinstance(value, bool):
        return None if bool in kinds else f"input should be {_wanted(kinds)}, not {_shown(value)}"
    if isinstance(value, str):
        return None if str in kinds else f"input should be {_wanted(kinds)}"
    if not isinstance(value, int | float):
        return None
    if not kinds & {int, float}:
        return f"input should be {_wanted(kinds)}" if bool in kinds else None
    if float not in kinds and isinstance(value, float) and abs(value) >= EXACT:
        return "input should be a valid integer, in decimal, without a point or an exponent"
    usual = MOST if float in kinds else MOST_OF.get(key.partition(".")[0], MOST_WHOLE)
    most = MOST_OF.get(key.rpartition(".")[2], usual)
    if bounded and math.isfinite(value) and abs(value) > most:
        return f"beyond all sense; write a number of at most {most:g}"
    return None


def _wanted(kinds: frozenset[type]) -> str:
    if kinds & {int, float}:
        return "a valid number, such as 0.5" if float in kinds else "a valid integer, in decimal, such as 20"
    return "true or false" if bool in kinds else "a word"


def _shown(value: Any) -> str:
    """A value as it is written after `--set`."""
    return next((word for word, constant in CONSTANTS.items() if constant is value), str(value))


def written(value: Any) -> str:
    """A value as `parse` reads it again: `[1, 2.5, null, "two words"]`."""
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(written, value))}]"
    return json.dumps(value, ensure_ascii=False)


def _scalars(annotations: Iterable[Any]) -> frozenset[type]:
    """The kinds of single values, of `bool`, `int`, `float` and `str`, that annotations take."""
    kinds: set[type] = set()
    for annotation in annotations:
        origin, parts = get_origin(annotation), get_args(annotation)
        if origin is Annotated:
            kinds |= _scalars(parts[:1])
        elif origin in (Union, UnionType):
            kinds |= _scalars(parts)
        elif origin is Literal:
            kinds |= {type(part) for part in parts}
        elif isinstance(annotation, type):
            kinds |= {next((kind for kind in (bool, int, float, str) if issubclass(annotation, kind)), object)}
    return frozenset(kinds & {bool, int, float, str})


def _items(annotation: Any) -> list[Any]:
    """The annotations of the items of a tuple or list, and of those of lists in it."""
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _items(parts[0])
    if origin in (Union, UnionType):
        return [item for part in parts for item in _items(part)]
    if origin in (tuple, list):
        return [found for part in parts if part is not Ellipsis for found in (_items(part) or [part])]
    return []


def _has_upper_bound(annotation: Any) -> bool:
    """Whether the setting itself says how large it may be."""
    if get_origin(annotation) is not Annotated:
        return False
    marks = [mark for part in get_args(annotation)[1:] for mark in getattr(part, "metadata", [part])]
    return any(getattr(mark, name, None) is not None for mark in marks for name in ("le", "lt"))


def _is_entry(kind: type[BaseModel], key: str) -> bool:
    """Whether a known dotted key names an entry of a dictionary, which null leaves out, and no field."""
    places: list[Any] = [kind]
    *parents, _ = key.split(".")
    for parent in parents:
        places = _below(places, parent)
    return any(name is None for place in places for name, _ in _children(place))


def combine(*layers: Settings) -> dict[str, Any]:
    """Settings of later layers over earlier ones. A new `kind`, and null, clear earlier settings below the same key."""
    combined: dict[str, Any] = {}
    for layer in layers:
        cleared = tuple(f"{key}." for key, value in layer.items() if value is None)
        kept = {k: v for k, v in combined.items() if not k.startswith(cleared)}
        combined = {k: v for k, v in kept.items() if v is not None or not _any_below(k, layer)}
        for key in (key for key in layer if key.endswith(".kind")):
            prefix = key.removesuffix("kind")
            if combined.get(key, layer[key]) != layer[key]:
                combined = {k: v for k, v in combined.items() if not k.startswith(prefix)}
        combined.update(layer)
    return combined


def _any_below(key: str, settings: Settings) -> bool:
    return any(other.startswith(f"{key}.") for other in settings)


@cache  # the cells of a sweep have the same keys
def check_key(kind: type[BaseModel], key: str, prefix: str = "") -> None:
    """Refuse a dotted key that no configuration of class `kind` has, with the nearest one that exists.

    `prefix` stands before the key in messages.
    """
    places: list[Any] = [kind]
    path: list[str] = []
    for part in key.split("."):
        names = [child for place in places for child in _children(place)]
        if not names:
            raise UserError(f"setting {prefix}{key}: {'.'.join(path)} is a single value, it has no {part!r}")
        children = _below(places, part)
        if not children:
            known_names = [name for name, _ in names if name]
            near = difflib.get_close_matches(part, known_names, n=1, cutoff=0.5)
            better = ".".join([*path, near[0] if near else "…"])
            hint = (
                f"did you mean {better}?"
                if near
                else f"{'.'.join(path) or 'there'} has {', '.join(sorted(set(known_names)))}"
            )
            raise UserError(f"setting {prefix}{key}: there is no such setting; {hint}")
        path.append(part)
        places = children


def _below(places: Iterable[Any], part: str) -> list[Any]:
    """The annotations that `part` leads to from any of `places`."""
    return [child for place in places for name, child in _children(place) if name in (part, None)]


def _children(annotation: Any) -> list[tuple[str | None, Any]]:
    """Names and annotations below an annotation; the name is `None` where any name is allowed, as in a dictionary."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return _children(get_args(annotation)[0])
    if origin in (Union, UnionType):
        return [child for option in get_args(annotation) if option is not NoneType for child in _children(option)]
    if origin is dict:
        return [(None, get_args(annotation)[1])]
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [(name, field.rebuild_annotation()) for name, field in annotation.model_fields.items()]
    return []


def _nested(settings: Settings) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for key, value in settings.items():
        *parents, last = key.split(".")
        place = tree
        for parent in parents:
            place = place.setdefault(parent, {})
            if not isinstance(place, dict):
                raise UserError(f"setting {key}: {parent} was set to a single value before")
        place[last] = value
    return tree


def _merge(default: Any, over: Any) -> Any:
    if not (isinstance(default, dict) and isinstance(over, dict)):
        return over
    if "kind" in over and over["kind"] != default.get("kind", over["kind"]):
        return over
    return default | {key: _merge(default.get(key), value) for key, value in over.items()}


def _explain(kind: type[BaseModel], error: ValidationError, settings: Settings, prefix: str) -> str:
    fault = error.errors()[0]
    key = _dotted(kind, [str(part) for part in fault["loc"]])
    value = f"={settings[key]}" if key in settings else ""
    message = fault["msg"].removeprefix("Value error, ")
    return f"setting {prefix}{key}{value}: {message[0].lower()}{message[1:]}"


def _dotted(annotation: Any, location: list[str]) -> str:
    """A pydantic location as a dotted key: without the names of unions' branches, which pydantic puts in between."""
    key, place = [], annotation
    for part in location:
        options = _options(place)
        if len(options) > 1:
            place = next((option for option in options if option.model_fields["kind"].default == part), place)
            continue
        key.append(part)
        place = next((child for name, child in _children(place) if name in (part, None)), None)
    return ".".join(key)


def _options(annotation: Any) -> list[type[BaseModel]]:
    """The configurations that an annotation offers a choice of."""
    if get_origin(annotation) is Annotated:
        return _options(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        bare = [get_args(option)[0] if get_origin(option) is Annotated else option for option in get_args(annotation)]
        return [option for option in bare if isinstance(option, type) and issubclass(option, BaseModel)]
    return []
