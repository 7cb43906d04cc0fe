"""Trained cells evaluated again beside the classical baselines: more samples, all listeners, ensembles of seeds.

A sweep judges its cells with few samples, since there are many of them. Here the cells of one point acquire every
listener of the validation, test and unseen domains again, with as many samples as asked for, singly and as an ensemble
of their seeds (`tasks.ensemble`); Gaussian mixtures acquire the same listeners by the same rule, singly and as an
ensemble of their fits. Intervals are over seeds or fits; differences to a mixture are within listeners.
"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from vaesweep.analysis.intervals import t_interval
from vaesweep.data.domains import DataSet, Role
from vaesweep.errors import UserError
from vaesweep.families.pvae.analysis.baselines import fit, mixture_name
from vaesweep.families.pvae.evaluation import ADAPTIVE, AGE, STOPPING_RULE, RuleName, predictor
from vaesweep.families.pvae.tasks.acquisition import acquire, area
from vaesweep.families.pvae.tasks.ensemble import Ensemble
from vaesweep.families.pvae.tasks.predictive import Predictor
from vaesweep.families.pvae.trained import TrainedPartialVae
from vaesweep.training.finished import FinishedCell
from vaesweep.training.stack import Stack

REFERENCE = 20  # components of the mixture that differences are taken to
COMPONENTS = (1, 10, REFERENCE)
JUDGED = (Role.VALID, Role.TEST, Role.UNSEEN)

Areas = dict[str, Tensor]  # by domain, [replicate, row], measurement·dB


def rematch(
    cells: Sequence[FinishedCell],
    data: DataSet,
    samples: int,
    prior_samples: int | None = None,
    rule: RuleName = STOPPING_RULE,
) -> pd.DataFrame:
    """A row a model and domain: mean area by `rule` (one of `ADAPTIVE`), its interval over replicates, the difference.

    `cells` must share their configuration but for the seed. Columns: model, domain, role, area, low, high, n,
    difference, difference_low, difference_high (to the mean fit of the mixture of `REFERENCE`, over listeners), n_data.
    Weighted predictions use `prior_samples` of the prior beside those of the posterior, by default as many as the cells
    are configured with.
    """
    train = data.domain(Role.TRAIN).arrays["x"]
    plain, weighted = (stacked_predictor(cells, samples, prior_samples, weighted=choice) for choice in (False, True))
    models: dict[str, Predictor] = {
        "partial VAE, plain samples": plain,
        "partial VAE": weighted,
        "partial VAE, seeds together": Ensemble(weighted),
    }
    models |= {mixture_name(count): fit(train, count) for count in COMPONENTS}
    mixture = mixture_name(REFERENCE)
    models[f"{mixture}, fits together"] = Ensemble(models[mixture])
    areas_by_model = {name: areas_of(model, data, rule) for name, model in models.items()}
    roles = {domain.name: domain.role for domain in data.domains}
    return pd.DataFrame(list(_rows(areas_by_model, areas_by_model[mixture], roles)))


def stacked_predictor(
    cells: Sequence[FinishedCell], samples: int, prior_samples: int | None = None, *, weighted: bool
) -> Predictor:
    """The predictor of the cells as one stack."""
    trained = [TrainedPartialVae.restore(cell) for cell in cells]
    config = trained[0].config
    if any(vae.config.model != config.model for vae in trained):
        raise UserError("these cells have models of different shapes; name cells that differ in their seed")
    stack = Stack(trained[0].model, torch.cat([vae.stack.flat for vae in trained]))
    return predictor(
        stack,
        config.model.latents,
        trained[0].scale,
        samples=samples,
        weighted=weighted,
        prior_samples=config.acquisition.prior_samples if prior_samples is None else prior_samples,
    )


def areas_of(model: Predictor, data: DataSet, rule: RuleName = STOPPING_RULE) -> Areas:
    """Every listener's area by `rule`, one of `ADAPTIVE`, on the domains that are judged."""
    areas: Areas = {}
    for domain in data.domains:
        if domain.role in JUDGED:
            x = torch.as_tensor(domain.arrays["x"]).float()
            areas[domain.name] = area(acquire(model, x, AGE, ADAPTIVE[rule]).rmse).double()
    return areas


def _rows(
    areas_by_model: Mapping[str, Areas], reference: Areas, roles: Mapping[str, Role]
) -> Iterator[dict[str, object]]:
    for model, areas in areas_by_model.items():
        for domain, values in areas.items():
            interval = t_interval(values.mean(-1).numpy())
            difference = t_interval((values.mean(0) - reference[domain].mean(0)).numpy())
            yield {
                "model": model,
                "domain": domain,
                "role": str(roles[domain]),
                "area": interval.mean,
                "low": interval.low,
                "high": interval.high,
                "n": interval.n,
                "difference": difference.mean if areas is not reference else np.nan,
                "difference_low": difference.low if areas is not reference else np.nan,
                "difference_high": difference.high if areas is not reference else np.nan,
                "n_data": values.shape[1],
            }


def as_markdown(table: pd.DataFrame) -> str:
    """The table for people: a row a model, a column a domain."""
    domains = list(dict.fromkeys(table["domain"]))
    lines = [f"| model | {' | '.join(domains)} |", f"|---{'|---' * len(domains)}|"]
    for model, rows in table.groupby("model", sort=False):
        by_domain = rows.set_index("domain")
        lines.append(f"| {model} | {' | '.join(_cell(by_domain.loc[domain]) for domain in domains)} |")
    return "\n".join(lines)


def _cell(row: pd.Series) -> str:
    text = f"{row['area']:.2f}"
    if row["n"] > 1:
        text += f" ± {row['high'] - row['area']:.2f}"
    if not np.isnan(row["difference"]):
        text += f" ({row['difference']:+.2f}: {row['difference_low']:+.2f} to {row['difference_high']:+.2f})"
    return text
