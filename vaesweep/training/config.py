"""Training settings of a cell: optimiser, schedules, early stopping and evaluation, as frozen configurations."""

from collections.abc import Mapping
from typing import Annotated, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor

from vaesweep.packing import Frozen, Packed, Since
from vaesweep.rates import RateConfig, RateControl

MORE_IS_BETTER = {
    "distortion": False,
    "elbo": True,
}  # of the validation domain, never re-weighted: β moves, they do not


class Watching(Frozen):
    """A rule that watches a metric of the validation domain: distortion, ELBO, or one of the family's own.

    Only once the rate control has settled: before, patience is not spent and no value is the best.
    """

    watch: str = Field("distortion", description="distortion, elbo, or a metric of the family")
    better: Annotated[Literal["auto", "less", "more"], Since("0.2")] = Field(
        "auto", description="which values are better; auto knows it of distortion and elbo only"
    )
    patience: int = Field(10, ge=1)
    tolerance: float = Field(1e-3, ge=0, description="that counts as an improvement, in the unit of what is watched")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.better == "auto" and self.watch not in MORE_IS_BETTER:
            raise ValueError(
                f"whether more of {self.watch} is better is not known; set better to less or more beside it"
            )
        return self

    def loss(self, valid: Mapping[str, Tensor]) -> Tensor:
        """What is watched of the validation metrics `[cell]`, float64, less of which is better."""
        more = MORE_IS_BETTER[self.watch] if self.better == "auto" else self.better == "more"
        value = valid[self.watch].double()
        return -value if more else value


class Constant(Frozen):
    """A constant learning rate."""

    kind: Literal["constant"] = "constant"


class Cosine(Frozen):
    """The learning rate falls along half a cosine to `final_share` of itself at the last step."""

    kind: Literal["cosine"] = "cosine"
    final_share: float = Field(0.01, ge=0, le=1)


class Plateau(Watching):
    """The learning rate is multiplied by `factor` after `patience` evaluations without improvement."""

    kind: Literal["plateau"] = "plateau"
    factor: float = Field(0.5, gt=0, lt=1)


class EarlyStopping(Watching):
    """A cell ends after `patience` evaluations without improvement, judged as `Plateau` is."""

    patience: int = Field(20, ge=1)
    keep: Annotated[Literal["last", "best"], Since("0.2")] = Field(
        "last", description="the weights of a cell: its last ones, or those of its best evaluation"
    )


class Pruning(Frozen):
    """A cell ends at an evaluation after one of `steps` at which a validation metric is worse than the step's bound.

    Searches set it, by what earlier trials had come to at the same steps; pretraining is not pruned.
    """

    watch: str = Field("elbo", description="of the validation domain: distortion, elbo, or a metric of the family")
    better: Literal["less", "more"] = "more"
    steps: tuple[Annotated[int, Field(ge=1)], ...] = ()
    bounds: tuple[float, ...] = ()

    @model_validator(mode="after")
    def _check(self) -> Self:
        if len(self.steps) != len(self.bounds):
            raise ValueError(f"{len(self.steps)} steps have {len(self.bounds)} bounds; give each its own")
        return self

    def is_worse(self, step: int, value: Tensor) -> Tensor:
        """Whether values `[cell]` after a step are worse than its bound; false for a step without one, and for NaN."""
        if step not in self.steps:
            return torch.zeros_like(value, dtype=torch.bool)
        bound = self.bounds[self.steps.index(step)]
        return value < bound if self.better == "more" else value > bound


class GradientSkipping(Frozen):
    """A step whose gradient norm exceeds `norm` or is not finite is not taken; more than `most` in a row fail it."""

    norm: Annotated[float, Packed(), Field(gt=0, description="before clipping, as clip_norm; by default any")] = 1e30
    most: int = Field(50, ge=1, description="skipped steps in a row that a cell survives")


Schedule = Annotated[Constant | Cosine | Plateau, Field(discriminator="kind")]


class TrainingConfig(Frozen):
    """Adam with a learning rate, a gradient norm bound and a weight decay of each cell's own."""

    steps: int = Field(4000, ge=1)
    batch_size: int = Field(64, ge=1)
    accumulation: Annotated[int, Since("0.2")] = Field(
        1, ge=1, description="parts that a batch is taken in, one after the other: the same step in less memory"
    )
    learning_rate: Annotated[float, Packed(), Field(gt=0)] = 1e-3
    clip_norm: Annotated[float, Packed(), Field(gt=0, description="bound on a cell's gradient norm")] = 10.0
    skip: GradientSkipping | None = None
    weight_decay: Annotated[float, Packed(), Field(ge=0, description="decoupled: AdamW's")] = 0.0
    average: float = Field(0.0, ge=0, lt=1, description="decay of the running mean of weights that is evaluated")
    precision: Literal["float32", "bfloat16"] = Field(
        "float32",
        description="of products and convolutions in training; bfloat16 where the family allows it",
    )
    schedule: Schedule = Cosine()
    warm_up: Annotated[int, Since("0.2")] = Field(
        0, ge=0, description="first steps, over which the learning rate rises to what the schedule gives"
    )
    early_stopping: EarlyStopping | None = None
    pruning: Annotated[Pruning | None, Since("0.2")] = None
    evaluate_every: int = Field(200, ge=1, description="steps between evaluations on the validation domain")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.warm_up >= self.steps and self.warm_up:
            raise ValueError(f"a warm-up of {self.warm_up} steps leaves none of {self.steps}; set warm_up below steps")
        return self


class TrainableConfig(RateConfig):
    """The settings of a cell that the training loop reads; a family adds those of its model and its data."""

    seed: Annotated[int, Packed(), Field(ge=0, lt=2**63)] = 0
    training: TrainingConfig = TrainingConfig()
    pretraining: Self | None = Field(None, description="a cell that trains first; this one starts from its weights")

    @property
    def scheduled_rates(self) -> Mapping[str, RateControl]:
        """The controls as they act in `training.steps` steps."""
        return {name: control.scheduled(self.training.steps) for name, control in super().scheduled_rates.items()}

    @property
    def all_steps(self) -> int:
        """Optimisation steps, those of pretraining included."""
        return self.training.steps + (self.pretraining.training.steps if self.pretraining else 0)
