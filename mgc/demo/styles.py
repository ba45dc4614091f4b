"""Four styles as tables: what each draws its tempo, orchestra, rhythms and room from.

A step string is one bar of sixteen sixteenths: `X` loud, `x` soft, `.` silent.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mgc.demo.score import Effects


@dataclass(frozen=True)
class Style:
    """What a composer of one style may choose from.

    Parameters
    ----------
    tempo_bpm
        Lowest and highest tempo.
    shares
        Role → share of the projects in which it plays.
    core
        The role that a project without company falls back on.
    orchestra
        Role → instruments to choose one from.
    drums
        Kits: instrument → step string.
    bass, chords
        Step strings.
    arpeggio_beats
        Lengths of an arpeggio's notes.
    rhythms
        One bar of melody each, as note lengths in beats; negative is a rest.
    bars_a_chord
        How long a chord stays.
    looseness_beats
        Spread of the players' timing.
    """

    name: str
    tempo_bpm: tuple[float, float]
    shares: Mapping[str, float]
    core: str
    orchestra: Mapping[str, tuple[str, ...]]
    drums: tuple[Mapping[str, str], ...]
    bass: tuple[str, ...]
    chords: tuple[str, ...]
    arpeggio_beats: tuple[float, ...]
    rhythms: tuple[tuple[float, ...], ...]
    effects: Effects
    bars_a_chord: float = 1.0
    send: float = 0.2
    looseness_beats: float = 0.0


AMBIENT = Style(
    name="ambient",
    tempo_bpm=(54, 84),
    shares={
        "pad": 0.85,
        "texture": 0.6,
        "bells": 0.5,
        "arpeggio": 0.35,
        "chords": 0.35,
        "bass": 0.5,
        "melody": 0.5,
    },
    core="pad",
    orchestra={
        "pad": ("warm pad", "glass pad", "choir pad"),
        "texture": ("wind",),
        "bells": ("tubular bell", "glockenspiel"),
        "arpeggio": ("harp", "sine lead"),
        "chords": ("harp",),
        "bass": ("deep bass",),
        "melody": ("sine lead", "whistle"),
    },
    drums=(),
    bass=("X...............",),
    chords=("X...............", "X.......x......."),
    arpeggio_beats=(0.5, 1.0),
    rhythms=((-1.0, 3.0), (2.0, 2.0), (-2.0, 1.0, 1.0)),
    effects=Effects(reverb_seconds=3.5, echo_beats=1.5, echo_gain=0.35),
    send=0.6,
    looseness_beats=0.02,
)

TECHNO = Style(
    name="techno",
    tempo_bpm=(116, 144),
    shares={
        "drums": 0.85,
        "bass": 0.85,
        "arpeggio": 0.4,
        "chords": 0.6,
        "pad": 0.45,
        "melody": 0.3,
        "bells": 0.2,
    },
    core="drums",
    orchestra={
        "bass": ("acid bass", "round bass"),
        "arpeggio": ("saw stab", "muted string"),
        "chords": ("saw stab", "muted string"),
        "pad": ("warm pad", "choir pad"),
        "melody": ("saw lead",),
        "bells": ("tubular bell",),
    },
    drums=(
        {"kick": "X...X...X...X...", "hat": "..x...x...x...x.", "clap": "....X.......X..."},
        {"kick": "X...X...X...X.x.", "hat": "xxxxxxxxxxxxxxxx", "open hat": "..X...X...X...X."},
        {"kick": "X...X...X...X...", "hat": "x.xxx.xxx.xxx.xx", "clap": "...........xX..."},
        {"kick": "X..X..X.X..X..X.", "hat": "..x...x...x...x.", "clap": "....X.......X..."},
    ),
    bass=("..X...X...X...X.", "x.xXx.xXx.xXx.xX", "X..x..x.X..x..x.", "..xX..xX..xX..xX"),
    chords=("...X..x....X..x.", "..X...X...X...X.", "X..x..X..x..X..."),
    arpeggio_beats=(0.25,),
    rhythms=((0.5, -0.5, 0.5, 0.5, -1.0, 1.0), (-0.5, 0.5, -0.5, 0.5, -0.5, 0.5, 1.0)),
    effects=Effects(reverb_seconds=0.9, echo_beats=0.75, echo_gain=0.3, ducking=0.6),
    bars_a_chord=2.0,
)

CHIPTUNE = Style(
    name="chiptune",
    tempo_bpm=(84, 176),
    shares={"melody": 1.0, "drums": 0.75, "bass": 0.85, "arpeggio": 0.65, "bells": 0.25},
    core="melody",
    orchestra={
        "melody": ("pulse lead", "square lead"),
        "bass": ("chip bass",),
        "arpeggio": ("thin pulse", "square lead"),
        "bells": ("chip bell",),
    },
    drums=(
        {"chip kick": "X.....x.X.......", "chip snare": "....X.......X...", "chip hat": "x.x.x.x.x.x.x.x."},
        {"chip kick": "X...X...X...X...", "chip hat": "..X...X...X...X."},
        {"chip kick": "X..X....X..X....", "chip snare": "....X.......X.xx", "chip hat": "xxxxxxxxxxxxxxxx"},
    ),
    bass=("X.X.X.X.X.X.X.X.", "X..X..X.X..X..X.", "X.x.X.x.X.x.X.xx"),
    chords=(),
    arpeggio_beats=(0.125, 0.25),
    rhythms=(
        (0.5, 0.5, 0.25, 0.25, 0.5, 0.5, 0.5, 1.0),
        (0.75, 0.75, 0.5, 0.5, 0.5, 1.0),
        (0.25, 0.25, 0.5, 0.25, 0.25, 0.5, 0.5, 0.5, -1.0),
    ),
    effects=Effects(echo_beats=0.5, echo_gain=0.25, bits=6),
    send=0.0,
)

FOLK = Style(
    name="folk",
    tempo_bpm=(70, 136),
    shares={
        "chords": 0.9,
        "melody": 0.75,
        "arpeggio": 0.5,
        "bass": 0.5,
        "drums": 0.35,
        "pad": 0.35,
        "bells": 0.25,
    },
    core="chords",
    orchestra={
        "chords": ("guitar", "banjo"),
        "melody": ("whistle", "fiddle"),
        "arpeggio": ("guitar", "harp", "banjo"),
        "bass": ("upright bass",),
        "pad": ("harmonium",),
        "bells": ("glockenspiel",),
    },
    drums=(
        {"frame drum": "X.....x.X...x...", "shaker": "x.x.x.x.x.x.x.x."},
        {"frame drum": "X..x..X..x..X...", "brush": "....X.......X..."},
        {"shaker": "X.xxX.xxX.xxX.xx", "frame drum": "X.......X......."},
    ),
    bass=("X.......X.......", "X.......x...x..."),
    chords=("X...x.x.X...x.x.", "X..xX..xX..xX..x", "X...X.x...x.X.x."),
    arpeggio_beats=(0.5, 1 / 3),
    rhythms=(
        (1.0, 0.5, 0.5, 1.0, 1.0),
        (0.5, 0.5, 1.0, 0.5, 0.5, 1.0),
        (1.5, 0.5, 1.0, -1.0),
        (2 / 3, 1 / 3, 2 / 3, 1 / 3, 1.0, 1.0),
    ),
    effects=Effects(reverb_seconds=1.1),
    send=0.22,
    looseness_beats=0.025,
)

STYLES = (AMBIENT, TECHNO, CHIPTUNE, FOLK)
