"""The command line: the parts that scripts share, and the `vaesweep` command."""

from vaesweep.cli import signals

signals.watch()
