"""Data sets that are read where they are needed: by a worker, or described by a process of its own. Knows no Ray.

driver ── family, --data, settings ──► a process that reads and ends ──► Description: names, counts, fingerprints
   └──── DataReading: the same, with the fingerprints of all domains ──► worker: reads, compares, trains
"""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from vaesweep.data.description import Description
from vaesweep.data.domains import DataSet
from vaesweep.errors import UserError
from vaesweep.family import CellConfig, family
from vaesweep.uris import masked

REMEDY = "give all nodes the same files, or leave the reading to the driver with --data-by driver"


@dataclass(frozen=True)
class DataReading:
    """A data set by its name: what a process needs to read it, and to know that it has read what the driver described.

    `config` is the configuration that says what is loaded, as JSON, `domains` are the fingerprints of all domains.
    """

    family: str
    spec: str
    config: str
    domains: tuple[tuple[str, str], ...]

    def read(self) -> DataSet:
        """The data set, which a process that asks for it again does not read again."""
        if self not in _latest:
            _latest.clear()  # before another one is read: two may be more than there is memory for
            _latest[self] = _read(self)
        return _latest[self]


_latest: dict[DataReading, DataSet] = {}  # what this process has read last


def _read(reading: DataReading) -> DataSet:
    owner, place = family(reading.family), f"--data {masked(reading.spec)} on {socket.gethostname()}"
    try:
        data = owner.load(reading.spec, owner.config.model_validate_json(reading.config))
    except UserError as error:
        raise UserError(f"{place}: {masked(str(error))}; {REMEDY}") from None
    check_unchanged(data, dict(reading.domains), place)
    return data


def check_unchanged(data: DataSet, domains: dict[str, str], place: str) -> None:
    """Refuse data that are not those of the fingerprints `domains`; `place` begins the message."""
    read = data.fingerprints()
    if differing := [name for name in {**domains, **read} if domains.get(name) != read.get(name)]:
        raise UserError(
            f"{place}: the data of {', '.join(differing)} are not those that the sweep began with; {REMEDY}"
        )


def describe(family_name: str, spec: str, configs: Sequence[CellConfig]) -> list[Description]:
    """Descriptions of what `spec` names for each of `configs`, read by a process that ends: this one stays small."""
    request = {"family": family_name, "spec": spec, "configs": [config.model_dump_json() for config in configs]}
    command = [sys.executable, "-P", "-m", __name__]
    path = os.pathsep.join(folder or os.getcwd() for folder in sys.path)  # somebody else's family may be there
    done = subprocess.run(
        command, input=json.dumps(request), stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": path}
    )
    answer = json.loads(done.stdout) if done.returncode == 0 else {}
    if "error" in answer:
        raise UserError(answer["error"])
    if "described" not in answer:
        raise UserError(
            f"--data {masked(spec)}: the process that reads it ended with code {done.returncode}, for want of memory "
            "most likely; give this machine more, or make the data smaller"
        )
    return [Description.from_json(text) for text in answer["described"]]


def main() -> int:
    """Answer a request of `describe` on standard input; what loaders print goes to standard error."""
    with os.fdopen(os.dup(1), "w") as answer:
        os.dup2(2, 1)
        request = json.loads(sys.stdin.read())
        owner = family(request["family"])
        described = []
        try:
            for config in request["configs"]:
                data = owner.load(request["spec"], owner.config.model_validate_json(config))
                described.append(Description.of(data).to_json())
                del data
        except UserError as error:
            json.dump({"error": str(error)}, answer)
            return 0
        json.dump({"described": described}, answer)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
