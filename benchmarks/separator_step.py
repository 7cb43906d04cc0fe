"""Step time of a TasNet with 512 latent channels against a plain Conv-TasNet, and of its variational twin against it.

Three trainings take turns in one run, so that a busy machine is busy for all of them: a Conv-TasNet as anyone would
write it (below: nn.Conv1d everywhere, torch.optim.Adam), the deterministic TasNet of the `emd` family as the loop
trains it, a pack of one, and its variational twin (Gaussian encodings, log-normal masks). All draw the same mixtures,
and rendering them counts. On a CPU it is the process's own time that counts, of one thread.

    python benchmarks/separator_step.py [--seconds 1] [--batch 1] [--rounds 7] [--device cuda --compile --bf16]
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from vaesweep.families.emd.data.pulses import PulseCondition, SplitRows
from vaesweep.families.emd.family import PulsesConfig, SeparatorCell, SeparatorFamily
from vaesweep.families.emd.models.observation import Blr, SiSdr
from vaesweep.families.emd.models.separator import SeparatorConfig
from vaesweep.families.emd.models.tasnet import TasNetConfig
from vaesweep.rates import TargetRate
from vaesweep.training.batch_order import NOISE, BatchOrder, generator
from vaesweep.training.config import TrainingConfig
from vaesweep.training.loop import RunningPack, start_state
from vaesweep.training.problem import Problem
from vaesweep.training.world import World

K, BOTTLENECK, HIDDEN, SKIP, BLOCKS, REPEATS, SPEAKERS = 512, 128, 512, 128, 8, 3, 2
TARGETS = {"TasNet against plain": 1.10, "variational twin against TasNet": 1.25}
Step = Callable[[int], object]


class PlainBlock(nn.Module):
    """A block of Conv-TasNet's temporal convolutional network."""

    def __init__(self, dilation: int) -> None:
        super().__init__()
        self.inside = nn.Sequential(
            nn.Conv1d(BOTTLENECK, HIDDEN, 1),
            nn.PReLU(),
            nn.GroupNorm(1, HIDDEN, eps=1e-8),
            nn.Conv1d(HIDDEN, HIDDEN, 3, padding=dilation, dilation=dilation, groups=HIDDEN),
            nn.PReLU(),
            nn.GroupNorm(1, HIDDEN, eps=1e-8),
        )
        self.residual, self.skip = nn.Conv1d(HIDDEN, BOTTLENECK, 1), nn.Conv1d(HIDDEN, SKIP, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """What is added to `x`, and what is skipped to the end."""
        inside = self.inside(x)
        return self.residual(inside), self.skip(inside)


class PlainConvTasNet(nn.Module):
    """Conv-TasNet: `[batch, time]` to `[batch, speaker, time]`."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Conv1d(1, K, 16, stride=8, padding=4, bias=False)
        self.norm, self.bottleneck = nn.GroupNorm(1, K, eps=1e-8), nn.Conv1d(K, BOTTLENECK, 1)
        self.blocks = nn.ModuleList(PlainBlock(2**number) for _ in range(REPEATS) for number in range(BLOCKS))
        self.masks = nn.Sequential(nn.PReLU(), nn.Conv1d(SKIP, SPEAKERS * K, 1), nn.ReLU())
        self.decoder = nn.ConvTranspose1d(K, 1, 16, stride=8, padding=4, bias=False)

    def forward(self, mixture: Tensor) -> Tensor:
        """The estimates."""
        encoding = self.encoder(mixture.unsqueeze(1))
        x, total = self.bottleneck(self.norm(encoding)), torch.zeros(())
        for block in self.blocks:
            residual, skip = block(x)
            x, total = x + residual, total + skip
        masks = self.masks(total / len(self.blocks)).unflatten(1, (SPEAKERS, K))
        sources = self.decoder((masks * encoding.unsqueeze(1)).flatten(0, 1))
        return sources.unflatten(0, (len(mixture), SPEAKERS)).squeeze(2)


def negative_si_sdr(estimates: Tensor, sources: Tensor) -> Tensor:
    """The loss of a batch of two speakers, in the better of both orders."""

    def loss(estimates: Tensor) -> Tensor:
        gain = (estimates * sources).sum(-1, keepdim=True) / sources.square().sum(-1, keepdim=True)
        target = gain * sources
        ratio = target.square().sum(-1) / ((estimates - target).square().sum(-1) + 1e-8)
        return -10 * ratio.log10().mean(-1)

    return torch.minimum(loss(estimates), loss(estimates.flip(1))).mean()


def plain_step(problem: Problem, config: SeparatorCell, *, compiled: bool, bf16: bool) -> Step:
    """A step of the plain network on the problem's batches."""
    model = PlainConvTasNet().to(problem.device)
    print(f"{sum(p.numel() for p in model.parameters()) / 1e6:.2f} M parameters: plain Conv-TasNet")
    forward = torch.compile(model) if compiled else model
    adam = torch.optim.Adam(model.parameters(), lr=config.training.learning_rate)
    order = BatchOrder(config.seed, problem.train_rows, config.training.batch_size, problem.device)

    def step(number: int) -> None:
        batch = problem.train_batch(order.rows(number), generator(config.seed, NOISE, number, problem.device))
        with torch.autocast(problem.device.type, torch.bfloat16, enabled=bf16):
            loss = negative_si_sdr(forward(batch["mixture"]).float(), batch["sources"])
        adam.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), config.training.clip_norm)
        adam.step()

    return step


def packed_step(name: str, problem: Problem, config: SeparatorCell, *, compiled: bool, bf16: bool) -> Step:
    """A step of the loop with a pack of one."""
    state = start_state(problem, [config], [name])
    print(f"{state.flat.shape[1] / 1e6:.2f} M parameters: {name}")
    pack = RunningPack(problem, [config], state, World(), compiled=compiled)

    def step(number: int) -> None:
        with torch.autocast(problem.device.type, torch.bfloat16, enabled=bf16):
            pack.step()

    return step


def cells(options: argparse.Namespace) -> dict[str, SeparatorCell]:
    """The deterministic cell and its variational twin."""
    shared = {
        "data": PulsesConfig(
            rows=SplitRows(train=64, valid=1, test=1), condition=PulseCondition(seconds=options.seconds)
        ),
        "training": TrainingConfig(batch_size=options.batch),
    }
    size = {"latents": K, "masker": TasNetConfig()}
    deterministic = SeparatorConfig(encoding="deterministic", masks="relu", likelihood=SiSdr(), **size)
    variational = SeparatorConfig(encoding="gaussian", masks="log_normal", likelihood=Blr(), **size)
    return {
        "TasNet": SeparatorCell(model=deterministic, **shared),
        "variational twin": SeparatorCell(model=variational, rates={"total": TargetRate(target=1e4)}, **shared),
    }


def seconds_of(steps: dict[str, Step], rounds: int, count: int, clock: Callable[[], float]) -> dict[str, list[float]]:
    """Seconds of a step by its name, one number a round, in which all take turns; a round before warms up."""
    found: dict[str, list[float]] = {name: [] for name in steps}
    for turn in range(rounds + 1):
        for name, step in steps.items():
            start = clock()
            for number in range(count):
                step(turn * count + number)
            if turn:
                found[name].append((clock() - start) / count)
    return found


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=1.0, help="of a mixture")
    parser.add_argument("--batch", type=int, default=1, help="mixtures a step")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=1, help="steps of each a round")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--compile", action="store_true", help="compile all three")
    parser.add_argument("--bf16", action="store_true", help="matrix products in bfloat16, all three")
    options = parser.parse_args()
    torch.set_num_threads(1)
    device = torch.device(options.device)

    def clock() -> float:
        if device.type == "cpu":
            return time.process_time()
        torch.cuda.synchronize()
        return time.perf_counter()

    family, how = SeparatorFamily(), {"compiled": options.compile, "bf16": options.bf16}
    configs = cells(options)
    data = family.load("pulses:conditions=none", configs["TasNet"])
    problems = {name: family.problem(config, data, device) for name, config in configs.items()}
    steps = {"plain": plain_step(problems["TasNet"], configs["TasNet"], **how)}
    steps |= {name: packed_step(name, problems[name], config, **how) for name, config in configs.items()}
    took = seconds_of(steps, options.rounds, options.steps, clock)
    for name, values in took.items():
        print(f"{name:>17}: {1e3 * statistics.median(values):8.1f} ms a step, {1e3 * min(values):8.1f} at best")
    for (label, target), below, above in zip(TARGETS.items(), ("plain", "TasNet"), configs, strict=True):
        ratios = [a / b for a, b in zip(took[above], took[below], strict=True)]
        best = min(took[above]) / min(took[below])
        print(f"{label}: {statistics.median(ratios):.3f} (of the best {best:.3f}); target at most {target:.2f}")


if __name__ == "__main__":
    main()
