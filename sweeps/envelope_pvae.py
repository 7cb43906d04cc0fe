"""The envelope of partial VAEs: the least distortion at each rate that any configuration of a space reaches.

One search over configurations and target rates together; its Pareto front is drawn beside the curve of a sweep with the
preset's one configuration. The front of noisy trials is optimistic: points of it are trained again with fresh seeds,
each beside the preset's default at the same target rate.

    python sweeps/envelope_pvae.py                                          minutes, on synthetic audiograms
    python sweeps/envelope_pvae.py --curve results/rd_curve_pvae/curve.csv  beside the curve of rd_curve_pvae.py
    python sweeps/envelope_pvae.py --preset laptop --data nhanes:DIR
"""

from vaesweep.cli.search_script import main
from vaesweep.search.objectives import minimise
from vaesweep.search.search import Search, SearchPreset
from vaesweep.search.space import choice, integers, loguniform, uniform

CONTROL = {"rates.total.kind": "target", "rates.total.target": 2.5}  # the target of the trial that is tried first
SPACE = {
    "rates.total.target": uniform(0.5, 5.0),  # nats per datum
    "training.learning_rate": loguniform(1e-3, 3e-2),
    "model.latents": integers(2, 12),
    "training.batch_size": choice([32, 64, 128]),
}


def presets(data: str) -> dict[str, SearchPreset]:
    """`smoke` takes minutes on two cores, `laptop` hours."""
    return {
        "smoke": SearchPreset(CONTROL | {"training.steps": 1500}, trials=32, batch=16, confirm=3),
        "laptop": SearchPreset(CONTROL | {"training.steps": 8000}, trials=96, batch=32, confirm=5),
    }


SEARCH = Search("envelope_pvae", "pvae", presets, SPACE, [minimise("valid/rate"), minimise("valid/distortion")])

if __name__ == "__main__":
    raise SystemExit(main(SEARCH, __doc__))
