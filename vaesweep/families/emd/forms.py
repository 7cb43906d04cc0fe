"""The kinds of `--data` of separators, for help pages and presets, which do without models and loaders."""

PULSES, SPEECH = "pulses", "speech"
WRITTEN = ("librimix", "wham", "whamr")  # each reads all layouts: folders say which it is
DATA_FORMS = (PULSES, *(f"{kind}:DIR" for kind in (SPEECH, *WRITTEN)))


def is_speech(spec: str) -> bool:
    """Whether `--data` names recordings or mixtures of them."""
    return spec.strip().partition(":")[0] in (SPEECH, *WRITTEN)
