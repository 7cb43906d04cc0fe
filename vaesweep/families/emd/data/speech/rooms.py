"""Rooms: what reverberation adds to speech that one microphone hears, by the image source method of pyroomacoustics.

Sizes and places are those of WHAMR! (Maciejewski et al., 2020, table 1): the microphone near the middle of a
rectangular room, each speaker at some distance and angle from it, both at the height of people who sit or stand. All
walls absorb alike, by Eyring's formula. All images of a source have its sign, and their sum would amplify what is below
the pitch of voices, so that a high-pass filter takes it away (Allen and Berkley, 1979).

A room is drawn from its bank and number alone, and rooms are in a bank because an impulse response takes longer to
compute than a mixture. Lengths are in metres, to a millimetre, so that machines agree on a room to the last digit.
"""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, Self

import numpy as np
import torch
from pydantic import Field, model_validator

from vaesweep.data.counters import Stream, uniform
from vaesweep.errors import UserError
from vaesweep.families.emd.data.speech.spans import Span
from vaesweep.packing import Frozen

SPEED_OF_SOUND = 343.0  # m/s
OFF_CENTRE = 0.2  # m, of the microphone from the middle of the room, along either wall
HEIGHTS = Span(low=0.9, high=1.8)  # m, of microphone and speakers
WALL = 0.1  # m, that a speaker keeps from a wall at least
ORDER = 40  # reflections of an image at most: all take seconds; the smallest rooms lose a fifth of a second's decay
SLOWER = (
    1.2  # times the reverberation time of Eyring's formula, in the median of these rooms: sound lasts along the floor
)
LONGEST_DECAY = 1.0  # s: of longer ones as many reflections do not have the tail
RESPONSE = 1.5  # reverberation times that an impulse response has
LOWEST = 50.0  # Hz, of reverberation
OVERSAMPLING = 8  # an image lies between two of so many places a sample
PLACES, OF_A_SPEAKER = 7, 3  # random numbers of a room, and of each speaker in it
Targets = Literal["anechoic", "reverberant"]
Point = tuple[float, float, float]


class Reverberation(Frozen):
    """How speech sounds in rooms; the spans are WHAMR!'s."""

    share: float = Field(0.0, ge=0, le=1, description="of the mixtures that are heard in a room")
    targets: Targets = Field(
        "anechoic", description="sources that a separator shall give: as without the room, or as they are heard in it"
    )
    seconds: Span = Field(Span(low=0.1, high=1.0), description="in which the energy falls by 60 dB")
    width: Span = Field(Span(low=5, high=10), description="m, of a room, and its depth")
    height: Span = Field(Span(low=3, high=4), description="m, of a room")
    distance: Span = Field(Span(low=0.66, high=2), description="m, of a speaker from the microphone, across the floor")
    rooms: int = Field(500, ge=1, lt=2**31, description="different rooms; each domain has rooms of its own")

    @model_validator(mode="after")
    def _is_possible(self) -> Self:
        if not 0.05 <= self.seconds.low <= self.seconds.high <= LONGEST_DECAY:
            raise ValueError(f"reverberation takes from 0.05 to {LONGEST_DECAY:g} seconds")
        if self.distance.low <= 0:
            raise ValueError("the distance of a speaker is above 0 metres")
        if self.distance.high > (room := self.width.low / 2 - OFF_CENTRE - WALL):
            raise ValueError(
                f"a speaker {self.distance.high:g} m from the microphone is not inside a room {self.width.low:g} m "
                f"wide; the distance is at most {room:g} m there"
            )
        if self.height.low < HEIGHTS.high + WALL:
            raise ValueError(f"a room is at least {HEIGHTS.high + WALL:g} m high")
        return self


@dataclass(frozen=True)
class Room:
    """A rectangular room: its size and the places in it in metres, the seconds in which energy falls by 60 dB."""

    size: Point
    seconds: float
    microphone: Point
    speakers: tuple[Point, ...]

    @property
    def absorption(self) -> float:
        """The share of energy that a wall takes, by Eyring's formula (1930) and what was measured of these rooms."""
        x, y, z = self.size
        volume, surface = x * y * z, 2 * (x * y + x * z + y * z)
        exponent = SLOWER * 24 * math.log(10) * volume / (SPEED_OF_SOUND * surface * self.seconds)
        return round(1 - math.exp(-exponent), 6)


def draw(rules: Reverberation, bank: int, number: int, speakers: int) -> Room:
    """The room `number` of a `bank`, with places of so many `speakers`."""
    index = torch.tensor(bank * 2**32 + number)
    numbers = uniform(Stream.ROOMS, index, torch.arange(PLACES + OF_A_SPEAKER * speakers)).tolist()
    seconds, x, y, z, aside, ahead, height = numbers[:PLACES]
    size = _point(rules.width.at(x), rules.width.at(y), rules.height.at(z))
    around = Span(low=-OFF_CENTRE, high=OFF_CENTRE)
    microphone = _point(size[0] / 2 + around.at(aside), size[1] / 2 + around.at(ahead), HEIGHTS.at(height))
    places = []
    for first in range(PLACES, len(numbers), OF_A_SPEAKER):
        distance, angle = float(rules.distance.at(numbers[first])), math.tau * numbers[first + 1]
        across, along = distance * math.cos(angle), distance * math.sin(angle)
        places.append(_point(microphone[0] + across, microphone[1] + along, HEIGHTS.at(numbers[first + 2])))
    return Room(size, round(float(rules.seconds.at(seconds)), 3), microphone, tuple(places))


@lru_cache(maxsize=2048)  # of some 50 kB each
def tails(room: Room, sample_rate: int) -> tuple[np.ndarray, ...]:
    """What is heard of an impulse of each speaker after its direct sound: float32 `[time]`.

    Time begins with the direct sound, whose size is one. The arrays are not to be changed.
    """
    acoustics = library()
    order = min(math.ceil(room.seconds * SPEED_OF_SOUND / min(room.size)), ORDER)
    walls = acoustics.Material(room.absorption)
    box = acoustics.ShoeBox(room.size, fs=sample_rate, materials=walls, max_order=order, air_absorption=False)
    box.add_microphone(list(room.microphone))
    for place in room.speakers:
        box.add_source(list(place))
    box.image_source_model()
    frames = math.ceil(RESPONSE * room.seconds * sample_rate)
    return tuple(_tail(source.images, source.orders, room, sample_rate, frames) for source in box.sources)


def library() -> Any:
    """The module pyroomacoustics; a `UserError` where it is not installed."""
    try:
        import pyroomacoustics
    except ImportError:
        raise UserError(
            "reverberation takes pyroomacoustics, which is not installed: pip install 'vaesweep[speech]'"
        ) from None
    return pyroomacoustics


def _tail(images: np.ndarray, orders: np.ndarray, room: Room, sample_rate: int, frames: int) -> np.ndarray:
    """The tail of a speaker, by the places of its images `[3, image]` and how often each has been reflected.

    Images lie at whole millimetres, as all of a room does, so that float32 gives their places exactly.
    """
    from scipy.signal import butter, resample_poly, sosfilt

    millimetres = np.rint(1000 * images.astype(np.float64)) - np.rint(1000 * np.array(room.microphone))[:, None]
    distances = np.sqrt(np.square(millimetres).sum(axis=0)) / 1000
    direct = int(distances.argmin())
    kept = np.cumprod([1.0] + [math.sqrt(1 - room.absorption)] * int(orders.max()))  # of the size, by reflections
    gains = kept[orders] * distances[direct] / distances
    gains[direct] = 0.0
    times = (distances - distances[direct]) / SPEED_OF_SOUND * sample_rate * OVERSAMPLING
    heard = times < (frames - 1) * OVERSAMPLING
    times, gains = times[heard], gains[heard]
    places = times.astype(np.int64)
    after = times - places
    fine = np.bincount(places, gains * (1 - after), frames * OVERSAMPLING)
    fine += np.bincount(places + 1, gains * after, frames * OVERSAMPLING)
    tail = OVERSAMPLING * resample_poly(fine, 1, OVERSAMPLING)
    filtered = sosfilt(butter(2, LOWEST, "highpass", fs=sample_rate, output="sos"), tail)
    return filtered.astype(np.float32)


def _point(x: Any, y: Any, z: Any) -> Point:
    return round(float(x), 3), round(float(y), 3), round(float(z), 3)
