"""One evaluation mixture separated by a trained separator, computed anew from the weights of its cell.

Separated by the modes of the latent variables, as a user would; the rates are those of the sweep's evaluation.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from vaesweep.data.domains import DataSet, Role, Standardisation
from vaesweep.data.spelling import did_you_mean
from vaesweep.errors import UserError
from vaesweep.families.emd.family import SCALE, SeparatorCell
from vaesweep.families.emd.models.separator import ENCODING, Separator, permuted
from vaesweep.family import family
from vaesweep.family.restore import restore
from vaesweep.likelihoods import si_sdr
from vaesweep.training.finished import FinishedCell


@dataclass(frozen=True)
class Example:
    """A mixture `[time]`, its `sources` and their `estimates` `[speaker, time]`, and the latent variables.

    `encoding` `[K, frames]` and `masks` `[speaker, K, frames]` are the points that the estimates are made of, speakers
    in the order of the sources; `encoding_rate` `[K, frames]`, nats, is absent where the encoding is deterministic.
    `rates` are totals in nats.
    """

    cell: str
    domain: str
    row: int
    config: SeparatorCell
    mixture: Tensor
    sources: Tensor
    estimates: Tensor
    encoding: Tensor
    masks: Tensor
    encoding_rate: Tensor | None
    rates: dict[str, float]

    @property
    def sample_rate(self) -> int:
        """Sample rate of the signals, Hz."""
        return self.config.model.sample_rate

    @property
    def seconds(self) -> float:
        """Length of the mixture, s."""
        return len(self.mixture) / self.sample_rate

    @property
    def fitted(self) -> Tensor:
        """The estimates, each with the gain, and the sign, that fits its source best: SI-SDR depends on neither."""
        energy = self.estimates.square().sum(-1, keepdim=True).clamp_min(torch.finfo(torch.float32).tiny)
        return self.estimates * ((self.sources * self.estimates).sum(-1, keepdim=True) / energy)

    @property
    def si_sdr(self) -> Tensor:
        """SI-SDR of every estimate, `[speaker]`, dB."""
        return si_sdr(self.sources, self.estimates)

    @property
    def si_sdr_before(self) -> Tensor:
        """SI-SDR of the mixture itself, `[speaker]`, dB."""
        return si_sdr(self.sources, self.mixture)


def separate(cell: FinishedCell, data: DataSet, domain: str | None = None, row: int = 0) -> Example:
    """Evaluation mixture `row` of `domain` (the test domain by default), separated by the cell.

    Raises `UserError` where the cell is no separator, is of another version, was trained on other data, or where there
    is no such domain or row.
    """
    config, model = restore(cell, SeparatorCell, Separator)
    if data.domain(Role.TRAIN).condition != config.data.condition:
        raise UserError(f"cell {cell.cell} was trained on other data: name those of its sweep")
    chosen = domain or data.domain(Role.TEST).name
    if SCALE in cell.kept:  # the cell's own, where another replicate's data are at hand
        data = replace(data, standardisation=Standardisation(np.zeros(1), cell.kept[SCALE].numpy().reshape(1)))
    problem = family(cell.family).problem(config, data, torch.device("cpu"))
    if chosen not in problem.domains:
        hint = did_you_mean(chosen, problem.domains) or f"; there are {', '.join(problem.domains)}"
        raise UserError(f"--domain {chosen}: there is no such domain{hint}")
    if not 0 <= row < problem.domains[chosen]:
        raise UserError(f"--row {row}: the mixtures of {chosen} are 0..{problem.domains[chosen] - 1}")
    batch = problem.evaluation_batch(chosen, slice(row, row + 1))
    with torch.no_grad():
        elbo, _ = model(**batch)
        encoding, masks, decoded = model.separate_by_points(batch["mixture"])
        estimates, masks = (permuted(values, model.order(batch["sources"], decoded)) for values in (decoded[0], masks))
    return Example(
        cell=cell.cell,
        domain=chosen,
        row=row,
        config=config,
        mixture=batch["mixture"][0],
        sources=batch["sources"][0],
        estimates=estimates[0],
        encoding=encoding[0],
        masks=masks[0],
        encoding_rate=elbo.rates[ENCODING][0] if ENCODING in elbo.rates else None,
        rates={name: float(elbo.rate(name)[0]) for name in elbo.rates},
    )
