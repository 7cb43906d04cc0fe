"""`vaesweep separate`: the speakers of a file. `vaesweep data mix`: mixtures of recordings, in LibriMix's layout."""

import argparse
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vaesweep.cli.analysis_script import add_run, add_store
from vaesweep.data.numbers import real, whole
from vaesweep.errors import UserError, line_of
from vaesweep.vocabulary import store_uri

if TYPE_CHECKING:
    from vaesweep.families.emd.trust.summary import Trust, WindowTrust

SPLITS = ("train", "valid", "test")
DEFAULT_COUNT = 3000
BLOCK = 10_000_000  # indices between one split and the next
SEEDS = 2**62 // (10 * BLOCK)


def register(commands: Any) -> None:
    """Add the commands to the subparsers of `vaesweep`."""
    _register_separate(commands)
    data = commands.add_parser("data", help="make data to train on").add_subparsers(required=True, metavar="WHAT")
    about = "mix recordings of single speakers, and write the mixtures in LibriMix's layout"
    parser = data.add_parser("mix", help=about, description=about + " (docs/data.md).")
    add = parser.add_argument
    add(
        "--from", dest="source", required=True, type=Path, metavar="DIR", help="recordings, such as LibriSpeech or VCTK"
    )
    add("--out", required=True, type=Path, metavar="DIR", help="written below it: Libri2Mix/wav8k/min/…")
    add(
        "--split",
        action="append",
        metavar="NAME[=COUNT]",
        help=f"{', '.join(SPLITS)}, each of speakers of its own, or all: one split of every speaker; may be given "
        f"several times ({' '.join(SPLITS)}, {DEFAULT_COUNT} mixtures each)",
    )
    add("--speakers", type=whole(), default=2, metavar="N", help="sources of a mixture (%(default)s)")
    add("--rate", type=whole(), default=8000, metavar="HZ", help="samples a second (%(default)s)")
    add("--mode", choices=["min", "max"], default="min", help="end with the first source, or the last (%(default)s)")
    add(
        "--overlap",
        type=real,
        nargs=2,
        default=(1.0, 1.0),
        metavar="SHARE",
        help="share, from and to, of a source that the one before still speaks in; takes --mode max (1 1)",
    )
    add("--noise", type=Path, metavar="DIR", help="noise recordings, such as WHAM!'s")
    add("--babble", type=whole(), default=0, metavar="N", help="noise of so many other speakers (%(default)s)")
    add(
        "--reverberation",
        type=real,
        nargs=2,
        metavar="S",
        help="in rooms whose reverberation takes so many seconds, from and to (none); 0.1 1 as in WHAMR!",
    )
    add("--targets", choices=["anechoic", "reverberant"], help="sources that the metadata name (anechoic)")
    add("--speaker-pattern", metavar="REGEX", help="its first group, in a file's path, is the speaker")
    add("--speaker-table", type=Path, metavar="CSV", help="columns path and speaker")
    add("--subtype", choices=["FLOAT", "PCM_16"], default="FLOAT", help="of the WAV files (%(default)s)")
    add("--seed", type=whole(most=2**63 - 1), default=0, help="of all that is drawn (%(default)s)")
    parser.set_defaults(act=mix)


def _register_separate(commands: Any) -> None:
    about = "separate the speakers of audio files by a trained cell: a WAV file a speaker, at the file's own rate"
    parser = commands.add_parser("separate", help=about, description=about)
    add_run(parser)
    parser.add_argument(
        "files", nargs="+", type=Path, metavar="FILE", help="WAV, FLAC, OGG or MP3, of any length and rate"
    )
    parser.add_argument("-o", "--out", required=True, type=Path, metavar="DIR", help="FILE_speaker_1.wav, … in here")
    parser.add_argument(
        "--window", type=real, default=4.0, metavar="S", help="seconds separated at a time (%(default)s)"
    )
    parser.add_argument(
        "--no-trust",
        action="store_true",
        help="do not say how far to trust the output; of a variational cell that takes further passes, a sample each",
    )
    add_store(parser)
    parser.set_defaults(act=separate)


def separate(arguments: argparse.Namespace) -> int:
    """Write the speakers of every file; each file is checked before the cell is loaded."""
    from vaesweep.families.emd.data.speech import audio

    if not 0.1 <= arguments.window <= 600:
        raise UserError(f"--window {arguments.window:g}: from 0.1 to 600 seconds")
    for path in arguments.files:
        audio.info(path)
    stems = [path.stem for path in arguments.files]
    if len(set(stems)) < len(stems):
        raise UserError("two files have one name, and would be written to the same place; separate them one by one")
    from vaesweep.analysis.load import load_cell
    from vaesweep.families.emd.trained import WINDOW, TrainedSeparator

    try:
        arguments.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{arguments.out}: cannot be made a folder ({error.strerror}); name another one") from None
    cell = load_cell(arguments.run, arguments.tracking_uri or store_uri())
    separator = TrainedSeparator.restore(cell)
    judges = not arguments.no_trust and separator.calibration is not None
    for path in arguments.files:
        rate = audio.info(path).rate
        if rate > separator.sample_rate:
            limit = separator.sample_rate // 2
            _tell(f"{path}: {rate} Hz; the cell is made for {separator.sample_rate}: nothing above {limit} Hz is left")
        trust = separator.start_trust() if judges else None
        for written in separator.separate_file(path, arguments.out, arguments.window, trust):
            _tell(written)
        for line in _lines(trust) if trust else ():
            _tell(f"{path}: {line}")
    if judges and arguments.window != WINDOW:
        print(f"expected SI-SDRs are calibrated for windows of {WINDOW:g} s; shorter ones scatter more")
    if not arguments.no_trust and not judges:
        print(f"how far to trust this is not known: {separator.no_calibration}")
    return 0


def _lines(trust: "Trust") -> Iterator[str]:
    """How far to trust a separated file, in words."""
    unlike, heard = trust.unlike, trust.windows - trust.silent
    if not heard:
        yield "silent; there is nothing to judge"
    elif not trust.judged:
        yield "unlike anything that the cell was validated on; no estimate of the quality"
    else:
        low, high = trust.interval
        yield (
            f"expected SI-SDR {_db(trust.expected)} dB, mean of the speakers and of {_count(trust.judged)}; "
            f"{100 * trust.level:g} % of validation mixtures so scored lie within {_db(low)} to {_db(high)} dB"
        )
        if trust.judged > 1 and trust.worst is not None:
            yield f"least at {_span(trust.worst)}: {_db(trust.worst.expected)} dB"
        if unlike and trust.first_unlike is not None:
            yield (
                f"{unlike} of {_count(heard)}, the first at {_span(trust.first_unlike)}, unlike anything that the cell "
                "was validated on; no estimate of the quality there"
            )


def _db(value: float) -> str:
    return f"{round(value, 1) + 0.0:.1f}"  # no -0.0


def _count(windows: int) -> str:
    return f"{windows} window" + ("s" if windows > 1 else "")


def _span(window: "WindowTrust") -> str:
    return f"{window.start:.1f} to {window.stop:.1f} s"


def mix(arguments: argparse.Namespace) -> int:
    """Write the mixtures of every split that is asked for."""
    from pydantic import ValidationError

    from vaesweep.families.emd.data.speech import librimix, recordings
    from vaesweep.families.emd.data.speech.mixing import Mixer, MixingRules
    from vaesweep.families.emd.data.speech.spans import Span

    counts = _counts(arguments.split or SPLITS)
    if arguments.noise and arguments.babble:
        raise UserError("--noise and --babble both say what the noise is; give one of them")
    if not 0 <= arguments.seed < SEEDS:
        raise UserError(f"--seed {arguments.seed}: must be from 0 to {SEEDS - 1}")
    try:
        rules = MixingRules(
            speakers=arguments.speakers,
            sample_rate=arguments.rate,
            mode=arguments.mode,
            overlap=Span(low=arguments.overlap[0], high=arguments.overlap[1]),
            babble=arguments.babble,
            reverberation=_reverberation(arguments),
        )
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise UserError(": ".join(filter(None, (where, first["msg"].removeprefix("Value error, "))))) from None
    found = recordings.scan(arguments.source, _rule(arguments))
    noises = recordings.scan_noise(arguments.noise)
    for line in (*found.summary, *noises.summary):
        _tell(line)
    parts = {"all": found.recordings}
    noise = {"all": noises.recordings} | {str(role): own for role, own in noises.by_role.items()}
    if "all" not in counts:
        needed = rules.talkers(noise=bool(noises.recordings))
        parts = {str(role): own for role, own in recordings.split_speakers(found.recordings, needed).items()}
    places = ["all", *SPLITS]
    mixers = {  # all checked before one is written
        name: Mixer(parts[name], rules, noise[name], bank=places.index(name)) for name in counts
    }
    folder = librimix.folder_of(arguments.out, rules)
    folders = {str(role): name for role, name in librimix.SPLITS.items()}
    signals = recordings.DecodeCache(rules.sample_rate)
    for name, count in counts.items():
        first_index = arguments.seed * BLOCK * 10 + places.index(name) * BLOCK
        indices = range(first_index, first_index + count)
        target = librimix.write_split(
            folder,
            folders.get(name, name),
            mixers[name],
            rules,
            indices,
            signals,
            subtype=arguments.subtype,
            written=partial(_progress, count),
        )
        speakers = len({recording.speaker for recording in parts[name]})
        _tell(f"{target}: {count} mixtures of {speakers} speakers")
    return 0


def _reverberation(arguments: argparse.Namespace) -> Any:
    from vaesweep.families.emd.data.speech.rooms import Reverberation
    from vaesweep.families.emd.data.speech.spans import Span

    if arguments.reverberation is None:
        if arguments.targets:
            raise UserError("--targets says which sources of rooms are meant; give --reverberation too")
        return Reverberation()
    low, high = arguments.reverberation
    return Reverberation(share=1.0, seconds=Span(low=low, high=high), targets=arguments.targets or "anechoic")


def _rule(arguments: argparse.Namespace) -> Any:
    from vaesweep.families.emd.data.speech import recordings

    if arguments.speaker_pattern and arguments.speaker_table:
        raise UserError("--speaker-pattern and --speaker-table both say who speaks; give one of them")
    if arguments.speaker_pattern:
        return recordings.by_pattern(arguments.speaker_pattern)
    return recordings.by_table(arguments.speaker_table) if arguments.speaker_table else None


def _counts(words: Any) -> dict[str, int]:
    counts: dict[str, int] = {}
    for word in words:
        name, _, number = word.partition("=")
        if name not in (*SPLITS, "all"):
            raise UserError(f"--split {word}: there is no such split; there are {', '.join(SPLITS)}, and all")
        if number and (not number.isdecimal() or not 0 < int(number) <= BLOCK):
            raise UserError(f"--split {word}: {number!r} is no number of mixtures; write {name}=1000")
        counts[name] = int(number or DEFAULT_COUNT)
    if "all" in counts and len(counts) > 1:
        raise UserError("--split all has every speaker; it cannot stand beside splits of other speakers")
    return counts


def _tell(line: object) -> None:
    """Print a line with names of files, which may hold anything."""
    print(line_of(line, None))


def _progress(count: int, done: int) -> None:
    if sys.stderr.isatty():
        print(f"\r{done} of {count} mixtures", end="\n" if done == count else "", file=sys.stderr, flush=True)
