"""Steps of a separator of voices: read ahead, read in their turn, and with nothing to read, side by side.

The three take turns in one run. `ahead` is the loop's own way: threads read the recordings of the next steps. `in turn`
reads each batch when its step comes. `nothing` trains on one batch again and again. Signals that were read are kept, as
in training; with `--cold` none is, as with a corpus much larger than the memory for it: every step then decodes and
resamples whole recordings. `waited` is the share of the time in which steps of `ahead` waited for files.

    python benchmarks/feed.py --data speech:~/LibriSpeech/train-clean-100 [--cold] [--threads 2] [--rounds 7]
"""

import argparse
import contextlib
import statistics
import time
from collections.abc import Iterator

import torch

from vaesweep.errors import UserError
from vaesweep.families.emd.data.speech import domains
from vaesweep.families.emd.data.speech.recordings import DecodeCache
from vaesweep.families.emd.presets import DETERMINISTIC, SPEECH
from vaesweep.family import family
from vaesweep.sweep.settings import build
from vaesweep.training.feed import Feed
from vaesweep.training.loop import RunningPack, start_state
from vaesweep.training.stack import Batch
from vaesweep.training.world import World

GOAL = 1.05  # a step that is read ahead over one with nothing to read
STEPS = 8  # a turn


class SameBatch(Feed):
    """The first batch at every step."""

    def batches(self, step: int, last: int) -> Iterator[Batch]:
        """The parts of the batch of step 0."""
        if not hasattr(self, "_kept"):
            self._kept = list(super().batches(0, 1))
        yield from self._kept


class InTurn(Feed):
    """Every batch is read when its step comes."""

    def batches(self, step: int, last: int) -> Iterator[Batch]:
        """The parts of the batch of `step`."""
        return super().batches(step, step + 1)


def main() -> int:
    """Print the seconds of a step of each, and their ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="speech:DIR or librimix:DIR")
    parser.add_argument("--cold", action="store_true", help="keep no signal that was read")
    parser.add_argument("--threads", type=int, default=1, help="of torch (%(default)s)")
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    emd = family("emd")
    config = build(emd.config, SPEECH | DETERMINISTIC | {"training.precision": "float32"})
    try:
        data = emd.load(options.data, config)
    except UserError as error:
        parser.error(str(error))
    if options.cold:
        rate = config.data.mixing.sample_rate  # type: ignore[attr-defined]
        uncached = DecodeCache(rate, limit_bytes=0)
        domains.signals_at = lambda rate: uncached  # type: ignore[assignment]
    problem = emd.problem(config, data, torch.device("cpu"))
    packs, seconds = {}, dict[str, list[float]]()
    with contextlib.ExitStack() as stack:
        for name, kind in {"ahead": Feed, "in turn": InTurn, "nothing": SameBatch}.items():
            pack = RunningPack(problem, [config], start_state(problem, [config], [name]), World())
            pack.feed = stack.enter_context(
                contextlib.closing(kind(problem, pack.seeds, pack.seed_indices, config.training.batch_size, World()))
            )
            packs[name] = pack
            pack.step()
        for _ in range(options.rounds):
            for name, pack in packs.items():
                began = time.perf_counter()
                for _ in range(STEPS):
                    pack.step()
                seconds.setdefault(name, []).append((time.perf_counter() - began) / STEPS)
        waited = packs["ahead"].feed.waited / (STEPS * sum(seconds["ahead"]))
    for name, values in seconds.items():
        ratio = statistics.median(values) / statistics.median(seconds["nothing"])
        print(f"{name:8} {statistics.median(values) * 1000:6.0f} ms a step, {ratio:.3f} times as long")
    print(f"waited   {waited:.1%} of the time of `ahead`")
    ahead = statistics.median(seconds["ahead"]) / statistics.median(seconds["nothing"])
    print(f"goal: at most {GOAL}: {'met' if ahead <= GOAL else 'missed'}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
