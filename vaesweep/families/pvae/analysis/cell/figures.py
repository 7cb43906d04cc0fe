"""The thesis' Figures 1 to 5, drawn for one trained cell of a sweep.

representation.png        Figure 1  archetypes, encodings, decoded grid
acquisition_sequence.png  Figure 2  one listener: estimate, acquisition function, latent space
information_curves.png    Figure 3  error against measurements, this listener's and all test listeners'
error_predictors.png      Figure 4  quantities that predict the error of an estimate
stopping.png              Figure 5  stopping by these predictions
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from vaesweep.analysis.report import Report
from vaesweep.data.domains import Role
from vaesweep.errors import UserError
from vaesweep.families.pvae.analysis.cell.acquisition_sequence import MEASUREMENTS, Acquisition, draw_acquisition
from vaesweep.families.pvae.analysis.cell.information_curves import (
    InformationCurves,
    draw_information_curves,
    typical_listener,
)
from vaesweep.families.pvae.analysis.cell.representation import Representation, draw_representation
from vaesweep.families.pvae.analysis.cell.stopping import (
    ErrorPredictors,
    Stopping,
    draw_error_predictors,
    draw_stopping,
)
from vaesweep.families.pvae.analysis.cell.trained import TrainedCell


def write(
    cell: TrainedCell, out: Path, listener: int | None = None, measurements: Sequence[int] = MEASUREMENTS
) -> Report:
    """Draw the five figures of `cell` into `out`.

    `listener` counts the test listeners that are acquired, from 0; by default the one of median area under the RMSE
    curve. Figure 2 shows its sequence after `measurements`. Raises `UserError` where there is no such listener.
    """
    count = len(cell.test.x)
    if listener is not None and not 0 <= listener < count:
        raise UserError(f"--listener {listener}: the test listeners that are acquired are 0..{count - 1}")
    chosen = typical_listener(cell) if listener is None else listener
    population = cell.data.domain(Role.TRAIN).name.rpartition(".")[0]
    about = f"cell {cell.name}, {population}, {cell.config.model.latents} latents"
    acquisition = Acquisition.of(cell, chosen, measurements)
    curves, errors, stopping = InformationCurves.of(cell, chosen), ErrorPredictors.of(cell), Stopping.of(cell)
    out.mkdir(parents=True, exist_ok=True)
    listener_title, stopping_title = (
        f"{about}: test listener {chosen}",
        f"{about}: done below {stopping.threshold:g} dB",
    )
    paths = (
        draw_representation(Representation.of(cell), f"{about}: representation", out / "representation.png"),
        draw_acquisition(acquisition, listener_title, out / "acquisition_sequence.png"),
        draw_information_curves(curves, listener_title, out / "information_curves.png"),
        draw_error_predictors(errors, f"{about}: {count} test sequences", out / "error_predictors.png"),
        draw_stopping(stopping, stopping_title, out / "stopping.png"),
    )
    return Report(paths, tuple(_summary(cell, chosen, curves, errors, stopping)))


def _summary(
    cell: TrainedCell, listener: int, curves: InformationCurves, errors: ErrorPredictors, stopping: Stopping
) -> Iterator[str]:
    if cell.config.model.latents != 2:
        first, second = (dim + 1 for dim in cell.plane)
        yield (
            f"cell {cell.name} has {cell.config.model.latents} latents: z{first} and z{second}, of highest rate, are "
            "shown, and no decoded grid"
        )
    for curve in curves.curves:
        yield (
            f"area under {curve.name}: {curve.area:.4g} of listener {listener}, {curve.mean_area:.4g} ± "
            f"{curve.std_area:.4g} of {curves.listeners} listeners [measurement·{curve.unit}]"
        )
    names = ("m", "mean variance", "bound", "linear estimate")
    correlations = (
        f"{name} {predictor.correlation:+.2f}" for name, predictor in zip(names, errors.predictors, strict=True)
    )
    yield f"correlation with the RMSE: {', '.join(correlations)}"
    for stops in stopping.rows:
        offset = float(stops.result.mean_absolute_offset[0])
        yield f"stop at {stopping.threshold:g} dB by {' '.join(stops.label.split())}: mean |offset| {offset:.3g}"
