"""Whether a training step is compiled, as the command line names it."""

from typing import Literal

Compile = Literal["auto", "always", "never"]
