"""The command line: what every sweep script shares, and the `vaesweep` command."""
