"""The error of bad input, which is refused in one line before any cluster time is spent."""


class UserError(ValueError):
    """Bad input. The message is one line: what is wrong, where, and what would be right.

    The command line prints it without a traceback and exits with code 2.
    """
