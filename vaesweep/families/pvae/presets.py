"""Numbers of the thesis with their lines, and steps to the best model, for all sweeps of partial VAEs."""

from typing import Any

import numpy as np

from vaesweep.families.pvae.data.audiograms import THRESHOLDS

# Thesis line 770: 0.125 to 1.5 by 0.125, on to 8 by 0.25, on to 15 by 1; 45 targets, in nats per datum.
PAPER_TARGETS = tuple(float(t) for t in np.concatenate([np.arange(1, 13) / 8, np.arange(7, 33) / 4, np.arange(9, 16)]))
PAPER_SEEDS_REAL, PAPER_SEEDS_SYNTHETIC = 3, 10  # thesis line 770
_MISSINGNESS = {"data.missingness": "acquisition"}
_LARGER = _MISSINGNESS | {
    "model.latents": 8,
    "model.hidden": 128,
    "model.features": 64,
    "training.batch_size": 256,
    "training.steps": 20000,
}
_PATH = _LARGER | {
    "model.linear_path": True,
    "rates.total.kind": "linear",
    "rates.total.steps": 6000,
}
_COVARIANCE = _PATH | {"model.posterior": "full"}
_PRIOR = _COVARIANCE | {"model.prior": "mixture"}
_FLOOR = _PRIOR | {"model.minimum_std": 0.3}
_EVERY_RULE = {"acquisition.rules": ("variance", "unweighted", "random", "single_best")}
_BEST = _EVERY_RULE | {
    "model.latents": 12,
    "model.prior_components": 20,
    "training.steps": 60000,
    "training.evaluate_every": 1000,
    "rates.total.steps": 18000,
}
# A wider decoder, pretrained as "larger and longer" is and on mirrored ears, then trained on by a tighter bound.
_WEIGHTED = {
    "model.draws": 32,
    "model.decoder_hidden": 256,
    "model.minimum_std": (0.1,) * THRESHOLDS + (0.3,),
    "training.weight_decay": 0.1,
    "training.average": 0.9995,
    "training.steps": 4000,
    "acquisition.samples": 500,
    "acquisition.prior_samples": 500,
    "pretraining.model.draws": 1,
    "pretraining.model.minimum_std": 0.3,
    "pretraining.data.mirror": True,
    "pretraining.rates.total.kind": "linear",
    "pretraining.rates.total.steps": 18000,
    "pretraining.training.weight_decay": 0.0,
    "pretraining.training.average": 0.0,
    "pretraining.training.steps": 60000,
}
# The last of these in minutes a cell: a sixth of its steps, a bound of eight draws, and fewer listeners and samples.
SHORT = {
    "acquisition.rules": ("variance",),
    "acquisition.rows": 700,
    "acquisition.samples": 100,
    "acquisition.prior_samples": 100,
    "model.draws": 8,
    "training.steps": 1000,
    "pretraining.training.steps": 10000,
    "pretraining.rates.total.steps": 3000,
}
THESIS_CYCLES = ("1999-2000", "2001-2002", "2003-2004", "2011-2012", "2015-2016")  # of NHANES: line 636
# From the thesis' model to the best one, each built on an earlier step (docs/acquisition_results.md).
STEPS_TO_THE_BEST: dict[str, dict[str, Any]] = {
    "thesis": {"training.steps": 16000},
    "missingness": {"training.steps": 16000} | _MISSINGNESS,
    "capacity": _LARGER,
    "linear path": _PATH,
    "full covariance": _COVARIANCE,
    "mixture prior": _PRIOR,
    "noise floor": _FLOOR,
    "attention": _FLOOR | {"model.embed": "attention", "model.features": 32},
    "concatenation": _FLOOR | {"model.embed": "concatenation"},
    "larger and longer": _FLOOR | _BEST,
    "importance weighted": {k: v for k, v in (_FLOOR | _BEST).items() if not k.startswith("rates.")} | _WEIGHTED,
}
