"""A sweep's report on separation (thesis study B): curves, findings, and one mixture separated by chosen cells.

The tables and figures belong to the sweep; a cell's picture and audio files are logged with the cell's own run.
"""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pandas as pd

from vaesweep.analysis.findings import findings_table, summarise
from vaesweep.analysis.groups import POINT, REGIME
from vaesweep.analysis.load import download_cell
from vaesweep.analysis.report import Report
from vaesweep.analysis.runs import Runs, client_of, log_files
from vaesweep.data.domains import DataSet, Role
from vaesweep.data.writing import replace_file
from vaesweep.errors import UserError
from vaesweep.families.emd.analysis.audio import write_audio
from vaesweep.families.emd.analysis.curves import (
    BLR,
    SI_SDRI,
    Separators,
    chosen_cells,
    estimates_table,
    separation_curve,
)
from vaesweep.families.emd.analysis.example import Example, separate
from vaesweep.families.emd.analysis.findings import findings
from vaesweep.families.emd.analysis.generalisation import differences_table, generalisation_table, judged, models, read
from vaesweep.families.emd.analysis.picture import draw_example
from vaesweep.families.emd.analysis.rate_figures import SeparationCurves, draw_conditions, draw_rates, extremes
from vaesweep.families.emd.analysis.scope import heard, noise_note, scope
from vaesweep.families.emd.analysis.uncertainty import Scores, evidence, level_of, uncertainty_table
from vaesweep.families.emd.analysis.uncertainty_figure import DOMAINS, draw_uncertainty, rows
from vaesweep.families.emd.evaluation import MODE, SAMPLE
from vaesweep.vocabulary import store_uri

BY = {
    MODE: "the modes of the latent variables, the estimate that a user would deploy",
    SAMPLE: "one sample of the latent variables, the only estimate that cells of release 0.1 have",
}
FOLDER = "separation"  # of a cell's pictures and sounds, among the artifacts of its run


def report(runs: Runs, data: DataSet, out: Path, tracking_uri: str | None = None) -> Report:
    """Write curve, findings and estimates, `separation_….csv`, and the figures that the sweep has data for into `out`.

    For chosen cells a picture and audio files of the first test mixture are written below `out`, in a folder each, and
    logged with the cell's run; the models are read from `tracking_uri`, by default the store that sweeps write to.
    """
    cells = Separators.of(runs)
    if cells.variational.empty and cells.deterministic.empty:
        return Report((), ("separation: no separator has finished, so there is nothing to report yet",))
    curve = separation_curve(runs, cells)
    results = findings(cells, curve)
    out.mkdir(parents=True, exist_ok=True)
    files: dict[str, Callable[[Path], object]] = {
        "separation_curve.csv": partial(curve.to_csv, index=False),
        "separation_findings.csv": partial(findings_table(results, ["metric", "regime"]).to_csv, index=False),
        **_figures(runs, cells, curve),
    }
    estimates = estimates_table(runs)
    if len(estimates):
        files["separation_estimates.csv"] = partial(estimates.to_csv, index=False)
    kept = read(runs, tracking_uri or store_uri())
    by_quality = judged(runs, kept)
    if by_quality:
        table, differences = generalisation_table(runs, by_quality, heard(data)), differences_table(by_quality)
        files["separation_generalisation.csv"] = partial(table.to_csv, index=False)
        files["separation_differences.csv"] = partial(differences.to_csv, index=False)
    files |= _uncertainty(runs, cells, evidence(runs, kept), level_of(kept))
    paths = tuple(replace_file(out / name, write) for name, write in files.items())
    pictures = _pictures(runs, cells, data, out, tracking_uri or store_uri())
    about = (f"separation: judged by {BY[cells.estimate]}", *scope(runs, cells), *noise_note(data, by_quality))
    return Report(paths, (*about, *summarise(results), *pictures))


def write_example(example: Example, title: str, out: Path) -> tuple[Path, ...]:
    """Write the picture and the audio files of one separated mixture and return their paths."""
    out.mkdir(parents=True, exist_ok=True)
    picture = replace_file(out / "separation.png", partial(draw_example, example, title))
    return (picture, *write_audio(example, out))


def _figures(runs: Runs, cells: Separators, curve: pd.DataFrame) -> dict[str, Callable[[Path], object]]:
    """The figures of every regime that has a curve, by name."""
    files: dict[str, Callable[[Path], object]] = {}
    points = cells.variational.groupby(REGIME, sort=False)[POINT].nunique()
    drawable = [str(regime) for regime in points.index[points > 1]]
    for regime in drawable:
        ending = f"_{regime}" if len(drawable) > 1 else ""
        name = f"{runs.record.name} (preset {runs.record.preset}){': ' + regime if regime else ''}"
        curves = SeparationCurves(cells, curve, regime, name)
        files[f"separation_rates{ending}.png"] = partial(draw_rates, curves)
        files[f"conditions_blr{ending}.png"] = partial(draw_conditions, curves, BLR)
        files[f"conditions_si_sdri{ending}.png"] = partial(draw_conditions, curves, SI_SDRI)
    return files


def _uncertainty(runs: Runs, cells: Separators, scores: Scores, level: float) -> dict[str, Callable[[Path], object]]:
    """The table and the figure of what separators say of their quality; none where they say nothing."""
    roles = {domain.role: domain.name for domain in runs.record.domains}
    if not scores:
        return {}
    places = models(runs)
    variational = {places[cell][0] for cell in cells.variational["cell"] if cell in places}
    unseen = cells.domains(Role.UNSEEN)
    shown = list(dict.fromkeys([roles[Role.TEST], *extremes(unseen), *unseen]))[:DOMAINS]
    chosen = rows(scores, variational, roles[Role.VALID], shown)
    title = f"{runs.record.name} (preset {runs.record.preset}): quality without references"
    files: dict[str, Callable[[Path], object]] = {
        "separation_uncertainty.csv": partial(uncertainty_table(runs, scores).to_csv, index=False)
    }
    if chosen:
        files["separation_uncertainty.png"] = partial(draw_uncertainty, chosen, shown, level, title)
    return files


def _pictures(runs: Runs, cells: Separators, data: DataSet, out: Path, tracking_uri: str) -> Iterator[str]:
    """Draw and log chosen cells, and yield a line about each."""
    client = client_of(tracking_uri)
    reasons: dict[str, list[str]] = {}
    for reason, cell in chosen_cells(cells).items():
        reasons.setdefault(cell, []).append(reason)
    for cell, names in reasons.items():
        label, folder = ", ".join(names).replace("_", " "), out / FOLDER / "_".join(names)
        try:
            example = separate(download_cell(client, runs.run_ids[cell]), data)
        except UserError as error:
            yield f"separation: no picture of {label} (cell {cell}): {error}"
            continue
        paths = write_example(example, f"{label}: cell {cell}, {example.domain} {example.row}", folder)
        log_files(runs.run_ids[cell], paths, tracking_uri, FOLDER)
        quality = ", ".join(f"{value:.1f}" for value in example.si_sdr.tolist())
        yield f"{label}: cell {cell}, {example.domain} {example.row}, SI-SDR {quality} dB: {folder}"
