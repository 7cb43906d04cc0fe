"""Recordings of speakers, and mixtures of them.

`audio` reads and writes files, `recordings` says who speaks in a folder and how loud, `mixing` draws mixtures and makes
their sound, `librimix` reads and writes them in LibriMix's layout, `domains` makes data sets of both.
"""

from vaesweep.families.emd.data.speech.domains import FORMS, SpeechConfig, SpeechSource, load

__all__ = ["FORMS", "SpeechConfig", "SpeechSource", "load"]
