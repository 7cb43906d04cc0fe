"""A family of models: a configuration, the data it reads and the problem it gives the training loop."""

import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Hashable, Mapping
from fnmatch import fnmatch
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import nn

from vaesweep.data.domains import DataSet
from vaesweep.data.spelling import did_you_mean
from vaesweep.errors import UserError
from vaesweep.training.config import MORE_IS_BETTER, Pruning, TrainableConfig, Watching
from vaesweep.training.problem import Problem

if TYPE_CHECKING:
    from vaesweep.family.trained import Trained
    from vaesweep.training.finished import FinishedCell


class CellConfig(TrainableConfig):
    """One cell of a sweep. A family adds `model` and `data`; the data themselves are named beside it."""


class Family(ABC):
    """One family of models. Subclasses are registered by name in `registry` and run the contract tests."""

    name: ClassVar[str]
    config: ClassVar[type[CellConfig]]
    data_forms: ClassVar[tuple[str, ...]]  # the kinds of `--data`, as they are typed
    metrics: ClassVar[dict[str, str]]  # all metrics of the family's own, with their units

    evaluation_settings: ClassVar[tuple[str, ...]] = ()  # dotted; training depends on none of them
    bfloat16: ClassVar[bool] = False  # whether its models may train with products in bfloat16
    data_axes: ClassVar[bool] = False  # whether cells of one sweep may differ in what `load` reads
    trained_model: ClassVar[str] = "vaesweep.family.trained:Trained"  # the class of its trained models, by name
    table_metrics: ClassVar[tuple[str, ...]] = ()  # patterns of final ones that MLflow has in a run's table only
    best_by: ClassVar[tuple[str, ...]] = ("elbo",)  # metrics whose best cells a sweep logs as models
    more_is_better: ClassVar[tuple[str, ...]] = ()  # patterns of its metrics, such as `si_sdri.*`
    less_is_better: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def load(self, spec: str, config: CellConfig) -> DataSet:
        """Read the data that `--data` names; bad data is refused with a `UserError` of one line."""

    def loading(self, config: CellConfig) -> Hashable:
        """The part of a configuration that `load` reads; without `data_axes` the cells of a sweep must agree on it."""
        return None

    @abstractmethod
    def example(self) -> DataSet:
        """A small synthetic data set, for tests and calibration."""

    def small(self) -> CellConfig:
        """A cell that trains on `example` within seconds, for tests."""
        return self.config()

    def metrics_of(self, config: CellConfig) -> Mapping[str, str]:
        """Those of `metrics` that cells with this configuration have, with their units."""
        return self.metrics

    def revision(self, config: CellConfig) -> int:
        """Of the model that `config` names, from 1: one more where a release changes a model under its old name.

        It is part of a cell's identity, so that what an earlier release has trained is not taken for it.
        """
        return 1

    @abstractmethod
    def rate_names(self, config: CellConfig) -> tuple[str, ...]:
        """The names of the model's rates."""

    @abstractmethod
    def model(self, config: CellConfig) -> nn.Module:
        """A freshly initialised model of `config`, as `Problem.build` makes it; a finished cell's weights fit it."""

    @abstractmethod
    def problem(self, config: CellConfig, data: DataSet, device: torch.device) -> Problem:
        """The problem of every cell that shares `config`'s structure."""

    def trained(self, cell: "FinishedCell") -> "Trained":
        """The trained model of a finished cell of this family, ready for use.

        Raises `UserError` where the cell is of another version.
        """
        model: Trained = pkgutil.resolve_name(self.trained_model).restore(cell)
        return model

    def more_wanted(self, metric: str) -> bool | None:
        """Whether more of a metric is better, or less; None where neither is, or where it is not known."""
        if metric in MORE_IS_BETTER:
            return MORE_IS_BETTER[metric]
        directions = {True: self.more_is_better, False: self.less_is_better}
        return next((more for more, names in directions.items() if any(fnmatch(metric, n) for n in names)), None)

    def in_table(self, metric: str) -> bool:
        """Whether a final metric goes into a run's table, where there are too many of its kind for columns."""
        return any(fnmatch(metric, pattern) for pattern in self.table_metrics)

    def check(self, config: CellConfig) -> None:
        """Refuse a configuration that is well formed but cannot be trained, with a `UserError` of one line."""
        config.check_names(self.rate_names(config))
        for name, control in config.rates.items():
            if unfinished := control.unfinished(config.training.steps):
                raise UserError(f"rates.{name}: {unfinished}; give it fewer steps, or a rates.{name}.share of training")
        self._check_watched(config)
        if config.training.precision == "bfloat16" and not self.bfloat16:
            raise UserError(
                f"training.precision=bfloat16: three digits are too few for {self.name}'s likelihood; use float32"
            )
        if config.pretraining is not None:
            self._check_pretraining(config.pretraining, config)

    def _check_watched(self, config: CellConfig) -> None:
        """Refuse a rule of training that watches a metric which the cell does not have."""
        known = [*MORE_IS_BETTER, *self.metrics_of(config)]
        training = config.training
        rules = {"schedule": training.schedule, "early_stopping": training.early_stopping, "pruning": training.pruning}
        for name, rule in rules.items():
            if isinstance(rule, Watching | Pruning) and rule.watch not in known:
                hint = did_you_mean(rule.watch, known) or f"; there are {', '.join(known)}"
                raise UserError(f"training.{name}.watch={rule.watch}: the cell has no such metric{hint}")

    def _check_pretraining(self, pretraining: CellConfig, config: CellConfig) -> None:
        if pretraining.training.early_stopping is not None:
            raise UserError(
                "pretraining.training.early_stopping: pretraining ends after its steps; set it to null and "
                "training.early_stopping for the training that follows"
            )
        if self.loading(pretraining) != self.loading(config):
            raise UserError("pretraining.data: pretraining is on the cell's own data; set what is loaded for both")
        try:
            self.check(pretraining)
        except UserError as error:
            raise UserError(f"pretraining: {error}") from None
