"""The folder of what is kept on this machine between commands: indices of recordings, copies of remote data."""

import os
from pathlib import Path


def cache_folder() -> Path:
    """VAESWEEP_CACHE, or `vaesweep` in the user's cache folder."""
    own = os.environ.get("VAESWEEP_CACHE")
    user = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(own) if own else Path(user) / "vaesweep"
