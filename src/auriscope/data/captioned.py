"""Sounds with captions: batches of pairs for training, and fixed sets to measure on.

The sets, by name, each with the splits "train", "valid" and "test", which share no recording:

- ``sound-captions``: the captions of ``sound_events``, ``noise`` and ``sound_effects``, most of them made of the files'
  names, and "a baby crying" for all of ``esc10_crying_baby``;
- any one of these corpora, by its own name;
- ``sound-captions-half`` and ``sound-captions-rest``: the train split of ``sound-captions`` in two, by recording, for
  those who must learn from the sounds of the rest without their captions. Their other splits are whole.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from math import ceil, floor
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from auriscope.data.ahead import made_ahead
from auriscope.data.augmentation import AugmentationConfig, Augmenter
from auriscope.data.cache import ClipStore, open_clips
from auriscope.data.corpora import LabelledClip, labelled_clips
from auriscope.data.labelled import Order
from auriscope.data.labelled_sets import SETS, SOUND_EVENTS
from auriscope.data.pool import ClipPool
from auriscope.data.prepared import is_prepared
from auriscope.data.prepared_captioned import read_captioned
from auriscope.data.render import rms
from auriscope.data.stretches import FileStore
from auriscope.data.transcribed import padded
from auriscope.errors import CorpusError, RecipeError
from auriscope.pretrained.addresses import suggest

FloatArray = NDArray[np.float32]
Fill = Literal["repeat", "repeat_whole", "zeros"]

CORPORA = ("sound_events", "noise", "sound_effects", "esc10_crying_baby")
_HALVES = {"sound-captions-half": 0, "sound-captions-rest": 1}
CAPTION_SETS: dict[str, tuple[str, ...]] = {
    "sound-captions": CORPORA,
    **{name: (name,) for name in CORPORA},
    **dict.fromkeys(_HALVES, CORPORA),
}
"""The sets, and of which corpora they are."""
CAPTION_OF_LABEL = {"crying_baby": "a baby crying"}
"""What is said of clips that have a label and no text."""
PHRASES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "bell_gong": ("a bell", "a gong"),
        "coins_keys_chain": ("coins", "keys", "a chain"),
        "dude_miaowing": ("a man imitating a cat",),
        "gun_explosion": ("a gun shot", "an explosion"),
        "human_voice": ("a human voice", "a person coughing", "people talking"),
        "hyper_reality": ("sound effects",),
        "laser_scifi": ("a laser", "a science fiction sound"),
        "mammal": ("a mammal", "an animal"),
        "metal_hit": ("hitting metal",),
        "metal_scrape": ("scraping metal",),
        "paper_cloth": ("paper", "cloth"),
        "plastic_tape": ("plastic", "tape"),
        "pool_table": ("billiards", "pool balls"),
        "shaker_rattle": ("a shaker", "a rattle"),
        "string_instrument": ("a string instrument", "a guitar", "a violin"),
        "synth": ("a synthesizer",),
        "tom": ("a tom drum",),
        "tool_motor": ("a tool", "a motor"),
        "vehicle": ("a vehicle", "a car"),
        "weather": ("rain", "wind", "thunder"),
        "wind_instrument": ("a wind instrument", "a flute", "a recorder"),
    }
)
"""What is said of labels that name several things, or none that a caption would; they were chosen by the names alone.

A label that is not here is said as it is, with spaces for underscores.
"""
_CLASS_OF = SETS["sound-events"].corpora
_MIX_DB = 5.0


@dataclass(frozen=True)
class CaptionedClip(LabelledClip):
    """A clip and everything that is said of it, in ``captions``; ``label`` is "" where there are no classes."""

    captions: tuple[str, ...] = ()


def caption_set_names() -> tuple[str, ...]:
    """Every name that :func:`open_captioned` knows."""
    return tuple(CAPTION_SETS)


def name_of_label(label: str) -> str:
    """A label in words.

    >>> name_of_label("string_instrument")
    'string instrument'
    """
    return " ".join(label.replace("_", " ").split())


def same_words(text: str) -> str:
    """A text's words alone, lower case, so that texts of the same words are the same.

    >>> same_words("A dog barks, twice.")
    'a dog barks twice'
    """
    return " ".join(re.findall(r"\w+", text.lower()))


def phrases_of(label: str, phrases: Mapping[str, Sequence[str]] = PHRASES) -> tuple[str, ...]:
    """What is said of a label: its phrases, or else its name in words.

    >>> phrases_of("bell_gong"), phrases_of("car_horn")
    (('a bell', 'a gong'), ('car horn',))
    """
    return tuple(phrases.get(label) or (name_of_label(label),))


def open_captioned(
    name: str,
    split: str,
    *,
    sample_rate: int,
    leave_out: Sequence[str] = (),
    leave_out_words: Sequence[str] = (),
    root: Path | None = None,
    folder: Path | None = None,
) -> tuple[list[CaptionedClip], list[ClipStore]]:
    """Open a set, or a folder of captioned sounds that ``prepare`` wrote: the clips, and stores of these.

    The stores hold the clips in the same order. Clips of the classes of ``sound-events`` that ``leave_out`` names are
    left out, and those with a caption that has a word of ``leave_out_words``. ``root`` and ``folder`` are the corpora
    and the cache, by default where the environment says. Raises ``CorpusError`` when there is no such set or split, the
    corpora are missing, or classes are to be left out of a folder whose sounds have none.
    """
    words = frozenset(leave_out_words)

    def unwanted(clip: CaptionedClip) -> bool:
        label = _CLASS_OF.get(clip.corpus, {}).get(clip.label, clip.label)
        return label in leave_out or any(words & set(same_words(caption).split()) for caption in clip.captions)

    if is_prepared(name):
        return _open_folder(name, split, sample_rate, unwanted, classes=bool(leave_out))
    if name not in CAPTION_SETS:
        raise CorpusError(f"there is no set of captioned sounds {name!r}{suggest(name, CAPTION_SETS)}")
    clips: list[CaptionedClip] = []
    stores: list[ClipStore] = []
    for corpus in CAPTION_SETS[name]:
        own = [
            clip
            for clip in map(_captioned, labelled_clips(corpus, split, root=root))
            if not unwanted(clip) and (split != "train" or _in_half(clip, name))
        ]
        if own:
            clips += own
            stores.append(open_clips(own, sample_rate=sample_rate, name=f"{corpus}-{split}-captioned", folder=folder))
    if not clips:
        raise CorpusError(f"the set {name!r} has no clip in the split {split!r}")
    return clips, stores


def _in_half(clip: LabelledClip, name: str) -> bool:
    """Whether a clip is of the half of the recordings that a set has, if it has half of them."""
    return name not in _HALVES or zlib.crc32(clip.group.encode()) % 2 == _HALVES[name]


def _captioned(clip: LabelledClip) -> CaptionedClip:
    values = {each.name: getattr(clip, each.name) for each in fields(LabelledClip)}
    return CaptionedClip(
        **values, captions=(clip.text or CAPTION_OF_LABEL.get(clip.label) or name_of_label(clip.label),)
    )


def _open_folder(
    name: str, split: str, sample_rate: int, unwanted: Callable[[CaptionedClip], bool], *, classes: bool
) -> tuple[list[CaptionedClip], list[ClipStore]]:
    corpus = read_captioned(name)
    if classes and not any(sound.label for sound in corpus.sounds):
        raise CorpusError(f"{name}: its sounds have no classes to leave out; name words of captions instead")
    found = [
        (
            sound,
            CaptionedClip(
                *(corpus.name, sound.path, corpus.root / sound.path, split, sound.num_frames / sound.sample_rate),
                label=sound.label,
                group=f"{corpus.name}:{sound.group}",
                captions=sound.captions,
            ),
        )
        for sound in sorted(corpus.split(split), key=lambda sound: sound.sample_rate)
    ]
    found = [(sound, clip) for sound, clip in found if not unwanted(clip)]
    chosen, clips = [sound for sound, _ in found], [clip for _, clip in found]
    stores: list[ClipStore] = []
    for rate in sorted({sound.sample_rate for sound in chosen}):
        own = [sound for sound in chosen if sound.sample_rate == rate]
        paths = [corpus.root / sound.path for sound in own]
        stores.append(FileStore(paths, [sound.num_frames for sound in own], rate, sample_rate))
    return clips, stores


@dataclass(frozen=True)
class CaptionedConfig:
    """What batches of pairs are made from.

    Args:
        sets: names of sets (:func:`open_captioned`).
        prepared: folders of captioned sounds that ``prepare`` or ``curate`` wrote, besides the sets.
        curated: folders that ``curate`` wrote, from which whole batches are made; the others are a replay of what
            ``sets`` and ``prepared`` hold (Z. Wang et al., arXiv 2305.01864, section 3).
        curated_share: the share of batches that are of ``curated``, if there is any, evenly spread.
        leave_out: classes of ``sound-events`` whose sounds are not trained on.
        leave_out_words: words, lower case; sounds with a caption that has one are not trained on.
        sample_rate: the model's.
        batch_size: pairs in a batch.
        window_seconds: the model's: longer sounds are cut to so much, anywhere.
        fill: the model's: how shorter ones are filled up.
        balance: 0: every sound comes once before any comes again. Above, sounds are drawn, and a class by the power
            ``1 - balance`` of the number of its sounds; sounds without a class are one.
        label_share: how often the name of a sound's class (:func:`phrases_of`) stands in the place of its caption, if
            it has one.
        mix_probability: how often another sound is added, up to 5 dB louder or softer; the captions are then joined by
            "and".
        augmentation: changes every sound, each time anew.
    """

    sets: tuple[str, ...] = ("sound-captions",)
    prepared: tuple[str, ...] = ()
    curated: tuple[str, ...] = ()
    curated_share: float = 0.5
    leave_out: tuple[str, ...] = ()
    leave_out_words: tuple[str, ...] = ()
    sample_rate: int = 16_000
    batch_size: int = 64
    window_seconds: float = 5.0
    fill: Fill = "repeat"
    balance: float = 0.0
    label_share: float = 0.0
    mix_probability: float = 0.0
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)

    def __post_init__(self) -> None:
        if self.batch_size < 2 or not self.window_seconds > 0:
            raise RecipeError("data.batch_size must be at least 2, and window_seconds above 0")
        for name in ("balance", "label_share", "mix_probability", "curated_share"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise RecipeError(f"data.{name} must lie between 0 and 1, not {getattr(self, name)}")
        if not (self.sets or self.prepared):
            raise RecipeError("data: name a set in sets, or a folder in prepared")
        unknown = sorted(set(self.leave_out) - set(SOUND_EVENTS))
        if unknown:
            raise RecipeError(f"data.leave_out: there is no class {unknown[0]!r}{suggest(unknown[0], SOUND_EVENTS)}")


@dataclass(frozen=True)
class _Part:
    """The numbers of clips that batches are made of, and their order."""

    clips: range
    order: Order


class CaptionedBatches:
    """Endless batches of sounds and captions, each fully determined by its index."""

    def __init__(
        self,
        config: CaptionedConfig,
        *,
        seed: int,
        split: str = "train",
        num_threads: int = 1,
        root: Path | None = None,
        folder: Path | None = None,
    ) -> None:
        self.config, self.seed, self.num_threads = config, seed, num_threads
        self.clips: list[CaptionedClip] = []
        self._parts: list[_Part] = []
        stores: list[ClipStore] = []
        for names in ((*config.sets, *config.prepared), config.curated):
            first = len(self.clips)
            for name in names:
                clips, own = open_captioned(
                    *(name, split),
                    sample_rate=config.sample_rate,
                    leave_out=config.leave_out,
                    leave_out_words=config.leave_out_words,
                    root=root,
                    folder=folder,
                )
                self.clips += clips
                stores += own
            if names:
                labels = [clip.label for clip in self.clips[first:]]
                places = {label: place for place, label in enumerate(sorted(set(labels)))}
                order = Order([places[label] for label in labels], config.balance, seed)
                self._parts.append(_Part(range(first, len(self.clips)), order))
        self._pool = ClipPool(stores)
        self._augmenter = Augmenter(config.augmentation, split, config.sample_rate, root=root, folder=folder)
        self._num_frames = round(config.window_seconds * config.sample_rate)

    def __len__(self) -> int:
        """Return the number of sounds."""
        return len(self.clips)

    def iterate(self, start: int = 0, stride: int = 1) -> Iterator[dict[str, Any]]:
        """Give the batches ``start``, ``start + stride``, ... without end, made ahead in the background."""
        return made_ahead(self.batch, self.num_threads, start, stride)

    def batch(self, index: int) -> dict[str, Any]:
        """Make a batch: ``waveform`` (batch, time), ``lengths`` (batch,), ``captions``, ``id`` and ``index``."""
        waveforms, captions, ids = [], [], []
        part, place = self._part(index)
        for row, chosen in enumerate(part.order.numbers(place, self.config.batch_size)):
            number = part.clips[chosen]
            rng: Any = np.random.default_rng([self.seed, 2, index, row])
            waveform, caption = self._drawn(number, rng)
            if rng.random() < self.config.mix_probability:
                other, said = self._drawn(part.clips[int(rng.integers(len(part.clips)))], rng)
                waveform, caption = mixed(waveform, other, rng.uniform(-_MIX_DB, _MIX_DB)), f"{caption} and {said}"
            waveforms.append(waveform)
            captions.append(caption)
            ids.append(clip_id(self.clips[number]))
        return padded(waveforms) | {"captions": captions, "id": ids, "index": index}

    def _part(self, index: int) -> tuple[_Part, int]:
        """What the batch of an index is made of, and how many batches before it were."""
        *_, curated = self._parts
        share = self.config.curated_share if self.config.curated else 0.0
        before = floor(index * share)
        if floor((index + 1) * share) > before:
            return curated, before
        return self._parts[0], index - before

    def _drawn(self, number: int, rng: Any) -> tuple[FloatArray, str]:
        """A window of a sound, and one of its captions."""
        clip, longest = self.clips[number], self._num_frames
        drawn = self._augmenter.draw(rng, min(longest, self._pool.num_frames(number)))
        wanted = ceil(longest * drawn.speed)
        spare = self._pool.num_frames(number) - wanted
        start = int(rng.integers(spare + 1)) if spare > 0 else 0
        waveform = self._augmenter.apply(self._pool.read(number, start, wanted), drawn)[:longest]
        caption = clip.captions[int(rng.integers(len(clip.captions)))]
        if rng.random() < self.config.label_share and clip.label:
            said = phrases_of(clip.label)
            caption = said[int(rng.integers(len(said)))]
        return filled(waveform, longest, self.config.fill), caption


def filled(waveform: FloatArray, num_frames: int, fill: Fill) -> FloatArray:
    """Fill a waveform (time,) up to ``num_frames``, as :func:`~auriscope.crossmodal.windows.fill_up` does."""
    if len(waveform) >= num_frames:
        return waveform[:num_frames]
    if fill == "repeat_whole" and len(waveform):
        waveform = np.tile(waveform, num_frames // len(waveform))
        fill = "zeros"
    if fill == "zeros" or not len(waveform):
        return np.pad(waveform, (0, num_frames - len(waveform)))
    return np.resize(waveform, num_frames)


def mixed(waveform: FloatArray, other: FloatArray, gain_db: float) -> FloatArray:
    """Add another sound (time,), so that it is ``gain_db`` louder; the peak stays within 1."""
    level = rms(other)
    gain = rms(waveform) / level * 10.0 ** (gain_db / 20.0) if level > 0.0 else 0.0
    total = waveform + other * np.float32(gain)
    return (total / max(1.0, float(np.abs(total).max(initial=0.0)))).astype(np.float32)


def clip_id(clip: CaptionedClip) -> str:
    """A clip's name, with its corpus before it."""
    return f"{clip.corpus}:{clip.name}"


@dataclass(frozen=True)
class CaptionedSound:
    """A sound to measure on: ``waveform`` (time,) float32, and everything that is said of it.

    Sounds of one ``group`` are not independent of each other; ``label`` is "" where there are no classes.
    """

    id: str
    waveform: FloatArray
    captions: tuple[str, ...]
    group: str
    label: str


class CaptionedSet:
    """A fixed sequence of sounds, each read when it is asked for; errors as of :func:`open_captioned`.

    ``captions`` (sounds,) are what is said of each, ``groups``, ``labels`` and ``seconds`` likewise.
    """

    def __init__(
        self,
        name: str,
        split: str = "test",
        *,
        sample_rate: int = 16_000,
        leave_out: Sequence[str] = (),
        leave_out_words: Sequence[str] = (),
        root: Path | None = None,
        folder: Path | None = None,
    ) -> None:
        self.clips, stores = open_captioned(
            *(name, split),
            sample_rate=sample_rate,
            leave_out=leave_out,
            leave_out_words=leave_out_words,
            root=root,
            folder=folder,
        )
        self.name, self.split, self.sample_rate = name, split, sample_rate
        self._pool = ClipPool(stores)
        self.captions = tuple(clip.captions for clip in self.clips)
        self.groups = tuple(clip.group for clip in self.clips)
        self.labels = tuple(clip.label for clip in self.clips)
        self.seconds = tuple(self._pool.num_frames(number) / sample_rate for number in range(len(self.clips)))

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, index: int) -> CaptionedSound:
        if not 0 <= index < len(self):
            raise IndexError(f"there is no sound {index} of {len(self)}")
        clip = self.clips[index]
        return CaptionedSound(clip_id(clip), self._pool.read(index), clip.captions, clip.group, clip.label)

    def __iter__(self) -> Iterator[CaptionedSound]:
        return (self[index] for index in range(len(self)))

    def texts(self) -> list[str]:
        """Every caption once, in the order in which they first come."""
        return list(dict.fromkeys(caption for own in self.captions for caption in own))

    def windows(self, index: int, num_frames: int, fill: Fill) -> torch.Tensor:
        """The first ``num_frames`` of a sound (1, time), filled up."""
        return torch.from_numpy(filled(self._pool.read(index, 0, num_frames), num_frames, fill))[None]
