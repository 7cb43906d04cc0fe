"""The training objective of named rates: distortion + Σ β · max(free nats, rate), vectorised over a pack's cells.

The one place where an ELBO is re-weighted (thesis eq. 2 of study A and eq. 37 of study B). `RatePolicy` is frozen; the
state of its controls is the caller's.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from vaesweep.elbo import Elbo, total_over_latents
from vaesweep.errors import UserError
from vaesweep.packing import Frozen, Packed
from vaesweep.rates.base import Numbers, RateControl, State, stack_numbers
from vaesweep.rates.controls import Control, TargetRate
from vaesweep.vocabulary import DATUM

TOTAL = "total"  # the name under which one control acts on the sum of all rates, with one shared β


class FreeNats(Frozen):
    """An allowance of nats without penalty: a rate below `nats` is counted as `nats` (eq. 37, per datum).

    `per` dimension: each entry of the unreduced rate has the allowance; `per` group: their sum has it.
    """

    nats: Annotated[float, Packed(), Field(ge=0)] = 0.0
    per: Literal["dimension", "group"] = "dimension"


class RateConfig(Frozen):
    """The controls and free nats of the rates of one cell.

    `rates` maps rate names, or `total`, to a control; with `total` alone one β is shared by all rates. A rate without
    a control keeps β = 1. `free_nats` maps rate names to their allowance.
    """

    rates: dict[str, Control] = {}
    free_nats: dict[str, FreeNats] = {}

    @property
    def units(self) -> Mapping[str, float]:
        """How much of each unit that rates may be counted per a datum has; a family's cells add their own."""
        return {DATUM: 1.0}

    @property
    def scheduled_rates(self) -> Mapping[str, RateControl]:
        """The controls as they act, in nats per datum; a configuration that knows its steps resolves shares of them."""
        return {name: control.per_datum(self.units) for name, control in self.rates.items()}

    def check_names(self, names: Sequence[str]) -> None:
        """Refuse controls of rates that the model does not have, and `total` beside single rates."""
        rate_names = ", ".join(names)
        for key in [*self.rates, *self.free_nats]:
            if key not in names and not (key == TOTAL and key in self.rates):
                raise UserError(
                    f"rates: this model has no rate named {key!r}; it has {rate_names}, and {TOTAL} is their sum"
                )
        if TOTAL in self.rates and len(self.rates) > 1:
            single_rates = ", ".join(key for key in self.rates if key != TOTAL)
            raise UserError(f"rates: {TOTAL} and {single_rates} would both weigh the same rate; keep one of them")
        for key, control in self.rates.items():
            if isinstance(control, TargetRate) and control.per not in self.units:
                raise UserError(f"rates.{key}.per={control.per}: rates of this cell are per {', '.join(self.units)}")
        if TOTAL in self.free_nats:
            raise UserError(f"free_nats: free nats belong to a rate, not to the {TOTAL}; name one of {rate_names}")


@dataclass(frozen=True)
class Weights:
    """The weights of the rates in one step: β and free nats by rate name, each `[cell]`."""

    beta: Mapping[str, Tensor]
    free_nats: Mapping[str, tuple[Tensor, str]]

    def objective(self, elbo: Elbo) -> Tensor:
        """The re-weighted negative ELBO, `[cell, batch]`, nats per datum, for gradients and nothing else.

        Of several draws the importance-weighted bound of Burda et al. (2016), -log mean exp(-loss of a draw): with
        β = 1 and no free nats a tighter bound of the log-likelihood than their mean.
        """
        if elbo.draws is not None:
            log_weights = -self.objective(elbo.draws)
            return math.log(log_weights.shape[-1]) - torch.logsumexp(log_weights, dim=-1)
        loss = elbo.distortion
        for name in elbo.rates:
            beta = self.beta[name].to(loss.dtype).reshape(-1, *[1] * (loss.dim() - 1))
            loss = loss + beta * self._rate_with_free_nats(name, elbo)
        return loss

    def tensors(self) -> list[Tensor]:
        """Every tensor of the weights, each `[cell]`."""
        return [*self.beta.values(), *(nats for nats, _ in self.free_nats.values())]

    def _rate_with_free_nats(self, name: str, elbo: Elbo) -> Tensor:
        if name not in self.free_nats:
            return elbo.rate(name)
        nats, per = self.free_nats[name]
        rate = elbo.rate(name) if per == "group" else elbo.rates[name]
        allowance = nats.to(rate.dtype).reshape(-1, *[1] * (rate.dim() - 1))
        return total_over_latents(torch.maximum(rate, allowance), elbo.distortion)


class RatePolicy:
    """The controls of a pack: the same kinds for every cell, their numbers stacked over cells."""

    def __init__(self, configs: Sequence[RateConfig], names: Sequence[str], device: torch.device | None = None) -> None:
        config = configs[0]
        config.check_names(names)
        self.names = tuple(names)
        self._controls: dict[str, tuple[type[RateControl], Numbers]] = {
            key: (type(control), stack_numbers([c.scheduled_rates[key] for c in configs], device))
            for key, control in config.rates.items()
        }
        self._free_nats = {
            name: (stack_numbers([c.free_nats[name] for c in configs], device)["nats"], free.per)
            for name, free in config.free_nats.items()
        }
        self._ones = torch.ones(len(configs), dtype=torch.float64, device=device)

    def start(self) -> State:
        """The state of all controls before the first step, by `control.name`, each `[cell]`."""
        return _join({key: kind.start(numbers) for key, (kind, numbers) in self._controls.items()})

    def weights(self, state: State, step: Tensor) -> Weights:
        """The weights that step number `step` uses."""
        parts = _split(state)
        betas = {k: kind.beta(numbers, parts.get(k, {}), step) for k, (kind, numbers) in self._controls.items()}
        shared = betas.get(TOTAL, self._ones)
        return Weights({name: betas.get(name, shared) for name in self.names}, self._free_nats)

    def advance(self, state: State, measured: Mapping[str, Tensor], step: Tensor, pace: Tensor) -> State:
        """The state after a step; `measured` holds each rate's unweighted batch mean `[cell]`, nats per datum.

        `pace` `[cell]` is the learning rate's present share of its full value: where the model learns slower, β moves
        slower too.
        """
        parts = _split(state)
        total = sum(measured.values(), start=torch.zeros_like(self._ones))
        states = {
            key: kind.advance(
                numbers, parts.get(key, {}), (total if key == TOTAL else measured[key]).double(), step, pace
            )
            for key, (kind, numbers) in self._controls.items()
        }
        return _join(states)

    def settled(self, state: State, step: Tensor) -> Tensor:
        """`[cell]`, true where every β has settled."""
        parts = _split(state)
        settled = torch.ones_like(self._ones, dtype=torch.bool)
        for key, (kind, numbers) in self._controls.items():
            settled = settled & kind.settled(numbers, parts.get(key, {}), step)
        return settled

    def saturated(self, state: State) -> dict[str, Tensor]:
        """Flags by control, `[cell]`: true where the control asks for a rate that the model cannot reach."""
        parts = _split(state)
        return {key: kind.saturated(numbers, parts.get(key, {})) for key, (kind, numbers) in self._controls.items()}


def _join(parts: Mapping[str, State]) -> State:
    return {f"{key}.{name}": value for key, state in parts.items() for name, value in state.items()}


def _split(state: State) -> dict[str, State]:
    parts: dict[str, State] = {}
    for full_name, value in state.items():
        key, _, name = full_name.rpartition(".")
        parts.setdefault(key, {})[name] = value
    return parts
