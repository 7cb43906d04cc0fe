"""A sweep's report on hierarchies (thesis study C): steps after training, findings, rates, and chosen cells' images.

The tables and figures belong to the sweep; a cell's pictures are logged with the cell's own run.
"""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from vaesweep.analysis.findings import DomainFinding, findings_table, summarise
from vaesweep.analysis.groups import REGIME
from vaesweep.analysis.load import download_cell
from vaesweep.analysis.report import Report
from vaesweep.analysis.runs import Runs, client_of, log_files
from vaesweep.data.domains import DataSet, Role
from vaesweep.data.writing import replace_file
from vaesweep.errors import UserError
from vaesweep.families.hvae.analysis.cells import GROUP, Hierarchies, depths_of
from vaesweep.families.hvae.analysis.continuity import bound_parts, continuity, has_steps
from vaesweep.families.hvae.analysis.continuity_figure import ContinuityCurves, draw_continuity
from vaesweep.families.hvae.analysis.example import process_of
from vaesweep.families.hvae.analysis.findings import findings
from vaesweep.families.hvae.analysis.pictures import draw_prior_samples, draw_reconstructions, draw_top_level
from vaesweep.families.hvae.analysis.processes import draw_processes
from vaesweep.families.hvae.analysis.rates import draw_rates, have_curve, split_rates
from vaesweep.families.hvae.analysis.references import references
from vaesweep.families.hvae.analysis.trained import TrainedCell, restore_hierarchy, rows_to_show
from vaesweep.families.hvae.family import HierarchyCell
from vaesweep.vocabulary import store_uri

FOLDER = "hierarchy"  # of a cell's pictures, among the artifacts of its run
MANY = 4  # domains: of more than these, only the test domain is drawn
ROWS = 4  # images of a chosen cell, or all there are


def report(runs: Runs, data: DataSet, out: Path, tracking_uri: str | None = None) -> Report:
    """Write continuity.csv, hierarchy_findings.csv, hierarchy_rates.csv and the figures there are data for into `out`.

    For the best cell of each variant on validation images, pictures are written below `out`, in a folder each, and
    logged with the cell's run; models are read from `tracking_uri`, by default the store that sweeps write to.
    """
    store = tracking_uri or store_uri()
    cells = Hierarchies.of(runs, depths_of(runs, store))
    if cells.points.empty:
        return Report((), ("hierarchy: no hierarchy has finished, so there is nothing to report yet",))
    title = f"{runs.record.name} (preset {runs.record.preset})"
    files: dict[str, Callable[[Path], object]] = {}
    results = _steps(cells, data, title, files, _evaluated(runs, cells, store))
    _rates(cells, title, files)
    out.mkdir(parents=True, exist_ok=True)
    paths = tuple(replace_file(out / name, write) for name, write in files.items())
    return Report(paths, (*summarise(results), *_pictures(runs, cells, data, out, store)))


def write_pictures(cell: TrainedCell, count: int, about: str, out: Path) -> tuple[Path, ...]:
    """Write all pictures of one cell, of `count` images; processes only where levels have steps.

    UserError of a count below one or above the number of images.
    """
    rows = rows_to_show(cell, count)
    steps = f", {cell.steps} steps a level" if cell.steps else ""
    title = f"{about}: {cell.domain}{steps}"
    out.mkdir(parents=True, exist_ok=True)
    files: dict[str, Callable[[Path], object]] = {
        "reconstructions.png": partial(draw_reconstructions, cell, rows, f"{title}\nreconstructions"),
        "prior_samples.png": partial(draw_prior_samples, cell, f"{about}{steps}\ndrawn from the prior"),
        "top_level.png": partial(draw_top_level, cell, rows, f"{title}\ntold to the topmost level only"),
    }
    if cell.steps:
        row = int(rows[0])
        process = process_of(cell, row)
        files["processes.png"] = partial(draw_processes, process, f"{title}\nprocesses of image {row}")
    return tuple(replace_file(out / name, write) for name, write in files.items())


def chosen_cells(cells: Hierarchies) -> dict[str, str]:
    """The cell of the highest ELBO on validation images of every variant, by the variant's name."""
    valid = cells.points[cells.points["role"] == Role.VALID]
    chosen: dict[str, str] = {}
    for regime, rows in valid.groupby(REGIME, sort=False):
        best = rows.sort_values("elbo", ascending=False).iloc[0]
        chosen[str(regime) or cells.depths[best[GROUP]].kind] = str(best["cell"])
    return chosen


def _steps(
    cells: Hierarchies, data: DataSet, title: str, files: dict[str, Callable[[Path], object]], rows: int
) -> list[DomainFinding]:
    """Add tables and figures about steps to `files` and return findings; none where no cell has other steps."""
    values = bound_parts(cells)
    table = continuity(cells, values)
    if not has_steps(table):
        return []
    results = findings(cells, values)
    files["continuity.csv"] = partial(table.to_csv, index=False)
    files["hierarchy_findings.csv"] = partial(findings_table(results, [GROUP]).to_csv, index=False)
    roles = dict(zip(table["domain"], table["role"], strict=True))
    for domain, role in roles.items():
        if role == Role.TEST or len(roles) <= MANY:
            name = "continuity.png" if role == Role.TEST else f"continuity_{domain}.png"
            curves = ContinuityCurves(table[table["domain"] == domain], references(data, domain, rows))
            files[name] = partial(draw_continuity, curves, f"{title}: {domain}")
    return results


def _rates(cells: Hierarchies, title: str, files: dict[str, Callable[[Path], object]]) -> None:
    table = split_rates(cells)
    if have_curve(table):
        files["hierarchy_rates.csv"] = partial(table.to_csv, index=False)
        files["hierarchy_rates.png"] = partial(draw_rates, table, f"{title}: where the rate is, on the test domain")


def _evaluated(runs: Runs, cells: Hierarchies, store: str) -> int:
    """The largest number of images of a domain that the sweep's cells were evaluated on."""
    params = client_of(store).get_run(runs.run_ids[str(cells.points["cell"].iloc[0])]).data.params
    return int(params.get("evaluation.rows", HierarchyCell().evaluation.rows))


def _pictures(runs: Runs, cells: Hierarchies, data: DataSet, out: Path, store: str) -> Iterator[str]:
    """Draw and log chosen cells, and yield a line about each."""
    client = client_of(store)
    for variant, cell in chosen_cells(cells).items():
        folder = out / FOLDER / variant.replace(" ", "_").replace("/", "_")
        try:
            hierarchy = restore_hierarchy(download_cell(client, runs.run_ids[cell]), data)
            count = min(ROWS, hierarchy.population.rows)
            paths = write_pictures(hierarchy, count, f"{variant}: cell {cell}", folder)
        except UserError as error:
            yield f"hierarchy: no pictures of {variant} (cell {cell}): {error}"
            continue
        log_files(runs.run_ids[cell], paths, store, FOLDER)
        yield f"{variant}: best on validation is cell {cell}: {folder}"
