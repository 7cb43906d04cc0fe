"""What a sweep's findings on separation are of: rates, training, what is heard, and what their intervals are over."""

from collections.abc import Collection, Iterator

from vaesweep.analysis.runs import Runs
from vaesweep.data.domains import DataSet, Role
from vaesweep.families.emd.analysis.curves import OWN_RATE, TOTAL, Separators, on_axis
from vaesweep.families.emd.data.pulses import PulseCondition
from vaesweep.families.emd.data.speech import SpeechSource
from vaesweep.families.emd.evaluation import MODE


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


def heard(data: DataSet) -> dict[str, str]:
    """By domain `noisy` or `clean`: whether there is noise in its mixtures. References have none, either way."""
    noisy = {}
    for domain in data.domains:
        if isinstance(domain.source, SpeechSource):
            noisy[domain.name] = domain.source.noisy
        elif isinstance(domain.condition, PulseCondition):
            noisy[domain.name] = domain.condition.noise_amplitude > 0
    return {name: "noisy" if is_noisy else "clean" for name, is_noisy in noisy.items()}


def noise_note(data: DataSet, qualities: Collection[str]) -> Iterator[str]:
    """A line on recordings with noise, judged by `qualities`: what the references are, and STOI where it is missing."""
    judged = [domain for domain in data.domains if domain.role in (Role.TEST, Role.UNSEEN)]
    noisy = [d.name for d in judged if isinstance(d.source, SpeechSource) and d.source.noisy]
    if noisy:
        line = f"separation: there is noise in {', '.join(noisy)}; references are the clean sources"
        missing = f"stoi.{MODE}" not in qualities
        yield line + ("; STOI belongs beside SI-SDR there: --set evaluation.qualities=[[stoi]]" if missing else "")


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
