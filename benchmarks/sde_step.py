"""Time of a training step through a latent SDE with its path rate: the room `sde` against torchsde, and its memory.

All variants take turns in one run, so that a busy machine is busy for all of them, with the same convolutional drifts
(1x1, 3x3, 3x3, 1x1, GELU between), solver, steps and state; a step is forward and backward of state and path rate. On
a CPU it is the process's own time that counts, of one thread.

    torchsde         `sdeint(logqp=True)`: prior's and posterior's drift one after the other
    ours             the same networks called the same way
    context once     what the posterior's first convolution makes of its context once a solve, not once a step
    joint            that, and both drifts, the same functions, as one network of grouped convolutions
    channels last    that, in the memory format that spares the convolutions reordering
    recomputed       that, the activations of four steps at a time recomputed in the backward pass

What can be saved is what is not arithmetic of the networks: much of a step with 16 hidden channels, little with 128,
where the convolutions alone, near the peak of a core, are nine tenths of our own time.

    python benchmarks/sde_step.py [--hidden 16 128] [--steps 16] [--rounds 15]
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
import torchsde
from torch import Tensor, nn

from vaesweep.sde import SOLVERS, Drifts, Tensors, increments, posterior_sde, solve

LATENT = (4, 8, 8)  # channels, height, width
METHODS = {  # of torchsde, and the calculus that each solves
    "euler_maruyama": ("euler", "ito"),
    "euler_heun": ("euler_heun", "stratonovich"),
    "reversible_heun": ("reversible_heun", "stratonovich"),
}
TARGET = 0.5
Step = Callable[[], Tensor]


class Networks(nn.Module):
    """Parameters of both drifts, a context and a diffusion; the posterior's input is state, depth, context."""

    def __init__(self, hidden: int, batch: int) -> None:
        super().__init__()
        channels, *space = LATENT
        self.prior, self.posterior = _drift(channels + 1, hidden), _drift(channels + 1 + hidden, hidden)
        self.log_sigma = nn.Parameter(torch.tensor(-0.5))
        self.context = nn.Parameter(torch.randn(batch, hidden, *space))

    def apart(self) -> Tensors:
        """Parameters of the prior's network, of the posterior's, and the context."""
        return *self.prior.parameters(), *self.posterior.parameters(), self.context

    def context_once(self) -> Tensors:
        """The same with what the posterior's first convolution makes of the context."""
        weight, bias, *posterior = self.posterior.parameters()
        seen = LATENT[0] + 1
        of_context = F.conv2d(self.context, weight[:, seen:], bias)
        return *self.prior.parameters(), weight[:, :seen], torch.zeros_like(bias), *posterior, of_context

    def joint(self) -> Tensors:
        """Parameters of both as one network: first convolution of state, of depth, the rest of it, later layers."""
        *parameters, of_context = self.context_once()
        half, channels = len(parameters) // 2, LATENT[0]
        first, bias, *rest = (torch.cat(pair) for pair in zip(parameters[:half], parameters[half:], strict=True))
        constant = bias[:, None, None] + F.pad(of_context, (0, 0, 0, 0, of_context.shape[1], 0))
        return first[:, :channels], first[:, channels].flatten(), constant, *rest

    def channels_last(self) -> Tensors:
        """`joint` in that memory format."""
        return tuple(x.contiguous(memory_format=torch.channels_last) if x.dim() == 4 else x for x in self.joint())


def _drift(inputs: int, hidden: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, hidden, 1),
        nn.GELU(),
        nn.Conv2d(hidden, hidden, 3, padding=1),
        nn.GELU(),
        nn.Conv2d(hidden, hidden, 3, padding=1),
        nn.GELU(),
        nn.Conv2d(hidden, LATENT[0], 1),
    )


def _layers(x: Tensor, parameters: Tensors, groups: int = 1) -> Tensor:
    """GELU and convolution in turn; `parameters` are weight, bias, weight, bias …"""
    for weight, bias in zip(parameters[::2], parameters[1::2], strict=True):
        x = F.conv2d(F.gelu(x), weight, bias, padding=weight.shape[-1] // 2, groups=groups)
    return x


def drifts_apart(tensors: Tensors, s: float, z: Tensor) -> tuple[Tensor, Tensor]:
    """One network after the other, state, depth and context as channels."""
    *parameters, context = tensors
    depth, half = torch.full_like(z[:, :1], s), len(parameters) // 2
    prior, posterior = tuple(parameters[:half]), tuple(parameters[half:])
    first_p, first_q = torch.cat([z, depth], dim=1), torch.cat([z, depth, context], dim=1)
    return _layers(F.conv2d(first_p, *prior[:2]), prior[2:]), _layers(F.conv2d(first_q, *posterior[:2]), posterior[2:])


def drifts_context_once(tensors: Tensors, s: float, z: Tensor) -> tuple[Tensor, Tensor]:
    """One network after the other, the context's part of the posterior's first convolution given."""
    *parameters, of_context = tensors
    seen, half = torch.cat([z, torch.full_like(z[:, :1], s)], dim=1), len(parameters) // 2
    prior, posterior = tuple(parameters[:half]), tuple(parameters[half:])
    first_q = F.conv2d(seen, *posterior[:2]) + of_context
    return _layers(F.conv2d(seen, *prior[:2]), prior[2:]), _layers(first_q, posterior[2:])


def drifts_joint(tensors: Tensors, s: float, z: Tensor) -> tuple[Tensor, Tensor]:
    """Both networks as two groups of one."""
    of_state, of_depth, constant, *rest = tensors
    first = F.conv2d(z, of_state, s * of_depth) + constant
    prior, posterior = _layers(first, tuple(rest), groups=2).chunk(2, dim=1)
    return prior, posterior


def drawn(*shape: int, last: bool) -> Tensor:
    """Standard normal noise `[..., *LATENT]`, channels last in memory if asked for."""
    channels, *space = LATENT
    return torch.randn(*shape, *space, channels).movedim(-1, -3) if last else torch.randn(*shape, *LATENT)


def our_step(
    networks: Networks, tensors: Callable[[], Tensors], drifts: Drifts, solver: str, steps: int, segment: int | None
) -> Step:
    """Forward of ours; `tensors` are made anew every step, since parameters move."""
    last = tensors == networks.channels_last
    start = drawn(len(networks.context), last=last)

    def step() -> Tensor:
        path = increments(drawn(len(start), steps, last=last))
        solution = solve(
            SOLVERS[solver], posterior_sde(drifts, tensors(), networks.log_sigma), start, path, segment=segment
        )
        assert solution.running is not None
        return solution.state.square().sum() + solution.running.sum()

    return step


def our_variants(networks: Networks, solver: str, steps: int) -> dict[str, Step]:
    """Ways to give ours the same functions."""
    ways: dict[str, tuple[Callable[[], Tensors], Drifts, int | None]] = {
        "ours": (networks.apart, drifts_apart, None),
        "context once": (networks.context_once, drifts_context_once, None),
        "joint": (networks.joint, drifts_joint, None),
        "channels last": (networks.channels_last, drifts_joint, None),
        "recomputed": (networks.channels_last, drifts_joint, 4),
    }
    return {
        name: our_step(networks, tensors, drifts, solver, steps, segment)
        for name, (tensors, drifts, segment) in ways.items()
    }


class Torchsde(nn.Module):
    """The same latent SDE as torchsde takes it: flat states, posterior drift f, prior drift h, diffusion g."""

    noise_type = "diagonal"

    def __init__(self, networks: Networks, calculus: str) -> None:
        super().__init__()
        self.networks, self.sde_type = networks, calculus

    def f(self, s: Tensor, y: Tensor) -> Tensor:
        """The posterior's drift."""
        z = y.unflatten(1, LATENT)
        depth = s.expand(len(z), 1, *LATENT[1:])
        return self.networks.posterior(torch.cat([z, depth, self.networks.context], dim=1)).flatten(1)

    def h(self, s: Tensor, y: Tensor) -> Tensor:
        """The prior's drift."""
        z = y.unflatten(1, LATENT)
        return self.networks.prior(torch.cat([z, s.expand(len(z), 1, *LATENT[1:])], dim=1)).flatten(1)

    def g(self, s: Tensor, y: Tensor) -> Tensor:
        """The diffusion."""
        return self.networks.log_sigma.exp().expand_as(y)


def torchsde_step(networks: Networks, solver: str, steps: int) -> Step:
    """Forward of torchsde's: a loss of state and path rate."""
    method, calculus = METHODS[solver]
    sde, start = Torchsde(networks, calculus), torch.randn(len(networks.context), *LATENT).flatten(1)
    depths = torch.tensor([0.0, 1.0])

    def step() -> Tensor:
        states, rate = torchsde.sdeint(sde, start, depths, method=method, dt=1 / steps, logqp=True)
        return states[-1].square().sum() + rate.sum()

    return step


def seconds_of(steps: dict[str, Step], parameters: list[nn.Parameter], rounds: int) -> dict[str, list[float]]:
    """Seconds of a step by its name, one number a round, in which all take turns; two rounds before warm up."""
    found: dict[str, list[float]] = {name: [] for name in steps}
    for turn in range(rounds + 2):
        for name, step in steps.items():
            start = time.process_time()
            torch.autograd.grad(step(), parameters)
            if turn > 1:
                found[name].append(time.process_time() - start)
    return found


def kept_numbers(step: Step) -> int:
    """How many numbers the forward pass of a step keeps for its backward pass."""
    kept: dict[int, int] = {}

    def count(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes() // tensor.element_size()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        held = step()  # alive while counted, or an address could be used twice
    del held
    return sum(kept.values())


def check_functions(networks: Networks) -> None:
    """AssertionError where the variants' drifts are not the same functions."""
    z = torch.randn(len(networks.context), *LATENT)
    expected = drifts_apart(networks.apart(), 0.3, z)
    torch.testing.assert_close(drifts_context_once(networks.context_once(), 0.3, z), expected, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(drifts_joint(networks.joint(), 0.3, z), expected, rtol=1e-3, atol=1e-4)


def print_times(networks: Networks, solver: str, steps: int, rounds: int) -> None:
    """A table of milliseconds a step and ratios to torchsde's, of the same turn each."""
    variants = {"torchsde": torchsde_step(networks, solver, steps)} | our_variants(networks, solver, steps)
    took = seconds_of(variants, list(networks.parameters()), rounds)
    for name, values in took.items():
        ratio = statistics.median(a / b for a, b in zip(values, took["torchsde"], strict=True))
        print(f"{solver:>16} {name:>14}: {1e3 * statistics.median(values):8.1f} ms, {ratio:5.2f} of torchsde's time")


def print_memory(networks: Networks, steps: int) -> None:
    """What is kept for the backward pass, in states, and how many one more step adds."""
    state = networks.context.shape[0] * torch.Size(LATENT).numel()
    for name in our_variants(networks, "euler_heun", steps):
        kept = [kept_numbers(our_variants(networks, "euler_heun", n)[name]) / state for n in (steps, 2 * steps)]
        each = (kept[1] - kept[0]) / steps
        print(f"{name:>31}: {kept[0]:7.0f} states kept at {steps} steps, {each:6.2f} more by a step more")


def main() -> None:
    """Measure and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hidden", type=int, nargs="+", default=[16, 128])
    parser.add_argument("--steps", type=int, default=16, help="a power of two, which torchsde needs to be fast")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--solvers", nargs="+", choices=sorted(SOLVERS), default=sorted(SOLVERS))
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    for hidden in options.hidden:
        networks = Networks(hidden, options.batch)
        print(
            f"hidden {hidden}, {options.steps} steps, batch {options.batch}, {options.rounds} rounds; target {TARGET}"
        )
        for solver in options.solvers:
            print_times(networks, solver, options.steps, options.rounds)
        print_memory(networks, options.steps)


if __name__ == "__main__":
    main()
