"""Dotted settings: `training.steps=2000` put into a configuration, typed, and refused with a suggestion if unknown."""

import difflib
import re
from collections.abc import Iterable, Mapping
from types import NoneType, UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from vaesweep.errors import UserError

ConfigT = TypeVar("ConfigT", bound=BaseModel)
Settings = Mapping[str, Any]  # by dotted key
PRETRAINING = "pretraining"  # the field of a cell that holds a cell: what is set below it stands over the cell's own
_FIRST = f"{PRETRAINING}."


class _Values(yaml.SafeLoader):
    """YAML as people write numbers: `1e-3` is one, where YAML 1.1 takes it for a word; nothing is a date."""

    yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


_EXPONENTIAL = re.compile(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)[eE][-+]?[0-9]+")
_Values.add_implicit_resolver("tag:yaml.org,2002:float", _EXPONENTIAL, list("-+.0123456789"))


def parse(words: Iterable[str]) -> dict[str, Any]:
    """`key=value` words to values: numbers, true/false, null, strings and `[lists]`, written as in YAML."""
    found: dict[str, Any] = {}
    for word in words:
        key, equals, text = word.partition("=")
        if not equals or not key.strip():
            raise UserError(f"--set {word}: write dotted.key=value, such as training.steps=2000")
        try:
            found[key.strip()] = yaml.load(text, _Values)
        except yaml.YAMLError:
            raise UserError(f"--set {word}: {text!r} is not a number, a word or a [list]") from None
    return found


def build(kind: type[ConfigT], settings: Settings) -> ConfigT:
    """The configuration of class `kind` with `settings` put in; every fault is a `UserError` that names its key.

    Where there are settings of pretraining, it is a configuration too: that with those put in over the others.
    """
    own, first = _split(settings)
    built = _build(kind, own, "")
    if not first:
        return built
    return built.model_copy(update={PRETRAINING: _build(kind, combine(own, first), _FIRST)})


def _split(settings: Settings) -> tuple[dict[str, Any], dict[str, Any]]:
    """What is set of a cell, and of its pretraining, keyed as the cell's."""
    if settings.get(PRETRAINING) is not None:
        raise UserError(f"setting {PRETRAINING}: set what is below it, such as {_FIRST}training.steps=2000, or null")
    first = {key.removeprefix(_FIRST): value for key, value in settings.items() if key.startswith(_FIRST)}
    if any(key.partition(".")[0] == PRETRAINING for key in first):
        raise UserError(f"setting {_FIRST}{PRETRAINING}: there is one pretraining, not one before another")
    return {key: value for key, value in settings.items() if not key.startswith(_FIRST)}, first


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
    *rooms, _ = key.split(".")
    for room in rooms:
        places = _below(places, room)
    return any(name is None for place in places for name, _ in _children(place))


def combine(*layers: Settings) -> dict[str, Any]:
    """Later layers over earlier ones. A new `kind` clears what earlier layers said of the old one, null of anything."""
    combined: dict[str, Any] = {}
    for layer in layers:
        cleared = tuple(f"{key}." for key, value in layer.items() if value is None)
        kept = {k: v for k, v in combined.items() if not k.startswith(cleared)}
        combined = {k: v for k, v in kept.items() if v is not None or not _any_below(k, layer)}
        for key in (key for key in layer if key.endswith(".kind")):
            room = key.removesuffix("kind")
            if combined.get(key, layer[key]) != layer[key]:
                combined = {k: v for k, v in combined.items() if not k.startswith(room)}
        combined.update(layer)
    return combined


def _any_below(key: str, settings: Settings) -> bool:
    return any(other.startswith(f"{key}.") for other in settings)


def check_key(kind: type[BaseModel], key: str, prefix: str = "") -> None:
    """Refuse a dotted key that no configuration of class `kind` has, with the nearest one that exists.

    `prefix` is what people write before it.
    """
    places: list[Any] = [kind]
    done: list[str] = []
    for part in key.split("."):
        names = [child for place in places for child in _children(place)]
        if not names:
            raise UserError(f"setting {prefix}{key}: {'.'.join(done)} is a single value, it has no {part!r}")
        found = _below(places, part)
        if not found:
            known = [name for name, _ in names if name]
            near = difflib.get_close_matches(part, known, n=1, cutoff=0.5)
            better = ".".join([*done, near[0] if near else "…"])
            hint = (
                f"did you mean {better}?"
                if near
                else f"{'.'.join(done) or 'there'} has {', '.join(sorted(set(known)))}"
            )
            raise UserError(f"setting {prefix}{key}: there is no such setting; {hint}")
        done.append(part)
        places = found


def _below(places: Iterable[Any], part: str) -> list[Any]:
    """The annotations that `part` leads to from any of `places`."""
    return [child for place in places for name, child in _children(place) if name in (part, None)]


def _children(annotation: Any) -> list[tuple[str | None, Any]]:
    """Names and annotations below an annotation; the name is `None` where any name goes, as in a dictionary."""
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
        *rooms, last = key.split(".")
        place = tree
        for room in rooms:
            place = place.setdefault(room, {})
            if not isinstance(place, dict):
                raise UserError(f"setting {key}: {room} was set to a single value before")
        place[last] = value
    return tree


def _merge(default: Any, over: Any) -> Any:
    if not (isinstance(default, dict) and isinstance(over, dict)):
        return over
    if "kind" in over and over["kind"] != default.get("kind", over["kind"]):
        return over
    return default | {key: _merge(default.get(key), value) for key, value in over.items()}


def _explain(kind: type[BaseModel], error: ValidationError, settings: Settings, prefix: str) -> str:
    first = error.errors()[0]
    key = _dotted(kind, [str(part) for part in first["loc"]])
    value = f"={settings[key]}" if key in settings else ""
    message = first["msg"].removeprefix("Value error, ")
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
        return [o for o in get_args(annotation) if isinstance(o, type) and issubclass(o, BaseModel)]
    return []
