"""The corpora below ``AURISCOPE_CORPORA``: one folder each, with a manifest, and each with its own quirks."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from auriscope.data.manifest import SPLITS, Entry, read_manifest
from auriscope.errors import CorpusError

UNKNOWN_SPEAKER = "unknown"


@dataclass(frozen=True)
class Quirks:
    """What a corpus' README says that its manifest does not.

    ``voices``: the collection the speaker names belong to; corpora of one collection share speakers (reader 19 of
    ``libri_251spk`` is reader 19 of ``libri_readers_3spk``), so that names are compared within it.
    ``num_speakers``: how many people an "unknown" speaker stands for. ``evaluation_only``: never to be trained on.
    ``clean_column``: the column that names the clean recording, where ``path`` is a noisy one.
    ``offset_sample_rate``: the rate of the columns ``start`` and ``end``. ``not_noise``: labels of clips that are no
    noise to a listener to speech. ``text_of_label``: what is said in a clip of a label, where there is no text.
    ``held_out_takes``: takes of the column ``take`` that only measure, in every split. ``recording``: a pattern for the
    column ``source_file``, whose first group names what several clips were taken from.
    """

    voices: str | None = None
    num_speakers: int = 1
    evaluation_only: bool = False
    clean_column: str | None = None
    offset_sample_rate: int = 16_000
    not_noise: frozenset[str] = frozenset()
    text_of_label: Mapping[str, str] = field(default_factory=dict)
    held_out_takes: frozenset[str] = frozenset()
    recording: str | None = None


_DIGIT_NAMES = ("ZERO", "ONE", "TWO", "THREE", "FOUR", "FIVE", "SIX", "SEVEN", "EIGHT", "NINE")
QUIRKS: dict[str, Quirks] = {
    "libri_251spk": Quirks(voices="librispeech"),
    # The valid and test utterances of libri_251spk again, without the codec.
    "libri_eval50_flac": Quirks(voices="librispeech", evaluation_only=True),
    "libri_other_10spk": Quirks(voices="librispeech"),
    # The same three readers in all splits: its valid and test parts do not hold unseen speakers.
    "libri_readers_3spk": Quirks(voices="librispeech"),
    "commonvoice_en": Quirks(voices="commonvoice"),
    "commonvoice_multi": Quirks(voices="commonvoice"),
    # Crowd recordings without speaker labels ("more than 50"), possibly of the same crowd: no two may be paired.
    "coffee_commands": Quirks(voices="picovoice", num_speakers=50),
    "wake_words": Quirks(voices="picovoice", num_speakers=50),
    "voicebank_demand_pairs": Quirks(evaluation_only=True, clean_column="clean_path"),
    # Takes 0 to 4 are the test part of the corpus' own split, of the same speakers.
    "fsdd_digits": Quirks(
        text_of_label={str(digit): name for digit, name in enumerate(_DIGIT_NAMES)}, held_out_takes=frozenset("01234")
    ),
    "sound_events": Quirks(not_noise=frozenset({"human_voice"})),
    # Several takes of one upload, and the drums of one kit.
    "esc10_crying_baby": Quirks(recording=r"(\d-\d+)-[A-Z]"),
    "sound_effects": Quirks(recording=r"(drum-samples/[^/]+)/"),
    "real_vs_synth": Quirks(evaluation_only=True),
}

# Training responses of ``rir`` that are, sample for sample, a valid or test response under another name.
LEAKED_RESPONSES = frozenset(
    {
        "audio/warehouse_cardiod-true-stereo-15-8_ch0.flac",
        "audio/warehouse_cardiod-true-stereo-15-8_ch1.flac",
        "audio/warehouse_tim-bipolar-omni-blend_ch0.flac",
        "audio/warehouse_tim-bipolar-omni-blend_ch1.flac",
    }
)


@dataclass(frozen=True)
class Clip:
    """A stretch of an audio file: ``path`` absolute, ``name`` relative to the corpus, times in seconds."""

    corpus: str
    name: str
    path: Path
    split: str
    duration_seconds: float
    start_seconds: float = 0.0


@dataclass(frozen=True)
class Utterance(Clip):
    """One utterance by one speaker.

    ``speaker`` is unique over all corpora ("librispeech:19"): two utterances are surely of different people exactly
    if their ``speaker`` differs. Where the corpus does not tell its speakers apart, all its utterances carry the same
    one ("picovoice:unknown"), which stands for ``num_speakers`` people. ``sex`` is "F", "M" or None. ``take`` tells
    several recordings of the same words by one speaker apart; ``held_out`` ones must only measure.
    """

    speaker: str = ""
    sex: str | None = None
    text: str | None = None
    num_speakers: int = 1
    take: str | None = None
    held_out: bool = False


@dataclass(frozen=True)
class ImpulseResponse(Clip):
    """A measured room response: ``room`` is the kind of room, ``position`` the measurement it is a channel of.

    ``direct_frame`` is the sample of the direct sound at 16 kHz; ``rt60_seconds`` the reverberation time.
    """

    room: str = ""
    position: str = ""
    direct_frame: int = 0
    rt60_seconds: float = 0.0


@dataclass(frozen=True)
class NoiseClip(Clip):
    """A clip of environmental noise; ``label`` names its source."""

    label: str = ""


@dataclass(frozen=True)
class LabelledClip(Clip):
    """A clip of a class: ``label`` as the corpus has it, ``group`` what it shares with others, such as a recording.

    Clips of one group are not independent, and never in two splits. ``text`` says what is to be heard, where the corpus
    does.
    """

    label: str = ""
    group: str = ""
    text: str = ""


def corpora_root() -> Path:
    """Return the folder of the corpora, from the environment variable ``AURISCOPE_CORPORA``.

    Raises :class:`~auriscope.errors.CorpusError` when the variable is unset or names no folder.
    """
    value = os.environ.get("AURISCOPE_CORPORA", "")
    if not value:
        raise CorpusError("the corpora are not there: set AURISCOPE_CORPORA to the folder that holds them")
    root = Path(value).expanduser()
    if not root.is_dir():
        raise CorpusError(f"AURISCOPE_CORPORA is {value}, which is not a folder; set it to the folder of the corpora")
    return root.absolute()


def utterances(
    corpus: str,
    split: str,
    *,
    root: Path | None = None,
    min_seconds: float = 0.0,
    max_seconds: float = float("inf"),
    for_training: bool = False,
) -> list[Utterance]:
    """List the utterances of a corpus and split, in the manifest's order.

    Any folder with a manifest that has the columns ``path``, ``split``, ``speaker`` and ``duration_s`` is a corpus.
    Utterances shorter than ``min_seconds`` or longer than ``max_seconds`` are left out. ``root`` defaults to
    :func:`corpora_root`. Raises :class:`~auriscope.errors.CorpusError` when the corpus is missing, its manifest is
    not valid, the split is empty, or ``for_training`` is asked of a corpus that must only measure.
    """
    quirks = QUIRKS.get(corpus, Quirks())
    if for_training and quirks.evaluation_only:
        raise CorpusError(f"{corpus} is for evaluation only and must not be trained on; take it out of the corpora")
    found = []
    for number, entry, folder in _entries(corpus, split, root):
        if entry.duration_seconds is None or entry.speaker is None:
            raise CorpusError(f"{folder / 'manifest.csv'}, entry {number}: an utterance needs speaker and duration_s")
        if not min_seconds <= entry.duration_seconds <= max_seconds:
            continue
        name = entry.more[quirks.clean_column] if quirks.clean_column else entry.path
        found.append(
            Utterance(
                corpus=corpus,
                name=name,
                path=folder / name,
                split=split,
                duration_seconds=entry.duration_seconds,
                start_seconds=(entry.start_frame or 0) / quirks.offset_sample_rate,
                speaker=f"{quirks.voices or corpus}:{entry.speaker}",
                sex=entry.sex,
                text=entry.text or quirks.text_of_label.get(entry.label or ""),
                take=entry.more.get("take"),
                held_out=entry.more.get("take") in quirks.held_out_takes,
                num_speakers=quirks.num_speakers if entry.speaker == UNKNOWN_SPEAKER else 1,
            )
        )
    return found


def noise_clips(split: str, *, corpus: str = "noise", root: Path | None = None) -> list[NoiseClip]:
    """List the noise clips of a split; errors as :func:`utterances`.

    Training clips under a share-alike licence are left out: weights that learnt from them would have to carry it too.
    """
    unwanted = QUIRKS.get(corpus, Quirks()).not_noise
    return [
        NoiseClip(
            corpus, entry.path, folder / entry.path, split, _duration(entry, folder, number), label=entry.label or ""
        )
        for number, entry, folder in _entries(corpus, split, root)
        if entry.label not in unwanted and not (split == "train" and "BY-SA" in entry.more.get("licence", ""))
    ]


def labelled_clips(corpus: str, split: str, *, root: Path | None = None, fine: bool = False) -> list[LabelledClip]:
    """List the clips of a split with their classes; errors as :func:`utterances`.

    ``fine`` takes the column ``fine_label``, where there is one, for ``label``. A corpus without the column ``label``
    has its ``text`` in the place of it. Training clips that the manifest puts under a share-alike licence are left out
    (:func:`noise_clips`), as are takes that only measure.
    """
    quirks = QUIRKS.get(corpus, Quirks())
    if split == "train" and quirks.evaluation_only:
        raise CorpusError(f"{corpus} is for evaluation only and must not be trained on; choose another set")
    found = []
    for number, entry, folder in _entries(corpus, split, root):
        held_out = entry.more.get("take") in quirks.held_out_takes or "BY-SA" in entry.more.get("licence", "")
        if split == "train" and held_out:
            continue
        label = (entry.more.get("fine_label") if fine else None) or entry.label or entry.text
        if not label:
            raise CorpusError(f"{folder / 'manifest.csv'}, entry {number}: a clip needs a label or a text")
        start = (entry.start_frame or 0) / quirks.offset_sample_rate
        found.append(
            LabelledClip(
                *(corpus, entry.path, folder / entry.path, split, _duration(entry, folder, number), start),
                label=label,
                group=f"{corpus}:{_group(entry, quirks)}",
                text=entry.text or "",
            )
        )
    return found


def _group(entry: Entry, quirks: Quirks) -> str:
    """What an entry shares with others of its corpus: what the manifest calls a group, or who or what was recorded."""
    source = entry.more.get("source_file", "")
    taken = re.match(quirks.recording, source) if quirks.recording else None
    speaker = None if entry.speaker == UNKNOWN_SPEAKER else entry.speaker
    named = entry.more.get("group") or entry.more.get("utterance") or speaker or (taken and taken.group(1))
    return str(named or source or entry.path)


def impulse_responses(split: str, *, corpus: str = "rir", root: Path | None = None) -> list[ImpulseResponse]:
    """List the measured room responses of a split; errors as :func:`utterances`.

    The label "house: kitchen" gives the room "house" and the position "kitchen". The splits are disjoint by position,
    not by room: a response of the test split is of a building that the train split has heard elsewhere. Training
    responses that equal a valid or test one (``LEAKED_RESPONSES``) are left out.
    """
    found = []
    for number, entry, folder in _entries(corpus, split, root):
        if split == "train" and entry.path in LEAKED_RESPONSES:
            continue
        room, _, position = (entry.label or "").partition(": ")
        found.append(
            ImpulseResponse(
                corpus,
                entry.path,
                folder / entry.path,
                split,
                _duration(entry, folder, number),
                room=room,
                position=position,
                direct_frame=int(entry.more.get("peak_index", "0")),
                rt60_seconds=float(entry.more.get("rt60_s", "nan")),
            )
        )
    return found


def _duration(entry: Entry, folder: Path, number: int) -> float:
    if entry.duration_seconds is None:
        raise CorpusError(f"{folder / 'manifest.csv'}, entry {number}: the row needs duration_s")
    return entry.duration_seconds


def _entries(corpus: str, split: str, root: Path | None) -> list[tuple[int, Entry, Path]]:
    """Give the entries of a split with their number in the manifest (from 1) and the corpus' folder."""
    if split not in SPLITS:
        raise CorpusError(f"split {split!r} must be one of {', '.join(SPLITS)}")
    root = root or corpora_root()
    folder = root / corpus
    if not (folder / "manifest.csv").is_file():
        there = ", ".join(sorted(path.parent.name for path in root.glob("*/manifest.csv"))) or "none"
        raise CorpusError(f"there is no corpus {corpus!r} in {root}; there are: {there}")
    entries = [
        (number, entry, folder)
        for number, entry in enumerate(read_manifest(folder / "manifest.csv"), start=1)
        if entry.split == split
    ]
    if not entries:
        raise CorpusError(f"the corpus {corpus!r} has no entry in the split {split!r}")
    return entries
