"""A sweep on a cluster that no one here has, simulated: packs on spot devices that come late and are taken back.

    python benchmarks/scheduler_simulation.py                              a table
    python benchmarks/scheduler_simulation.py --cells 100000 --devices 1000 --life 2 --no-split

A device trains one pack at a time. A step of a pack of k cells takes `--step` × (1 + k / `--free`) seconds: up to about
`--free` cells a pack is nearly as fast as one cell, beyond it time grows with its cells. A device that is taken back
costs the steps since the pack's last checkpoint, or since its notice, and comes back after a while. A pack that starts
pays `--start` seconds for its process, data and compilation. When the queue is empty an idle device makes the pack with
the most time left give up half of its cells, if at least `--worth` seconds are left to it, as `run_packs` does.

Told are the time of the sweep, the device-hours and where they went, and what reaches the driver at its busiest.
"""

import argparse
import heapq
import itertools
import math
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace


@dataclass(frozen=True)
class Cluster:
    """What a sweep runs on, and how. Times in seconds; `life` is a device's mean time until it is taken back."""

    devices: int = 1000
    at_start: int = 0  # devices that are there from the start
    arrival: float = 0.6  # between two devices that come
    life: float = math.inf
    returns_after: float = 300.0
    checkpoint_every: float = 30.0
    notice: bool = False  # whether a device that is taken back leaves time for a checkpoint
    start: float = 30.0
    split: bool = True
    worth: float = 120.0


@dataclass(frozen=True)
class Work:
    """Cells to train, in packs of at most `pack`; the time of a step as in the module's text."""

    cells: int = 100_000
    pack: int = 128
    steps: int = 20_000
    step: float = 0.005
    free: int = 64
    evaluations: int = 20
    metrics: int = 12  # points that a cell logs an evaluation

    def step_seconds(self, cells: int) -> float:
        return self.step * (1 + cells / self.free)


@dataclass
class Outcome:
    """What a simulated sweep came to. Device-seconds by what they were spent on."""

    seconds: float = 0.0
    trained: float = 0.0
    lost: float = 0.0
    starting: float = 0.0
    idle: float = 0.0
    losses: int = 0
    splits: int = 0
    starts: int = 0
    ended: list[float] = field(default_factory=list)  # when cells ended

    @property
    def busiest_second(self) -> float:
        """Cells that end in one second, at most, as a mean over ten."""
        counts: dict[int, int] = {}
        for moment in self.ended:
            counts[int(moment // 10)] = counts.get(int(moment // 10), 0) + 1
        return max(counts.values(), default=0) / 10


@dataclass
class _Pack:
    cells: int
    left: float  # steps
    device: int = -1
    since: float = 0.0  # when its training began or went on
    token: int = 0  # of the event that will end it


class _Simulation:
    def __init__(self, work: Work, cluster: Cluster, seed: int) -> None:
        self.work, self.cluster, self.random = work, cluster, random.Random(seed)
        self.outcome, self.now, self._tokens = Outcome(), 0.0, itertools.count(1)
        self._events: list[tuple[float, int, str, object]] = []
        packs, rest = divmod(work.cells, work.pack)
        self.queue = [_Pack(work.pack, work.steps) for _ in range(packs)] + ([_Pack(rest, work.steps)] if rest else [])
        self.running: dict[int, _Pack] = {}
        self.idle: set[int] = set()
        self.alive: dict[int, float] = {}  # devices, with the time since when they have been there
        self.gone = 0.0  # seconds for which devices that are lost were there
        self.left = work.cells

    def run(self) -> Outcome:
        for device in range(self.cluster.devices):
            self._at(max(0, device + 1 - self.cluster.at_start) * self.cluster.arrival, "come", device)
        while self.left:
            self.now, token, kind, what = heapq.heappop(self._events)
            getattr(self, f"_{kind}")(what, token)
        self.outcome.seconds = self.now
        total = sum(self.now - since for since in self.alive.values()) + self.gone
        spent = self.outcome.trained + self.outcome.lost + self.outcome.starting
        self.outcome.idle = max(0.0, total - spent)
        return self.outcome

    def _at(self, moment: float, kind: str, what: object) -> int:
        token = next(self._tokens)
        heapq.heappush(self._events, (moment, token, kind, what))
        return token

    def _come(self, device: int, _: int) -> None:
        self.alive[device] = self.now
        if math.isfinite(self.cluster.life):
            self._at(self.now + self.random.expovariate(1 / self.cluster.life), "go", device)
        self._give(device)

    def _give(self, device: int) -> None:
        """Give a device the next pack, or half of the one that has the most left to do."""
        if self.queue:
            self._begin(self.queue.pop(0), device)
            return
        self.idle.add(device)
        if self.cluster.split and (pack := self._laggard()) is not None:
            self._split(pack)

    def _laggard(self) -> _Pack | None:
        able = [pack for pack in self.running.values() if pack.cells > 1 and self.now >= pack.since]
        longest = max(able, key=self._seconds_left, default=None)
        return longest if longest is not None and self._seconds_left(longest) >= self.cluster.worth else None

    def _seconds_left(self, pack: _Pack) -> float:
        return (pack.left - self._done(pack)) * self.work.step_seconds(pack.cells)

    def _done(self, pack: _Pack) -> float:
        """Steps since the pack began or went on."""
        return max(0.0, self.now - pack.since) / self.work.step_seconds(pack.cells)

    def _split(self, pack: _Pack) -> None:
        self.outcome.splits += 1
        device = pack.device
        self._stop(pack, lost=0.0)
        half = pack.cells // 2
        self.queue.append(_Pack(half, pack.left))
        pack.cells -= half
        self._begin(pack, device)
        free = min(self.idle)
        self.idle.discard(free)
        self._begin(self.queue.pop(), free)

    def _begin(self, pack: _Pack, device: int) -> None:
        self.outcome.starts += 1
        pack.device, pack.since = device, self.now + self.cluster.start
        self.running[device] = pack
        pack.token = self._at(pack.since + pack.left * self.work.step_seconds(pack.cells), "end", pack)

    def _stop(self, pack: _Pack, lost: float) -> None:
        """Take a pack off its device; `lost` seconds of its training are lost."""
        del self.running[pack.device]
        started = min(self.cluster.start, self.now - pack.since + self.cluster.start)
        trained = max(0.0, self.now - pack.since)
        lost = min(lost, trained)
        pack.left -= (trained - lost) / self.work.step_seconds(pack.cells)
        pack.token = 0
        self.outcome.starting += started
        self.outcome.trained += trained - lost
        self.outcome.lost += lost

    def _end(self, pack: _Pack, token: int) -> None:
        if token != pack.token:
            return
        device = pack.device
        self._stop(pack, lost=0.0)
        self.left -= pack.cells
        self.outcome.ended += [self.now] * pack.cells
        self._give(device)

    def _go(self, device: int, _: int) -> None:
        self.outcome.losses += 1
        self.gone += self.now - self.alive.pop(device)
        self.idle.discard(device)
        self._at(self.now + self.cluster.returns_after, "come", device)
        if (pack := self.running.get(device)) is None:
            return
        since_checkpoint = max(0.0, self.now - pack.since) % self.cluster.checkpoint_every
        self._stop(pack, lost=0.0 if self.cluster.notice else since_checkpoint)
        if self.idle:
            free = min(self.idle)
            self.idle.discard(free)
            self._begin(pack, free)
        else:
            self.queue.insert(0, pack)


def simulate(work: Work, cluster: Cluster, seed: int = 0) -> Outcome:
    """One sweep of `work` on `cluster`."""
    return _Simulation(work, cluster, seed).run()


def ideal_seconds(work: Work, cluster: Cluster) -> float:
    """The time that all devices together need at least, at full packs, if none came late, was lost or stood idle."""
    return work.cells / work.pack * work.steps * work.step_seconds(work.pack) / cluster.devices


def rows(work: Work, cluster: Cluster, seeds: Iterable[int]) -> Iterator[str]:
    """Lines of a table: each way of running the sweep, with the mean over seeds."""
    yield (
        "| how | hours | over the ideal | device-hours | lost | starting | idle | taken back | splits "
        "| cells ending a second, at most |"
    )
    yield "|---|---|---|---|---|---|---|---|---|---|"
    ways = {
        "no losses, no splits": replace(cluster, life=math.inf, split=False),
        "no losses": replace(cluster, life=math.inf, split=True),
        "spot, no splits": replace(cluster, split=False),
        "spot": replace(cluster, split=True),
        "spot, notice": replace(cluster, split=True, notice=True),
        "spot, checkpoints every 10 min": replace(cluster, split=True, checkpoint_every=600.0),
        "spot that lasts a fifth as long": replace(cluster, split=True, life=cluster.life / 5),
    }
    ideal = ideal_seconds(work, cluster)
    for name, one in ways.items():
        outcomes = [simulate(work, one, seed) for seed in seeds]

        def mean(values: Iterable[float], count: int = len(outcomes)) -> float:
            return sum(values) / count

        hours = mean(o.trained + o.lost + o.starting + o.idle for o in outcomes) / 3600
        parts = [mean(getattr(o, part) for o in outcomes) / 3600 / hours for part in ("lost", "starting", "idle")]
        yield (
            f"| {name} | {mean(o.seconds for o in outcomes) / 3600:.2f} "
            f"| {mean(o.seconds for o in outcomes) / ideal:.2f} | {hours:.0f} "
            f"| {' | '.join(f'{part:.1%}' for part in parts)} | {mean(o.losses for o in outcomes):.0f} "
            f"| {mean(o.splits for o in outcomes):.0f} | {max(o.busiest_second for o in outcomes):.0f} |"
        )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    work, cluster = Work(), Cluster()
    add("--cells", type=int, default=work.cells)
    add("--pack", type=int, default=work.pack, help="cells of a pack at first (%(default)s)")
    add("--steps", type=int, default=work.steps)
    add("--step", type=float, default=work.step, help="seconds of a step of one cell (%(default)s)")
    add("--free", type=int, default=work.free, help="cells that train as fast as two do (%(default)s)")
    add("--devices", type=int, default=cluster.devices)
    add("--arrival", type=float, default=cluster.arrival, help="seconds between devices that come (%(default)s)")
    add("--life", type=float, default=4.0, help="mean hours until a spot device is taken back (%(default)s)")
    add("--start", type=float, default=cluster.start, help="seconds that a pack's start takes (%(default)s)")
    add("--seeds", type=int, default=3)
    given = parser.parse_args()
    work = replace(work, **{name: getattr(given, name) for name in ("cells", "pack", "steps", "step", "free")})
    cluster = replace(cluster, devices=given.devices, arrival=given.arrival, life=3600 * given.life, start=given.start)
    print(f"ideal: {ideal_seconds(work, cluster) / 3600:.2f} hours on {cluster.devices} devices")
    for line in rows(work, cluster, range(given.seeds)):
        print(line)


if __name__ == "__main__":
    main()
