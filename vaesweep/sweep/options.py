"""The options of a command that runs cells."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from vaesweep.errors import UserError
from vaesweep.training.compiling import Compile

MOST = 10**6  # packs, workers, GPUs: no cluster has more
DataBy = Literal["auto", "driver", "workers"]  # who reads data


@dataclass(frozen=True)
class Options:
    """The user's options, by the names of the command line."""

    preset: str
    data: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    out: Path = Path("results")
    storage: str = ""
    address: str | None = None
    pack_size: int | None = None
    workers: int = 1
    gpus: float = 0.0
    scale_to: int | None = None
    checkpoint_seconds: float = 30.0
    compiling: Compile = "auto"
    data_by: DataBy = "auto"
    price: float | None = None  # of a GPU-hour with `gpus`, else of a core-hour
    command: str = ""


def check_counts(options: Options) -> None:
    """Refuse counts and seconds that are out of range."""
    counts = {"--pack-size": options.pack_size, "--workers": options.workers, "--scale-to": options.scale_to}
    for name, value in counts.items():
        if value is not None and value < 1:
            raise UserError(f"{name} {value}: must be at least 1")
        if value is not None and value > MOST:
            raise UserError(f"{name} {value}: must be at most {MOST}")
    if not 0 <= options.checkpoint_seconds < math.inf:
        raise UserError(f"--checkpoint-every {options.checkpoint_seconds:g}: must be 0 seconds or more")
    if options.price is not None and not 0 < options.price < math.inf:
        raise UserError(f"--price {options.price:g}: must be more than 0, the price of one GPU-hour or core-hour")
    if not 0 <= options.gpus <= MOST or (options.gpus > 1 and options.gpus != int(options.gpus)):
        raise UserError(f"--gpus {options.gpus:g}: a pack takes a fraction of one GPU, or a whole number of them")
