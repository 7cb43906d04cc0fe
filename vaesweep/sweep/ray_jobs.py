"""The jobs of a Ray cluster that run scripts of sweeps, as its dashboard lists them."""

import re
import shlex
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from ray.job_submission import JobSubmissionClient

from vaesweep.environment import variables
from vaesweep.errors import UserError
from vaesweep.store_access import one_line, within
from vaesweep.uris import masked

LIST_SECONDS = 15.0  # within which the list must have come
SERVER_VARIABLE = "RAY_API_SERVER_ADDRESS"  # Ray's own, before RAY_ADDRESS, for addresses of dashboards
SCRIPT = re.compile(r"(?:.*/)?sweeps/(\w+)\.py")
ENDS = frozenset({"&&", "||", ";", "|", "&", ">", ">>", "2>", "2>&1"})  # words of a shell that end a command


@dataclass(frozen=True)
class SweepJob:
    """A job whose entrypoint runs the script of the sweep called `script`, with its `words`; secrets are masked."""

    id: str
    status: str
    script: str
    words: tuple[str, ...]
    began: datetime | None
    ended: datetime | None
    message: str

    def runs(self, command: str) -> bool:
        """Whether it runs a sweep's `command`, as the sweep's record has it."""
        own = _script_and_words(command)
        return own == (self.script, self.words)


def sweep_jobs(address: str) -> list[SweepJob]:
    """The jobs of the cluster at `address`, its dashboard's or its own, that run sweeps; the newest first.

    Ray finds its token by RAY_AUTH_MODE. Raises `UserError` where no list comes within seconds.
    """
    try:
        details = within(LIST_SECONDS, lambda: _listed(address))
    except Exception as error:
        reason = one_line(error)
        hint = "; set RAY_AUTH_MODE=token" if "uthenticat" in reason else ""
        raise UserError(f"Ray at {masked(address)}: no job list comes from there ({reason}){hint}") from None
    jobs = [job for job in map(_job_of, details) if job is not None]
    return sorted(jobs, key=lambda job: job.began.timestamp() if job.began else 0.0, reverse=True)


def _listed(address: str) -> list[Any]:
    with variables({SERVER_VARIABLE: address}):  # before which Ray's client would take what the environment says
        return list(JobSubmissionClient(address).list_jobs())


def _job_of(details: Any) -> SweepJob | None:
    found = _script_and_words(masked(details.entrypoint or ""))
    if found is None:
        return None
    return SweepJob(
        id=details.submission_id or details.job_id,
        status=str(getattr(details.status, "value", details.status)),
        script=found[0],
        words=found[1],
        began=_moment(details.start_time),
        ended=_moment(details.end_time),
        message=masked(_in_short(details.message or "")),
    )


def _in_short(message: str) -> str:
    """A job's message in one line: what Ray says first, and the last line of the log that follows."""
    first, _, log = message.partition(", last available logs")
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    return " ".join(first.split()) + (f"; {lines[-1]}" if len(lines) > 1 else "")


def _script_and_words(command: str) -> tuple[str, tuple[str, ...]] | None:
    """The name of the sweep whose script a command line runs, and the words that follow; None where it runs none."""
    words = _words(command)
    for place, word in enumerate(words):
        if script := SCRIPT.fullmatch(word):
            rest = words[place + 1 :]
            end = next((i for i, one in enumerate(rest) if one in ENDS), len(rest))
            return script[1], tuple(rest[:end])
        if " " in word and (inner := _script_and_words(word)):  # `bash -c "cd … && python sweeps/….py"`
            return inner
    return None


def _words(command: str) -> list[str]:
    try:
        return shlex.split(command)
    except ValueError:  # quotes that are not closed
        return command.split()


def _moment(milliseconds: int | None) -> datetime | None:
    return datetime.fromtimestamp(milliseconds / 1000, UTC) if milliseconds else None
