"""The names of a hierarchy's rates, which presets set without importing its models."""

INITIAL = "initial"  # the name of the initial value's rate


def level_name(level: int) -> str:
    """The name of a level's rate; level 0 is the topmost."""
    return f"level_{level}"
