"""Files that prove themselves: safetensors with JSON about them and a digest over all of it, read by parsing only.

    header  {"vaesweep": JSON about the file, with its format, its name and its digest}, tensors

The digest is over the rest of the JSON and over every tensor's name, type, shape and bytes, so that a changed bit of a
weight or a changed digit of a metric is noticed. What a file says of its name is compared to the name that it was found
under.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import safetensors.numpy
import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from vaesweep.errors import UserError

ABOUT, DIGEST = "vaesweep", "digest"  # keys of the header's metadata, and of the JSON there
LARGEST_HEADER = 1 << 26  # bytes; a damaged length asks for more
UNSEALED = 1  # the format of release 0.1, which had no digest
UNREADABLE = (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError, SafetensorError)


class DamagedFile(UserError):
    """A file that is not what it should be: cut short, changed, or under another name than its own."""


class NewerFile(UserError):
    """A file that a newer version of vaesweep has written, which this one cannot read; `about` is what it says."""

    def __init__(self, message: str, about: Mapping[str, Any]) -> None:
        super().__init__(message)
        self.about = about


def seal(about: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> bytes:
    """The content of a file; `about` has its `format`, a number."""
    kept = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    told = {ABOUT: json.dumps({**about, DIGEST: digest(about, kept)})}
    if any(value.dtype is torch.bfloat16 for value in kept.values()):  # which NumPy does not have
        return bytes(safetensors.torch.save(kept, told))
    arrays = {name: value.numpy() for name, value in kept.items()}  # of which a file is made in a sixth of the time
    return bytes(safetensors.numpy.save(arrays, told))


def unseal(data: bytes, where: str, formats: Sequence[int]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """What a file says of itself, and its tensors; `where` names it in errors.

    Raises `DamagedFile` where content and digest differ, or where it is no such file, and `NewerFile` where its format
    is beyond `formats`. Files of formats that had no digest are read without that check.
    """
    try:
        about = header(data, where, formats)
    except NewerFile as error:
        if _is_renumbered(data, error.about, formats):
            raise _damaged(where) from None
        raise
    written = about.pop(DIGEST, None)
    try:
        tensors = safetensors.torch.load(data)
    except UNREADABLE as error:
        raise _damaged(where) from error
    if written is not None and written != digest(about, tensors):
        raise DamagedFile(f"{where} is damaged: its content is not what was written")
    return about, tensors


def header(data: bytes, where: str, formats: Sequence[int]) -> dict[str, Any]:
    """What a file says of itself; `data` need hold no more than the header, and no digest is looked at.

    Raises `DamagedFile` and `NewerFile` as `unseal` does.
    """
    try:
        about = dict(json.loads(_metadata(data)[ABOUT]))
        number = about["format"]
        if not isinstance(number, int) or (number != UNSEALED and DIGEST not in about):
            raise ValueError("no digest")
    except UNREADABLE as error:
        raise _damaged(where) from error
    if number > max(formats):
        reads = f"this vaesweep reads up to {max(formats)}: use the version that wrote it"
        raise NewerFile(f"{where} has format {number}, {reads}", about)
    if number not in formats:
        raise _damaged(where)
    return about


def digest(about: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str:
    """The SHA-256 of what a file says of itself and of every tensor's name, type, shape and bytes, in hex digits."""
    hashed = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
    for name in sorted(tensors):
        value = tensors[name]
        hashed.update(f"\0{name}\0{value.dtype}\0{tuple(value.shape)}\0".encode())
        hashed.update(value.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return hashed.hexdigest()


def _is_renumbered(data: bytes, about: Mapping[str, Any], formats: Sequence[int]) -> bool:
    """Whether a file that seems newer is one of these formats, of which only the number has been damaged."""
    rest = {name: value for name, value in about.items() if name != DIGEST}
    try:
        tensors = safetensors.torch.load(data)
        return about.get(DIGEST) in {digest({**rest, "format": number}, tensors) for number in formats}
    except UNREADABLE:
        return True  # whatever wrote it, it is cut short or changed


def _metadata(data: bytes) -> dict[str, str]:
    length = int.from_bytes(data[:8], "little")
    if length > LARGEST_HEADER:
        raise ValueError("no header")
    return dict(json.loads(data[8 : 8 + length])["__metadata__"])


def _damaged(where: str) -> DamagedFile:
    return DamagedFile(f"{where} is not a file of vaesweep, or is damaged")
