"""Identities of cells: digests of what training depends on, so that what has been trained stays trained.

A cell's identity is sixteen hex digits of its family, its training and validation data, and the settings that differ
from their defaults, less those that only say how trained models are evaluated (`Family.evaluation_settings`). Where
these differ from their defaults too, eight more digits follow: `1f0c…-9a4e21b7`. So another population, a further
evaluation or a release with one more setting leaves cells what they are, and cells that differ in their evaluation
share their training.

Release 0.1 had other rules, by which its cells are still found: all settings, and the data of all domains.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from vaesweep.packing import since

if TYPE_CHECKING:
    from vaesweep.family import CellConfig, Family

RULES = 2  # one more where a default changes its value, or where what is digested does
DIGITS, EVALUATION_DIGITS = 16, 8
SEPARATOR = "-"
PRETRAINING = "pretraining"


def digest(value: Any, digits: int = DIGITS) -> str:
    """Hex digits of a JSON value's canonical form."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:digits]


def identity(owner: "Family", config: "CellConfig", data: str) -> str:
    """The identity of a cell; `data` is the fingerprint of its training and validation domains."""
    settings = differing(config)
    evaluation = _take(settings, owner.evaluation_settings)
    if isinstance(settings.get(PRETRAINING), dict):
        _take(settings[PRETRAINING], owner.evaluation_settings)
    about = {"rules": RULES, "family": owner.name, "data": data, "settings": settings}
    if (revision := owner.revision(config)) > 1:
        about["revision"] = revision
    training = digest(about)
    return f"{training}{SEPARATOR}{digest(evaluation, EVALUATION_DIGITS)}" if evaluation else training


def training_part(identity: str) -> str:
    """The part of an identity that cells of one training share."""
    return identity.partition(SEPARATOR)[0]


def identities_of_0_1(owner: "Family", config: "CellConfig", fingerprints: Iterable[str]) -> Iterator[str]:
    """Identities that release 0.1 may have given a cell, of the `DataSet.fingerprints_of_0_1` of its data.

    None where a setting is used that release 0.1 did not have, or a model that was another one there.
    """
    settings = settings_of_0_1(config) if owner.revision(config) == 1 else None
    if settings is not None:
        for fingerprint in fingerprints:
            yield digest({"family": owner.name, "data": fingerprint, "config": settings})


def differing(config: BaseModel) -> dict[str, Any]:
    """Settings that differ from their defaults, as nested JSON values; a `kind` always, since others hang on it.

    But for a `kind` that came with a later release, which is the only one that there was before.
    """
    values = config.model_dump(mode="json")
    return {
        name: _plain(getattr(config, name), values[name])
        for name, field in type(config).model_fields.items()
        if (name == "kind" and since(field) is None)
        or getattr(config, name) != field.get_default(call_default_factory=True)
    }


def settings_of_0_1(config: BaseModel) -> dict[str, Any] | None:
    """All settings as JSON values, as release 0.1 had them; None where one is used that it did not have."""
    values = config.model_dump(mode="json")
    settings: dict[str, Any] = {}
    for name, field in type(config).model_fields.items():
        value = getattr(config, name)
        if since(field) is not None:
            if value != field.get_default(call_default_factory=True):
                return None
            continue
        if name == PRETRAINING and value is None:
            continue
        settings[name] = _plain_of_0_1(value, values[name])
        if settings[name] is _UNKNOWN:
            return None
    return settings


_UNKNOWN: Any = object()


def _plain(value: Any, json_value: Any) -> Any:
    if isinstance(value, BaseModel):
        return differing(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(one, json_value[str(key)]) for key, one in value.items()}
    return json_value


def _plain_of_0_1(value: Any, json_value: Any) -> Any:
    if isinstance(value, BaseModel):
        settings = settings_of_0_1(value)
        return _UNKNOWN if settings is None else settings
    if isinstance(value, Mapping):
        entries = {str(key): _plain_of_0_1(one, json_value[str(key)]) for key, one in value.items()}
        return _UNKNOWN if any(entry is _UNKNOWN for entry in entries.values()) else entries
    return json_value


def _take(settings: dict[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """Take the settings called by dotted `names` out of nested `settings`; those that were there, by dotted name."""
    values = {name: _pop(settings, name.split(".")) for name in names}
    return {name: value for name, value in values.items() if value is not _UNKNOWN}


def _pop(settings: dict[str, Any], path: list[str]) -> Any:
    """Take one setting out, and what is left empty by that."""
    key, *rest = path
    below = settings.get(key)
    if not rest:
        return settings.pop(key, _UNKNOWN)
    if not isinstance(below, dict):
        return _UNKNOWN
    value = _pop(below, rest)
    if not below:
        settings.pop(key)
    return value
