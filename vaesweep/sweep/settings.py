"""Dotted settings such as `training.steps=2000`: typed, put into a configuration, refused with a hint if unknown."""

import difflib
import re
from collections.abc import Iterable, Mapping
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from vaesweep.errors import UserError

ConfigT = TypeVar("ConfigT", bound=BaseModel)
Settings = Mapping[str, Any]  # by dotted key
PRETRAINING = "pretraining"  # the field of a cell that holds a cell: settings below it override the cell's own
_PREFIX = f"{PRETRAINING}."


class _Loader(yaml.SafeLoader):
    """YAML loader that reads `1e-3` as a number, which YAML 1.1 reads as a string, and no value as a date."""

    yaml_implicit_resolvers = {
        character: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
        for character, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


_EXPONENTIAL = re.compile(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)[eE][-+]?[0-9]+")
_Loader.add_implicit_resolver("tag:yaml.org,2002:float", _EXPONENTIAL, list("-+.0123456789"))


def parse(words: Iterable[str]) -> dict[str, Any]:
    """Values by key from `key=value` words: numbers, true/false, null, strings and `[lists]`, written as in YAML."""
    values: dict[str, Any] = {}
    for word in words:
        key, equals, text = word.partition("=")
        if not equals or not key.strip():
            raise UserError(f"--set {word}: write dotted.key=value, such as training.steps=2000")
        try:
            values[key.strip()] = yaml.load(text, _Loader)
        except yaml.YAMLError:
            raise UserError(f"--set {word}: {text!r} is not a number, a word or a [list]") from None
    return values


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
    kept = {key: value for key, value in settings.items() if value is not None or not _is_entry(kind, key)}
    try:
        return kind.model_validate(_merge(kind().model_dump(), _nested(kept)))
    except ValidationError as error:
        raise UserError(_explain(kind, error, settings, prefix)) from None


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
