"""How far to trust what was separated of a signal: a summary of its windows, in memory that does not grow."""

import math
from dataclasses import dataclass, field


@dataclass(frozen=True)
class WindowTrust:
    """One window of a signal, `start` to `stop` seconds: its expected SI-SDR, dB, mean over the speakers.

    `unlike` says that its scores are unlike all those of validation; what is expected means nothing then.
    """

    start: float
    stop: float
    expected: float
    unlike: bool


@dataclass
class Trust:
    """How far to trust what was separated of a signal, window after window; of what was added only sums are held.

    `level` is the share of validation-like windows whose SI-SDR lies within `half_width` dB of the expected one.
    """

    level: float
    half_width: float
    windows: int = 0
    unlike: int = 0
    silent: int = 0
    worst: WindowTrust | None = None
    first_unlike: WindowTrust | None = None
    _total: float = field(default=0.0, repr=False)

    def add(self, window: WindowTrust | None) -> None:
        """Add a window; None is a silent one, of which nothing is said."""
        self.windows += 1
        if window is None:
            self.silent += 1
        elif window.unlike:
            self.unlike += 1
            self.first_unlike = self.first_unlike or window
        else:
            self._total += window.expected
            if self.worst is None or window.expected < self.worst.expected:
                self.worst = window

    @property
    def judged(self) -> int:
        """The windows that something is said of."""
        return self.windows - self.unlike - self.silent

    @property
    def expected(self) -> float:
        """The expected SI-SDR, dB: the mean over the windows that something is said of; NaN without one."""
        return self._total / self.judged if self.judged else math.nan

    @property
    def interval(self) -> tuple[float, float]:
        """The interval of a window as good as the mean one, dB."""
        return self.expected - self.half_width, self.expected + self.half_width
