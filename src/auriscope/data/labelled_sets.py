"""Which corpora a set of labelled sounds is of, and what their labels are called in it.

The sets, by name, each with the split "train", "valid" and "test", which share no recording:

- ``sound-events``: the 31 classes of ``sound_events``, with the clips of ``noise`` and ``esc10_crying_baby`` that are
  of one of them: crying babies, people chattering and a man imitating a cat are ``human_voice``; rain, storms and wind
  ``weather``; waves, a running tap and water lapping at a boat ``water``; crickets ``insect``, a fireplace ``fire``, a
  street ``vehicle``, an exercise bike ``tool_motor``, birds ``bird``. White and pink noise and the washing of dishes
  are of none, and left out.
- ``sound-events-left-out``: six of its classes, which the recipe ``clap-left-out`` never hears.
- ``digits``: ``fsdd_digits``, of speakers that the train split has not heard.
- ``wake-words``: ``wake_words``, whose speakers are not told apart and may be in several splits.
- ``cries-reasons``: ``infant_cry`` by the reasons that the parents gave, of other babies.
- ``sound-effects``: ``sound_effects``, of other drum kits.
- ``noise``: the sources of ``noise``. No source is in two splits, so that only a model that goes by the names of the
  classes can be measured on it.
- ``esc10``: the ten classes of ESC-10, of ``sound_events`` by its fine labels and of ``esc10_crying_baby``.
- ``real-synthetic``: people and machines speaking. To learn from and to choose by, utterances of people and what
  :mod:`auriscope.data.synthetic_speech` makes of them; to test on, ``real_vs_synth``, other people and other machines.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from auriscope.data.cache import ClipStore, open_clips
from auriscope.data.corpora import LabelledClip, labelled_clips
from auriscope.data.manifest import SPLITS
from auriscope.data.prepared import is_prepared
from auriscope.data.prepared_labelled import open_labelled_folder
from auriscope.data.synthetic_speech import CORPORA, KINDS, real_and_synthetic
from auriscope.errors import CorpusError
from auriscope.pretrained.addresses import suggest

SOUND_EVENTS = (
    *("balloon", "bell_gong", "bird", "clock", "coins_keys_chain", "cymbal", "door", "drum", "eating", "fire"),
    *("footsteps", "glass", "gun_explosion", "human_voice", "insect", "laser_scifi", "mammal", "metal_hit"),
    *("metal_scrape", "paper_cloth", "piano", "plastic_tape", "shaker_rattle", "string_instrument", "synth"),
    *("tool_motor", "vehicle", "water", "weather", "wind_instrument", "wood"),
)
"""The classes of ``sound-events``."""
LEFT_OUT = ("bird", "footsteps", "glass", "piano", "vehicle", "weather")
"""Those of them that are to be told by their names alone."""
_OF_NOISE = {
    "birds": "bird",
    "boat": "water",
    "city": "vehicle",
    "coffee_shop": "human_voice",
    "dude_miaowing": "human_voice",
    "exercise_bike": "tool_motor",
    "fireplace": "fire",
    "rain": "weather",
    "running_tap": "water",
    "storm": "weather",
    "summer_night": "insect",
    "waves": "water",
    "wind": "weather",
}
REAL_SYNTHETIC = "real-synthetic"
_CRYING = "crying_baby"
_TESTED = "real_vs_synth"


@dataclass(frozen=True)
class Named:
    """A set: the names of its classes, and by corpus, what its labels are called; those without a name are left out.

    ``fine``: they are the fine labels of a corpus that has such.
    """

    labels: tuple[str, ...]
    corpora: Mapping[str, Mapping[str, str]]
    fine: bool = False


def _same(*labels: str) -> dict[str, str]:
    return {label: label for label in labels}


_DIGITS = tuple("0123456789")
_WORDS = ("alexa", "computer", "jarvis", "smart mirror", "snowboy", "view glass")
_REASONS = ("belly_pain", "burping", "discomfort", "hungry", "tired")
_EFFECTS = ("hihat", "hyper_reality", "kick", "pool_table", "snare", "tom")
_NOISES = (*_OF_NOISE, "doing_the_dishes", "pink_noise", "white_noise")
_ESC10 = ("chainsaw", "clock_tick", "crackling_fire", "dog", "helicopter", "rain", "rooster", "sea_waves", "sneezing")
_SOUND_EVENTS: dict[str, Mapping[str, str]] = {
    "sound_events": _same(*SOUND_EVENTS),
    "noise": _OF_NOISE,
    "esc10_crying_baby": {_CRYING: "human_voice"},
}
SETS: dict[str, Named] = {
    "sound-events": Named(SOUND_EVENTS, _SOUND_EVENTS),
    "sound-events-left-out": Named(
        LEFT_OUT,
        {
            corpus: {label: name for label, name in called.items() if name in LEFT_OUT}
            for corpus, called in _SOUND_EVENTS.items()
            if set(called.values()) & set(LEFT_OUT)
        },
    ),
    "digits": Named(_DIGITS, {"fsdd_digits": _same(*_DIGITS)}),
    "wake-words": Named(_WORDS, {"wake_words": _same(*_WORDS)}),
    "cries-reasons": Named(_REASONS, {"infant_cry": _same(*_REASONS)}),
    "sound-effects": Named(_EFFECTS, {"sound_effects": _same(*_EFFECTS)}),
    "noise": Named(_NOISES, {"noise": _same(*_NOISES)}),
    "esc10": Named(
        (*_ESC10, _CRYING), {"sound_events": _same(*_ESC10), "esc10_crying_baby": _same(_CRYING)}, fine=True
    ),
    REAL_SYNTHETIC: Named(KINDS, {_TESTED: _same(*KINDS)}),
}
"""The sets by name."""


def labelled_set_names() -> tuple[str, ...]:
    """Every name that :func:`open_labelled` knows."""
    return tuple(SETS)


def corpora_of(name: str) -> tuple[str, ...]:
    """The corpora that a set of this name trains on."""
    return CORPORA if name == REAL_SYNTHETIC else tuple(SETS[name].corpora)


def open_labelled(
    name: str,
    split: str,
    *,
    sample_rate: int,
    fold: int | None = None,
    root: Path | None = None,
    folder: Path | None = None,
) -> tuple[tuple[str, ...], list[LabelledClip], list[ClipStore]]:
    """Open a set, or a folder of labelled sounds that ``prepare`` wrote: the classes, the clips, and stores of these.

    The stores hold the clips in the same order. ``fold`` is of a prepared corpus that has folds: the one that tests,
    the one before it being the valid split. ``root`` and ``folder`` are the corpora and the cache, by default where the
    environment says. Raises ``CorpusError`` when there is no such set, split or fold, or the corpora are missing.
    """
    if split not in SPLITS:
        raise CorpusError(f"split {split!r} must be one of {', '.join(SPLITS)}")
    if is_prepared(name):
        return open_labelled_folder(name, split, sample_rate=sample_rate, fold=fold)
    if name not in SETS:
        raise CorpusError(f"there is no set {name!r}{suggest(name, SETS)}")
    if fold is not None:
        raise CorpusError(f"the set {name!r} has no folds; leave the fold out")
    named = SETS[name]
    if name == REAL_SYNTHETIC and split != "test":
        spoken, store = real_and_synthetic(split, sample_rate=sample_rate, root=root, folder=folder)
        return named.labels, spoken, [store]
    clips: list[LabelledClip] = []
    stores: list[ClipStore] = []
    for corpus, called in named.corpora.items():
        own = labelled_clips(corpus, split, root=root, fine=named.fine)
        own = [replace(clip, label=called[clip.label]) for clip in own if clip.label in called]
        if own:
            clips += own
            stores.append(open_clips(own, sample_rate=sample_rate, name=f"{corpus}-{split}-labelled", folder=folder))
    if not clips:
        raise CorpusError(f"the set {name!r} has no clip of its classes in the split {split!r}")
    return named.labels, clips, stores
