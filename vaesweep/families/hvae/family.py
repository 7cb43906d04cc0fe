"""Hierarchical VAEs of images (thesis study C): very deep ones, and those whose levels are latent SDEs.

A batch is images and standard normal noise for the latent variables: in training the step generator's, in evaluation
keyed by the image's index, so that it depends on neither batch nor device.
"""

from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from vaesweep.data.domains import DataSet, Domain, Role, Standardisation
from vaesweep.elbo import Elbo
from vaesweep.errors import UserError
from vaesweep.families.hvae import data as images
from vaesweep.families.hvae import evaluation as hierarchy
from vaesweep.families.hvae.data import (
    GREY_SCALE,
    ImageCondition,
    ImagesConfig,
    PixelKind,
    Pixels,
    condition_of,
    has_eight_bits,
)
from vaesweep.families.hvae.evaluation import EvaluationConfig, EvaluationImages
from vaesweep.families.hvae.forms import DATA_FORMS
from vaesweep.families.hvae.models.config import DiscreteDepth, HierarchyConfig
from vaesweep.families.hvae.models.hierarchy import Hierarchy, Reconstruction
from vaesweep.family.base import CellConfig, Family
from vaesweep.training.problem import Problem, Uses
from vaesweep.training.stack import Batch, Stack

QUICK = 1000  # images of the validation domain that are evaluated while training goes on
FINEST = 10_000  # steps a level of the grid that all steps of an evaluation lie on


class HierarchyCell(CellConfig):
    """One cell: a hierarchical VAE of images."""

    family: Literal["hvae"] = "hvae"
    model: HierarchyConfig = HierarchyConfig()
    data: ImagesConfig = ImagesConfig()
    evaluation: EvaluationConfig = EvaluationConfig()


class HierarchyProblem(Problem):
    """Batches, evaluation and metrics of hierarchies on one data set and device."""

    def __init__(self, config: HierarchyCell, data: DataSet, device: torch.device) -> None:
        self._model, self._evaluation, self.device = config.model, config.evaluation, device
        self.rate_names = config.model.rate_names
        self._shapes = config.model.noise_shapes()
        check_images(config.model, data)
        self._populations = {domain.name: self._population(domain, data) for domain in data.domains}
        self.domains: Mapping[str, int] = {
            name: population.rows * population.repeats for name, population in self._populations.items()
        }
        self._train, self.valid = data.domain(Role.TRAIN).name, data.domain(Role.VALID).name
        self.train_rows = len(self._populations[self._train].pixels)
        self._tested = [
            population for population in self._populations.values() if population.role in (Role.TEST, Role.UNSEEN)
        ]
        tested_rows = (population.rows * population.repeats for population in self._tested)
        self.use_rows = max(tested_rows) if config.evaluation.has_bounds else 0
        scale = _scale(config.model, data)
        binary = config.model.observation == "bernoulli"
        self._scale = {} if binary else {hierarchy.MEAN: scale.mean, hierarchy.STD: scale.std}

    def build(self) -> Hierarchy:
        """A freshly initialised hierarchy; one with biases of pixels begins at the training images' mean."""
        model = Hierarchy(self._model)
        if self._model.mean_image:
            model.decoder.begin_at(self._mean_image)
        return model

    @cached_property
    def _mean_image(self) -> Tensor:
        return self._populations[self._train].pixels.mean().cpu()

    def train_batch(self, rows: Tensor, generator: torch.Generator) -> Batch:
        """Images `x` `[batch, 1, size, size]`, and noise for every level."""
        x = self._populations[self._train].pixels.batch(rows, generator)
        noise = {
            name: torch.randn(len(rows), *shape, generator=generator, device=self.device)
            for name, shape in self._shapes.items()
        }
        return {"x": x} | noise

    def evaluation_batch(self, domain: str, rows: slice) -> Batch:
        """Images `x`, and each image's own noise for every level."""
        x, noise = self._populations[domain].evaluation(rows, self._shapes)
        return {"x": x} | noise

    def quick_rows(self, domain: str) -> int:
        """The number of images of `domain` in quick evaluations: the first thousand at most, once."""
        return min(QUICK, self._populations[domain].rows)

    def measure(self, elbo: Elbo, output: Reconstruction, batch: Batch) -> dict[str, Tensor]:
        """Squared error of the observation's mean and the bound in bits, both a pixel."""
        return hierarchy.measure(elbo, output, batch["x"])

    def summarise(self, means: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Metrics from the means of the measured quantities over a domain."""
        return hierarchy.summarise(means)

    def use(self, stack: Stack, rows: int | None = None) -> Uses:
        """The bound at other steps and the importance-weighted one, on test and unseen images.

        The standardisation of real pixels stays with the weights.
        """
        tested = self._tested if rows is None else [replace(population, repeats=1) for population in self._tested]
        scale = {name: torch.tensor(value).float().expand(len(stack), -1) for name, value in self._scale.items()}
        return Uses(hierarchy.bounds(stack, self._model, self._evaluation, tested, rows), scale)

    def _population(self, domain: Domain, data: DataSet) -> EvaluationImages:
        pixels = Pixels(domain, _scale(self._model, data), self.device)
        evaluation = self._evaluation
        return EvaluationImages(domain.name, domain.role, pixels, min(len(pixels), evaluation.rows), evaluation.repeats)


class HierarchyFamily(Family):
    """Hierarchical VAEs of images."""

    name = "hvae"
    config = HierarchyCell
    data_forms = DATA_FORMS
    evaluation_settings = ("evaluation.steps", "evaluation.draws", "evaluation.repeats")
    bfloat16 = True
    trained_model = "vaesweep.families.hvae.trained:TrainedHierarchy"
    table_metrics = ("rate.level_*", "steps_*.*", "importance_*.*")
    more_is_better = ("*.elbo", "*.bound")
    less_is_better = ("rmse", "bits_per_pixel", "*.distortion")
    metrics: ClassVar[dict[str, str]] = hierarchy.METRICS

    def load(self, spec: str, config: CellConfig) -> DataSet:
        """The data of `poisson`, `mnist:DIR`, `binarised_mnist:DIR` or `folder:DIR` (docs/data.md)."""
        own = _own(config)
        data = images.load(spec, own.data)
        check_images(own.model, data)
        return data

    def loading(self, config: CellConfig) -> ImagesConfig:
        """The part of the configuration that says which images there are."""
        return _own(config).data

    def example(self) -> DataSet:
        """A few small Poisson images."""
        rows = images.ImageRows(train=48, valid=12, test=12)
        return images.load("poisson:unseen=noise_2", ImagesConfig(size=8, rows=rows))

    def small(self) -> HierarchyCell:
        """Two levels of a few channels, four steps each."""
        shape = {"size": 8, "levels": 2, "latents": 2, "width": 8, "hidden": 4, "encoder_blocks": 1}
        depth = {"kind": "continuous", "step": 0.25, "hidden": 4}
        return HierarchyCell.model_validate({"model": {**shape, "decoder_blocks": 1, "depth": depth}})

    def rate_names(self, config: CellConfig) -> tuple[str, ...]:
        """`initial`, then `level_0`, the topmost, and so on."""
        return _own(config).model.rate_names

    def check(self, config: CellConfig) -> None:
        """Refuse evaluation at steps where levels have none, and steps that have no common grid."""
        super().check(config)
        own = _own(config)
        if own.evaluation.steps and isinstance(own.model.depth, DiscreteDepth):
            raise UserError("evaluation.steps: a discrete hierarchy has blocks and no steps; leave it out")
        finest = hierarchy.finest_steps(own.model, own.evaluation.steps)
        if finest > FINEST:
            raise UserError(
                f"evaluation.steps: with training's {own.model.depth.layers} they lie on a common grid of {finest} "
                f"steps, more than {FINEST}; choose numbers that divide one another"
            )

    def model(self, config: CellConfig) -> Hierarchy:
        """A freshly initialised model."""
        return Hierarchy(_own(config).model)

    def problem(self, config: CellConfig, data: DataSet, device: torch.device) -> HierarchyProblem:
        """The problem of all cells that share `config`'s structure."""
        return HierarchyProblem(_own(config), data, device)


def check_images(model: HierarchyConfig, data: DataSet) -> None:
    """Refuse images of another size than the model's, and pixels of a kind that it does not observe."""
    for domain in data.domains:
        condition = domain.condition
        assert isinstance(condition, ImageCondition)
        if condition.size != model.size:
            raise UserError(
                f"{domain.name}: its images have {condition.size} x {condition.size} pixels, the model is made for "
                f"{model.size} x {model.size}; set model.size={condition.size}"
            )
        fitting = observations(domain)
        if model.observation not in fitting:
            raise UserError(
                f"{domain.name}: its pixels are {condition.kind}, which a {model.observation} observation does not "
                f"fit; set model.observation={fitting[0]}"
            )


def observations(domain: Domain) -> tuple[str, ...]:
    """The observations that fit the pixels of a domain; of several the first has a likelihood, the other a density."""
    if condition_of(domain).kind == PixelKind.BINARY:
        return ("bernoulli",)
    return ("logistic", "gaussian") if has_eight_bits(domain) else ("gaussian",)


def _scale(model: HierarchyConfig, data: DataSet) -> Standardisation:
    """What pixels are standardised by: of grey ones that are observed as levels always the same."""
    return GREY_SCALE if model.observation == "logistic" else data.standardisation


def _own(config: Any) -> HierarchyCell:
    if not isinstance(config, HierarchyCell):
        raise TypeError(f"a hierarchy was given a {type(config).__name__}")
    return config


FAMILY = HierarchyFamily()
