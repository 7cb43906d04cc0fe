"""Trained cells evaluated again beside the classical baselines: more samples, all listeners, ensembles of seeds.

A sweep judges its cells with few samples, since there are many of them. Here the cells of one point acquire every
listener of the validation, test and unseen domains again, with as many samples as asked for, singly and as an ensemble
of their seeds (`tasks.ensemble`); Gaussian mixtures acquire the same listeners by the same rule, singly and as an
ensemble of their fits. Where the cells trained on mirrored ears, mixtures are fitted to these too. Intervals are over
seeds or fits; those of differences to the mixture that validation chooses are over all that was drawn (`differences`).
"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from vaesweep.analysis.intervals import t_interval
from vaesweep.data.domains import DataSet, Role
from vaesweep.errors import UserError
from vaesweep.families.pvae.analysis.baselines import Kind, fit, mixture_name
from vaesweep.families.pvae.analysis.differences import Difference, difference
from vaesweep.families.pvae.analysis.records import has_mirrored
from vaesweep.families.pvae.evaluation import ADAPTIVE, AGE, STOPPING_RULE, RuleName, predictor
from vaesweep.families.pvae.tasks.acquisition import acquire, area
from vaesweep.families.pvae.tasks.ensemble import Ensemble
from vaesweep.families.pvae.tasks.predictive import Predictor
from vaesweep.families.pvae.trained import TrainedPartialVae
from vaesweep.training.finished import FinishedCell
from vaesweep.training.stack import Stack

KINDS: tuple[Kind, ...] = ((1, False), (10, False), (20, False))
MIRRORED_KINDS: tuple[Kind, ...] = ((10, True), (20, True), (30, True))
DIFFERENCES = ("difference", "difference_low", "difference_high")
JUDGED = (Role.VALID, Role.TEST, Role.UNSEEN)

Areas = dict[str, Tensor]  # by domain, [replicate, row], measurement·dB
BySplit = dict[str, dict[str, np.ndarray]]  # by domain and split, [replicate, row], measurement·dB


def rematch(
    cells: Mapping[str, Sequence[FinishedCell]],
    data: Mapping[str, DataSet],
    samples: int,
    prior_samples: int | None = None,
    rule: RuleName = STOPPING_RULE,
) -> pd.DataFrame:
    """A row a model and domain: mean area by `rule` (one of `ADAPTIVE`), its interval over replicates, the difference.

    `cells`, by split of the `data`, must share their configuration but for the seed. Columns: model, domain, role,
    area, low, high, n, difference, difference_low, difference_high, n_data, n_seeds, n_fits, n_splits. Differences are
    to the mixture with the lowest area on validation data, with intervals over all that was drawn. `prior_samples` of
    the prior are beside those of the posterior in weighted predictions, by default as many as in the configuration.
    """
    mirrored = any(has_mirrored(cell.config) for own in cells.values() for cell in own)
    kinds = (*KINDS, *(MIRRORED_KINDS if mirrored else ()))
    names = {mixture_name(count, mirrored=both): (count, both) for count, both in kinds}
    areas: dict[str, BySplit] = {}
    for split, own in cells.items():
        for model, predicts in _models(own, data[split], names, samples, prior_samples).items():
            for domain, values in areas_of(predicts, data[split], rule).items():
                areas.setdefault(model, {}).setdefault(domain, {})[split] = values.numpy()
    first = next(iter(data.values()))
    valid = first.domain(Role.VALID).name
    reference = min(names, key=lambda name: _mean(areas[name][valid]))
    return pd.DataFrame(list(_rows(areas, reference, data)))


def _models(
    cells: Sequence[FinishedCell],
    data: DataSet,
    mixtures: Mapping[str, Kind],
    samples: int,
    prior_samples: int | None,
) -> dict[str, Predictor]:
    """The cells of a split and the mixtures fitted to it, by name."""
    plain, weighted = (stacked_predictor(cells, samples, prior_samples, weighted=choice) for choice in (False, True))
    models: dict[str, Predictor] = {
        "partial VAE, plain samples": plain,
        "partial VAE": weighted,
        "partial VAE, seeds together": Ensemble(weighted),
    }
    train = data.domain(Role.TRAIN).arrays["x"]
    for name, (count, mirrored) in mixtures.items():
        models[name] = fit(train, count, mirrored=mirrored)
        if count > 1:
            models[f"{name}, fits together"] = Ensemble(models[name])
    return models


def _mean(by_split: Mapping[str, np.ndarray]) -> float:
    return float(np.mean([values.mean() for values in by_split.values()]))


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


def _rows(areas: Mapping[str, BySplit], reference: str, data: Mapping[str, DataSet]) -> Iterator[dict[str, object]]:
    roles = {domain.name: domain.role for one in data.values() for domain in one.domains}
    fingerprints = [one.fingerprints() for one in data.values()]
    for model, by_domain in areas.items():
        for domain, by_split in by_domain.items():
            interval = t_interval(np.concatenate([values.mean(-1) for values in by_split.values()]))
            same_listeners = len({known[domain] for known in fingerprints}) == 1
            found = difference(by_split, areas[reference][domain], same_listeners=same_listeners)
            assert found is not None  # all models acquire the same rows
            yield {
                "model": model,
                "domain": domain,
                "role": str(roles[domain]),
                "area": interval.mean,
                "low": interval.low,
                "high": interval.high,
                "n": interval.n,
                **(_difference(found) if model != reference else dict.fromkeys(DIFFERENCES, np.nan)),
                "n_data": found.listeners,
                "n_seeds": found.seeds,
                "n_fits": found.fits,
                "n_splits": found.splits,
            }


def _difference(found: Difference) -> dict[str, float]:
    interval = found.interval
    return dict(zip(DIFFERENCES, (interval.mean, interval.low, interval.high), strict=True))


def as_markdown(table: pd.DataFrame) -> str:
    """The table for people: a row a model, a column a domain."""
    domains = list(dict.fromkeys(table["domain"]))
    lines = [f"| model | {' | '.join(domains)} |", f"|---{'|---' * len(domains)}|"]
    for model, rows in table.groupby("model", sort=False):
        by_domain = rows.set_index("domain")
        lines.append(f"| {model} | {' | '.join(_cell(by_domain.loc[domain]) for domain in domains)} |")
    return "\n".join(lines)


def compared(table: pd.DataFrame) -> str:
    """What differences are to and over, in words."""
    reference = table.loc[table["difference"].isna(), "model"].iloc[0]
    counts = table.loc[table["model"] == "partial VAE"].iloc[0]
    over = f"listeners, {counts['n_seeds']} seeds, {counts['n_fits']} fits and {counts['n_splits']} splits"
    return f"difference to the {reference}, which validation chooses: 95 % over {over}"


def _cell(row: pd.Series) -> str:
    text = f"{row['area']:.2f}"
    if row["n"] > 1:
        text += f" ± {row['high'] - row['area']:.2f}"
    if not np.isnan(row["difference"]):
        text += f" ({row['difference']:+.2f}: {row['difference_low']:+.2f} to {row['difference_high']:+.2f})"
    return text
