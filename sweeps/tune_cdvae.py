"""Search over training configurations of hierarchical VAEs that are continuous in depth.

β rises to one as in the thesis: the objective is the bound itself, and no rate is steered.

    python sweeps/tune_cdvae.py                                     minutes, on Poisson images
    python sweeps/tune_cdvae.py --preset laptop --set model.depth.kind=discrete
    python sweeps/tune_cdvae.py --data mnist:DIR --objective maximise=valid/elbo minimise=valid/rate
"""

from vaesweep.cli.search_script import main
from vaesweep.families.hvae.presets import CONTINUOUS, WARM_UP, laptop, smoke
from vaesweep.search.objectives import maximise
from vaesweep.search.search import Search, SearchPreset
from vaesweep.search.space import choice, integers, loguniform

SPACE = {
    "training.learning_rate": loguniform(5e-4, 2e-2),
    "training.clip_norm": loguniform(10.0, 1000.0),
    "model.latents": integers(2, 8),
    "training.batch_size": choice([8, 16, 32]),
}


def presets(data: str) -> dict[str, SearchPreset]:
    """`smoke` takes minutes on two cores, `laptop` hours."""
    few = smoke(data) | CONTINUOUS | WARM_UP | {"training.steps": 60, "rates.total.steps": 20}
    more = laptop(data) | CONTINUOUS | WARM_UP | {"rates.total.steps": 300}
    return {
        "smoke": SearchPreset(few, trials=6, batch=3, confirm=2),
        "laptop": SearchPreset(more, trials=32, batch=8, confirm=3),
    }


SEARCH = Search("tune_cdvae", "hvae", presets, SPACE, [maximise("valid/elbo")], default_data="poisson")

if __name__ == "__main__":
    raise SystemExit(main(SEARCH, __doc__))
