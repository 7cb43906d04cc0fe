"""The data set of images that a user names with `--data`."""

from collections.abc import Callable, Mapping
from pathlib import Path

from vaesweep.data.domains import DataSet
from vaesweep.data.door import guarded
from vaesweep.data.spelling import did_you_mean, existing
from vaesweep.errors import UserError
from vaesweep.families.hvae.data import folder, mnist, poisson
from vaesweep.families.hvae.data.config import ImagesConfig

FOLDERS: Mapping[str, Callable[[Path, ImagesConfig], DataSet]] = {
    mnist.KIND: mnist.load,
    mnist.BINARISED: mnist.load_binarised,
    "folder": folder.load,
}
FORMS = (
    f"poisson or poisson:unseen=A+B, with {' and '.join(poisson.SHIFTS)} to choose from, or "
    f"{', '.join(f'{kind}:DIR' for kind in FOLDERS)}"
)


@guarded
def load(spec: str, config: ImagesConfig) -> DataSet:
    """The images that `spec` names, such as `poisson:unseen=noise_2` or `mnist:~/mnist`.

    Each domain holds `images` `[row, 1, size, size]`, uint8 or float32, and `indices` `[row]`, int64, and its condition
    is an `ImageCondition`. Every fault of the specification or of a file is a `UserError`.
    """
    kind, colon, rest = spec.strip().partition(":")
    if kind == poisson.KIND:
        return poisson.load(_shifts(spec, rest) if colon else (), config)
    if kind not in FOLDERS:
        raise UserError(
            f"--data {spec}: unknown kind {kind!r}{did_you_mean(kind, (poisson.KIND, *FOLDERS))}; use {FORMS}"
        )
    if not rest:
        raise UserError(f"--data {spec}: a folder is needed; write {kind}:DIR")
    path = existing(rest)
    if not path.is_dir():
        raise UserError(f"--data {spec}: {path} is a file; give the folder that it is in")
    return FOLDERS[kind](path, config)


def _shifts(spec: str, option: str) -> tuple[str, ...]:
    key, _, value = option.partition("=")
    if key != "unseen":
        raise UserError(f"--data {spec}: unknown option {key!r}{did_you_mean(key, ['unseen'])}; use {FORMS}")
    names = tuple(value.split("+"))
    for name in names:
        if name not in poisson.SHIFTS:
            hint = did_you_mean(name, poisson.SHIFTS) or f"; there are {', '.join(poisson.SHIFTS)}"
            raise UserError(f"--data {spec}: unknown domain {name!r}{hint}")
    if len(set(names)) != len(names):
        raise UserError(f"--data {spec}: a domain is named twice; name each once")
    return names
