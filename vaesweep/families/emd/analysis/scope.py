"""What a sweep's findings on separation are of: rates, training, and what their intervals are over."""

from collections.abc import Iterator

from vaesweep.analysis.runs import Runs
from vaesweep.data.domains import Role
from vaesweep.families.emd.analysis.curves import OWN_RATE, TOTAL, Separators, on_axis


def scope(runs: Runs, cells: Separators) -> Iterator[str]:
    """One line on how far the findings reach; none where the sweep's cells are not found with their settings."""
    settings = [runs.params[cell] for cell in runs.cells["cell"] if cell in runs.params]
    if not settings:
        return
    steps, batch, seconds = (
        _span([setting[key] for setting in settings for key in keys if key in setting])
        for keys in (("training.steps",), ("training.batch_size",), ("data.condition.seconds", "data.seconds"))
    )
    parts = [f"{steps} steps of {batch} mixtures of {seconds} s", *_rates(cells, settings[0]), _drawn(runs, settings)]
    yield f"separation: what follows is of {'; '.join(parts)}"


def _span(values: list[str]) -> str:
    numbers = sorted({float(value) for value in values})
    ends = [f"{number:g}" for number in (numbers[:1] + numbers[-1:] if len(numbers) > 1 else numbers)]
    return " to ".join(ends) or "?"


def _rates(cells: Separators, setting: dict[str, str]) -> Iterator[str]:
    points = on_axis(cells.variational, TOTAL)
    rates = points.loc[points["role"] == Role.TEST, OWN_RATE] / float(setting.get("model.sample_rate", "nan"))
    if len(rates):
        channels = float(setting.get("model.latents", "nan"))
        yield (
            f"rates of {rates.min():.3g} to {rates.max():.3g} nats a sample "
            f"({rates.min() / channels:.3g} to {rates.max() / channels:.3g} a channel)"
        )


def _drawn(runs: Runs, settings: list[dict[str, str]]) -> str:
    seeds = len({setting.get("seed") for setting in settings})
    rows = _span([str(domain.rows) for domain in runs.record.domains if domain.role in (Role.TEST, Role.UNSEEN)])
    own = seeds > 1 and runs.record.data_sets == seeds
    drawn = ", each with mixtures of its own" if own else ", on the same mixtures" if seeds > 1 else ""
    return f"{seeds} seed{'s' if seeds != 1 else ''}{drawn}, {rows} mixtures a test domain"
