"""The partial VAE of audiograms (thesis study A): partially observed hearing thresholds and age.

A training batch is standardised data, a mask of what is observed, and the posterior's noise. Every domain is evaluated
on fixed masks of its own, drawn as in training, several draws a datum.
"""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from vaesweep.data.domains import DataSet, Domain, Role, Standardisation
from vaesweep.distributions import Gaussian
from vaesweep.elbo import Elbo
from vaesweep.errors import UserError
from vaesweep.families.pvae.data import archetypes, missingness, sources
from vaesweep.families.pvae.data.audiograms import CLEAN, COLUMNS, DIMS, QUANTUM, THRESHOLDS
from vaesweep.families.pvae.evaluation import AGE, Acquirer, AcquisitionConfig, Population, Scale
from vaesweep.families.pvae.forms import DATA_FORMS
from vaesweep.families.pvae.models.partial import RATE, PartialVae, PartialVaeConfig
from vaesweep.family.base import CellConfig, Family
from vaesweep.packing import Frozen, Since
from vaesweep.training.batch_order import generator
from vaesweep.training.problem import Problem, Uses
from vaesweep.training.stack import Batch, Stack

MIRROR = [*range(THRESHOLDS // 2, THRESHOLDS), *range(THRESHOLDS // 2), THRESHOLDS]  # the other ear's columns
EVALUATED = 1 << 14  # rows of all cells together that are evaluated at once, of models of the default width
MASKS = 0  # the stream of evaluation masks and noise among the seeds of a domain


class AudiogramConfig(Frozen):
    """Settings of batches of audiograms. The thesis' missingness (line 642) is drawn once or at every batch.

    `acquisition` is drawn at every batch too, as acquiring audiograms makes it: age known, any number of thresholds.
    """

    seed: int = Field(0, ge=0, lt=2**63, description="of split, synthetic data and fixed masks; not the cell's seed")
    missingness: Literal["dynamic", "static", "acquisition"] = "dynamic"
    dequantise: bool = True
    mirror: bool = Field(False, description="training swaps left and right ear of every other datum, at random")
    draws: int = Field(4, ge=1, description="masks a datum is evaluated on; one where missingness is static")
    held_out: Annotated[str | None, Since("0.2")] = Field(
        None, description="years of an NHANES cycle, as 2015-2016, that is unseen and not trained on"
    )


class PartialVaeCell(CellConfig):
    """One cell: a partial VAE of audiograms."""

    family: Literal["pvae"] = "pvae"
    model: PartialVaeConfig = PartialVaeConfig()
    data: AudiogramConfig = AudiogramConfig()
    acquisition: AcquisitionConfig = AcquisitionConfig()


class PartialVaeProblem(Problem):
    """Batches, evaluation and metrics of the partial VAE on one data set and device."""

    rate_names: tuple[str, ...] = (RATE,)

    def __init__(self, config: PartialVaeCell, data: DataSet, device: torch.device) -> None:
        self._config, self.device = config, device
        scale = data.standardisation
        self._mean = torch.tensor(scale.mean, dtype=torch.float32, device=device)
        self._std = torch.tensor(scale.std, dtype=torch.float32, device=device)
        self._quantum = torch.tensor(QUANTUM, device=device) / self._std
        self._dims = len(data.columns)
        raw = [
            Population(domain.name, self._physical(domain), domain.role, self._clean(domain)) for domain in data.domains
        ]
        self._x = {population.name: (population.x - self._mean) / self._std for population in raw}
        draws = 1 if config.data.missingness == "static" else config.data.draws
        self.domains: Mapping[str, int] = {domain.name: draws * len(domain) for domain in data.domains}
        self._fixed = {domain.name: self._evaluation(domain.name, number) for number, domain in enumerate(data.domains)}
        self._train = data.domain(Role.TRAIN).name
        self.valid = data.domain(Role.VALID).name
        self.train_rows = len(self._x[self._train])
        self._mirrored: Tensor | None = None
        if config.data.mirror:
            physical = self._physical(data.domain(Role.TRAIN))
            self._mirrored = (physical[:, MIRROR] - self._mean) / self._std
        width = config.model.features / PartialVaeConfig().features
        self.evaluation_rows = int(EVALUATED / max(1.0, width))
        self._scale = Scale(self._mean, self._std)
        largest = max(len(x) for x in self._x.values())
        self.use_rows = min(config.acquisition.rows, largest) if config.acquisition.rules else 0
        self._acquirer = Acquirer(config.acquisition, config.model.latents, self._scale, raw)

    def build(self) -> PartialVae:
        """A freshly initialised partial VAE."""
        return PartialVae(self._dims, self._config.model)

    def train_batch(self, rows: Tensor, generator: torch.Generator) -> Batch:
        """Standardised data `x`, its mask `observed` (both `[batch, dim]`) and the posterior's noise."""
        x = self._x[self._train][rows]
        if self._mirrored is not None:
            swapped = torch.rand(len(x), 1, generator=generator, device=self.device) < 0.5
            x = torch.where(swapped, self._mirrored[rows], x)
        if self._config.data.missingness == "static":
            observed = self._fixed[self._train]["observed"][rows]
        else:
            observed = self._draw(len(x), generator)
        if self._config.data.dequantise:
            x = missingness.dequantise(x, self._quantum, generator)
        return {"x": x, "observed": observed, "noise": self._noise(len(x), generator)}

    def evaluation_batch(self, domain: str, rows: slice) -> Batch:
        """Evaluation rows: all data on their first masks, then all on their second, and so on."""
        return {name: value[rows] for name, value in self._fixed[domain].items()}

    def quick_rows(self, domain: str) -> int:
        """The number of rows that are every datum on its first mask."""
        return len(self._x[domain])

    def measure(self, elbo: Elbo, output: Gaussian, batch: Batch) -> dict[str, Tensor]:
        """Squared errors of the decoded mean in dB² (years² for the age), and counts, where observed and where not."""
        error = ((output.mean - batch["x"]) * self._std).square()
        observed = batch["observed"].to(error.dtype)
        return {
            "squared.observed": (error * observed).sum(-1),
            "count.observed": observed.sum(-1),
            "squared.unobserved": (error * (1 - observed)).sum(-1),
            "count.unobserved": (1 - observed).sum(-1),
        }

    def summarise(self, means: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Root mean squared errors over observed and over unobserved dimensions of a domain."""
        return {
            f"rmse_{part}": (means[f"squared.{part}"] / means[f"count.{part}"]).sqrt()
            for part in ("observed", "unobserved")
        }

    def use(self, stack: Stack, rows: int | None = None) -> Uses:
        """Acquire audiograms by the rules of the configuration; the standardisation stays with the weights."""
        uses = self._acquirer.use(stack, rows)
        scale = {f"standardisation/{name}": getattr(self._scale, name) for name in ("mean", "std")}
        return Uses(uses.metrics, uses.kept | {name: value.expand(len(stack), -1) for name, value in scale.items()})

    def _physical(self, domain: Domain) -> Tensor:
        return torch.tensor(domain.arrays["x"], dtype=torch.float32, device=self.device)

    def _clean(self, domain: Domain) -> Tensor | None:
        clean = domain.arrays.get(CLEAN)
        return None if clean is None else torch.tensor(clean, dtype=torch.float32, device=self.device)

    def _draw(self, rows: int, generator: torch.Generator) -> Tensor:
        if self._config.data.missingness == "acquisition":
            return missingness.draw_acquired(rows, self._dims, AGE, generator)
        return missingness.draw(rows, self._dims, generator)

    def _noise(self, rows: int, generator: torch.Generator) -> Tensor:
        model = self._config.model
        shape = (rows, model.latents) if model.draws == 1 else (rows, model.draws, model.latents)
        return torch.randn(shape, generator=generator, device=self.device)

    def _evaluation(self, domain: str, number: int) -> Batch:
        """All evaluation rows of a domain; drawn on the CPU, so that they are the same on every device."""
        cpu = torch.device("cpu")
        fixed = generator(self._config.data.seed, MASKS, number, cpu)
        x = self._x[domain].cpu().repeat(self.domains[domain] // len(self._x[domain]), 1)
        observed = self._draw(len(x), fixed)
        if self._config.data.dequantise:
            x = missingness.dequantise(x, self._quantum.cpu(), fixed)
        noise = torch.randn(len(x), self._config.model.latents, generator=fixed)
        return {n: v.to(self.device) for n, v in {"x": x, "observed": observed, "noise": noise}.items()}


class PartialVaeFamily(Family):
    """The partial VAE of audiograms."""

    name = "pvae"
    config = PartialVaeCell
    data_forms = DATA_FORMS
    evaluation_settings = ("acquisition",)
    trained_model = "vaesweep.families.pvae.trained:TrainedPartialVae"
    data_axes = True  # splits (`data.seed`) and cycles that are held out
    less_is_better = ("rmse_*", "area_*", "stop_offset.*", "stop_offset_clean.*")
    table_metrics = ("area_*.*", "effective_samples.*", "stop_*.*")
    metrics: ClassVar[dict[str, str]] = {
        "rmse_observed": "dB (years for the age): error of the decoded mean over observed dimensions",
        "rmse_unobserved": "dB (years for the age): error of the decoded mean over unobserved dimensions",
    }

    def load(self, spec: str, config: CellConfig) -> DataSet:
        """One of `forms.DATA_FORMS`, with any number of `,unseen=PATH` (docs/data.md)."""
        data = _own(config).data
        return sources.load(spec, data.seed, data.held_out)

    def loading(self, config: CellConfig) -> tuple[int, str | None]:
        """The data seed, and the cycle that is held out."""
        data = _own(config).data
        return data.seed, data.held_out

    def example(self) -> DataSet:
        """A few hundred synthetic audiograms."""
        loaded = archetypes.synthetic(seed=0, rows=320, unseen_rows=40)
        return DataSet(loaded.domains, COLUMNS, Standardisation.fit(loaded.domains[0].arrays["x"]))

    def rate_names(self, config: CellConfig) -> tuple[str, ...]:
        """One rate, of the latent variable `z`."""
        return (RATE,)

    def check(self, config: CellConfig) -> None:
        """Refuse floors that do not fit the audiogram, and free nats per dimension of a rate that has none."""
        super().check(config)
        model = _own(config).model
        floors = model.minimum_std
        if isinstance(floors, tuple) and len(floors) != len(COLUMNS):
            raise UserError(
                f"model.minimum_std: {len(floors)} floors, audiograms have {len(COLUMNS)} dimensions; give one or all"
            )
        if model.draws > 1 and any(free.per == "dimension" for free in config.free_nats.values()):
            raise UserError(
                f"free_nats.{RATE}.per=dimension: several draws are weighted as a whole; set per=group or model.draws=1"
            )

    def model(self, config: CellConfig) -> PartialVae:
        """A freshly initialised model."""
        return PartialVae(DIMS, _own(config).model)

    def problem(self, config: CellConfig, data: DataSet, device: torch.device) -> PartialVaeProblem:
        """The problem of all cells that share `config`'s structure."""
        return PartialVaeProblem(_own(config), data, device)


def _own(config: Any) -> PartialVaeCell:
    if not isinstance(config, PartialVaeCell):
        raise TypeError(f"the partial VAE was given a {type(config).__name__}")
    return config


FAMILY = PartialVaeFamily()
