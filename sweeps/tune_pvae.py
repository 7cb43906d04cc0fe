"""Search over training configurations of the partial VAE of audiograms, at a fixed target rate.

Optuna asks configurations in rounds, which train as packs; the best one is trained again with fresh seeds beside the
preset's default.

    python sweeps/tune_pvae.py                                             minutes, on synthetic audiograms
    python sweeps/tune_pvae.py --preset laptop --data nhanes:DIR           against the thesis' model, on real ones
    python sweeps/tune_pvae.py --set model.latents=8 --trials 40 --sampler gp
    python sweeps/tune_pvae.py --objective maximise=valid/elbo minimise=valid/rmse_unobserved
"""

from vaesweep.cli.search_script import main
from vaesweep.search.objectives import maximise
from vaesweep.search.search import Search, SearchPreset
from vaesweep.search.space import choice, integers, loguniform, uniform

CONTROL = {"rates.total.kind": "target", "rates.total.target": 2.5}  # nats per datum
SPACE = {
    "training.learning_rate": loguniform(3e-4, 3e-2),
    "training.weight_decay": uniform(0.0, 0.2),
    "training.batch_size": choice([64, 128]),
    "model.latents": integers(2, 12),
    "model.hidden": choice([64, 128]),
    "model.linear_path": choice([False, True]),
}


def presets(data: str) -> dict[str, SearchPreset]:
    """`smoke` takes minutes on two cores, `laptop` an hour; `paper` trains each trial as long as the thesis did."""
    return {
        "smoke": SearchPreset(CONTROL | {"training.steps": 1500}, trials=24, batch=8, confirm=5),
        "laptop": SearchPreset(CONTROL | {"training.steps": 8000}, trials=64, batch=16, confirm=5),
        "paper": SearchPreset(
            CONTROL | {"training.steps": 16000, "training.evaluate_every": 400}, trials=128, batch=16, confirm=10
        ),
    }


SEARCH = Search("tune_pvae", "pvae", presets, SPACE, [maximise("valid/elbo")])

if __name__ == "__main__":
    raise SystemExit(main(SEARCH, __doc__))
