"""The command line: the parts that scripts share, and the `vaesweep` command."""
