"""The errors that a command tells in one line: bad input, refused before any cluster time is spent, and tracking's."""


class UserError(ValueError):
    """Bad input. The message is one line: what is wrong, where, and what would be right.

    The command line prints it without a traceback and exits with code 2.
    """


class TrackingError(RuntimeError):
    """Failure of the tracking store; all that it lacks of finished cells is in the finished files."""


class RoundFailed(Exception):
    """Every trial of a round has failed, so that it is not the configurations that are wrong."""
