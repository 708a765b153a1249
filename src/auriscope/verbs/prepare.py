"""``prepare``: list a corpus of the field, from where it lies as distributed, for training and evaluation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from auriscope.data.manifest import SPLITS
from auriscope.data.prepare import (
    LAYOUTS,
    CaptionedLayout,
    ImageLayout,
    LabelledLayout,
    Layout,
    MeetingLayout,
    Selection,
    SpeechLayout,
    inspect,
    inspect_captioned,
    inspect_images,
    inspect_labelled,
    inspect_meetings,
    inspect_speech,
)
from auriscope.data.prepared import write_prepared
from auriscope.data.prepared_captioned import PreparedCaptioned, write_captioned
from auriscope.data.prepared_images import write_images
from auriscope.data.prepared_labelled import PreparedSounds, write_labelled
from auriscope.data.prepared_meetings import write_meetings
from auriscope.data.prepared_speech import write_speech
from auriscope.errors import CorpusError
from auriscope.signal.outputs import StrPath

OnProgress = Callable[[float], None]


@dataclass(frozen=True)
class SplitSummary:
    """How much a split holds; ``official_mixtures`` is what the whole corpus has, None where that varies."""

    num_mixtures: int
    hours: float
    num_speakers: int
    official_mixtures: int | None


@dataclass(frozen=True)
class SpeechSummary:
    """How much transcribed speech a split holds; ``official_utterances`` as in :class:`SplitSummary`."""

    num_utterances: int
    hours: float
    num_speakers: int
    official_utterances: int | None


@dataclass(frozen=True)
class MeetingSummary:
    """How many meetings a split holds; ``official_meetings`` as in :class:`SplitSummary`."""

    num_meetings: int
    hours: float
    num_speakers: int
    official_meetings: int | None


@dataclass(frozen=True)
class LabelledSummary:
    """How many labelled sounds a split holds, and how many groups of them (recordings, speakers) that share nothing.

    ``official_sounds`` as in :class:`SplitSummary`.
    """

    num_sounds: int
    hours: float
    num_groups: int
    official_sounds: int | None


@dataclass(frozen=True)
class CaptionedSummary:
    """How many captioned sounds a split holds, and captions; ``official_sounds`` as in :class:`SplitSummary`."""

    num_sounds: int
    hours: float
    num_captions: int
    official_sounds: int | None


@dataclass(frozen=True)
class ImageSummary:
    """How many images a split holds; ``official_images`` as in :class:`SplitSummary`."""

    num_images: int
    official_images: int | None


AnySummary = SplitSummary | SpeechSummary | MeetingSummary | LabelledSummary | CaptionedSummary | ImageSummary


@dataclass(frozen=True)
class PrepareResult:
    """What was prepared, and where; ``warnings`` are one line each.

    Only mixtures have sources (``num_sources``, else 0), and files of several rates have the largest ``sample_rate``;
    images have none, and 0. ``num_classes`` is of labelled sounds and images, else 0.
    """

    corpus: str
    out: Path
    root: Path
    sample_rate: int
    condition: str
    num_sources: int
    splits: Mapping[str, AnySummary]
    warnings: tuple[str, ...]
    num_classes: int = 0


def prepare(
    corpus: str,
    root: StrPath,
    *,
    out: StrPath | None = None,
    sample_rate: int | None = None,
    lengths: str | None = None,
    condition: str | None = None,
    train_set: str | None = None,
    on_progress: OnProgress | None = None,
) -> PrepareResult:
    """Write the manifest of a corpus, after every file's header was checked; the audio stays where it is.

    The folder that comes out (:mod:`auriscope.data.prepared`, or :mod:`auriscope.data.prepared_speech` of transcribed
    speech, :mod:`auriscope.data.prepared_labelled` of labelled sounds, :mod:`auriscope.data.prepared_captioned` of
    captioned ones, :mod:`auriscope.data.prepared_images`) goes into a recipe as ``data.prepared``, and into
    ``evaluate`` in the place of a set's name.

    Args:
        corpus: one of :data:`auriscope.data.prepare.LAYOUTS`, such as ``"wsj0-2mix"``.
        root: folder of the corpus.
        out: folder for the manifest; by default ``manifests/`` and the corpus, with the condition behind it where it
            is not the corpus' first one.
        sample_rate: 8000, 16000, 44100 or 48000 Hz, as far as the corpus comes in them; by default the first.
        lengths: "min" or "max", of corpora that come in both.
        condition: which of the corpus' mixtures; of LibriSpeech, which valid and test part, "clean" or "other"; of
            ESC-50 "50" or "10" classes, of Speech Commands "35" or "10" words.
        train_set: of LibriMix, "train-360" or "train-100"; of LibriSpeech and LibriTTS, "train-960", "train-460" or
            "train-100"; of Quick, Draw! drawings of each class: "4000", "1000", "10000" or "70000".
        on_progress: told the done fraction of the files, 0 to 1.

    Raises:
        CorpusError: no such corpus or version, or files that are missing, damaged or not what they should be.
    """
    if corpus not in LAYOUTS:
        raise CorpusError(f"there is no corpus {corpus!r} to prepare; there are: {', '.join(LAYOUTS)}")
    layout = LAYOUTS[corpus]
    selection = layout.select(
        {"sample_rate": sample_rate, "lengths": lengths, "condition": condition, "train_set": train_set}
    )
    usual = selection.condition == layout.choices["condition"][0]
    folder = (
        Path(out) if out is not None else Path("manifests") / f"{corpus}{'' if usual else '-' + selection.condition}"
    )
    if isinstance(layout, MeetingLayout):
        return _prepare_meetings(layout, Path(root), folder, selection, on_progress or _nothing)
    if isinstance(layout, LabelledLayout):
        return _prepare_labelled(layout, Path(root), folder, selection, on_progress or _nothing)
    if isinstance(layout, CaptionedLayout):
        return _prepare_captioned(layout, Path(root), folder, selection, on_progress or _nothing)
    if isinstance(layout, ImageLayout):
        return _prepare_images(layout, Path(root), folder, selection, on_progress or _nothing)
    if isinstance(layout, SpeechLayout):
        return _prepare_speech(layout, Path(root), folder, selection, on_progress or _nothing)
    return _prepare_mixtures(layout, Path(root), folder, selection, on_progress or _nothing)


def _prepare_mixtures(
    layout: Layout, root: Path, folder: Path, selection: Selection, on_progress: OnProgress
) -> PrepareResult:
    prepared = inspect(layout, root, selection, on_progress)
    write_prepared(prepared, folder)
    official, splits = layout.official(selection), {}
    for name in SPLITS:
        mixtures = prepared.split(name)
        splits[name] = SplitSummary(
            num_mixtures=len(mixtures),
            hours=sum(mixture.num_frames for mixture in mixtures) / prepared.sample_rate / 3600,
            num_speakers=len({speaker for mixture in mixtures for speaker in mixture.speakers if speaker}),
            official_mixtures=official.get(name),
        )
    warnings = [
        _incomplete(name, split.num_mixtures, split.official_mixtures, "mixtures") for name, split in splits.items()
    ]
    return PrepareResult(
        layout.name,
        folder,
        prepared.root,
        prepared.sample_rate,
        prepared.condition,
        len(prepared.sources),
        splits,
        tuple(filter(None, warnings)),
    )


def _prepare_speech(
    layout: SpeechLayout, root: Path, folder: Path, selection: Selection, on_progress: OnProgress
) -> PrepareResult:
    prepared = inspect_speech(layout, root, selection, on_progress)
    write_speech(prepared, folder)
    official, splits = layout.official(selection), {}
    for name in SPLITS:
        spoken = prepared.split(name)
        splits[name] = SpeechSummary(
            num_utterances=len(spoken),
            hours=sum(utterance.num_frames / utterance.sample_rate for utterance in spoken) / 3600,
            num_speakers=len({utterance.speaker for utterance in spoken}),
            official_utterances=official.get(name),
        )
    warnings = [
        _incomplete(name, split.num_utterances, split.official_utterances, "utterances")
        for name, split in splits.items()
    ]
    return PrepareResult(
        layout.name,
        folder,
        prepared.root,
        max(utterance.sample_rate for utterance in prepared.utterances),
        prepared.condition,
        0,
        splits,
        tuple(filter(None, warnings)),
    )


def _prepare_meetings(
    layout: MeetingLayout, root: Path, folder: Path, selection: Selection, on_progress: OnProgress
) -> PrepareResult:
    prepared = inspect_meetings(layout, root, selection, on_progress)
    write_meetings(prepared, folder)
    splits = {}
    for name in SPLITS:
        meetings = prepared.split(name)
        splits[name] = MeetingSummary(
            num_meetings=len(meetings),
            hours=sum(meeting.num_frames / meeting.sample_rate for meeting in meetings) / 3600,
            num_speakers=len({speaker for meeting in meetings for speaker in meeting.speakers}),
            official_meetings=layout.official.get(name),
        )
    warnings = [
        _incomplete(name, split.num_meetings, split.official_meetings, "meetings") for name, split in splits.items()
    ]
    return PrepareResult(
        layout.name,
        folder,
        prepared.root,
        max(meeting.sample_rate for meeting in prepared.meetings),
        prepared.condition,
        0,
        splits,
        tuple(filter(None, warnings)),
    )


def _prepare_labelled(
    layout: LabelledLayout, root: Path, folder: Path, selection: Selection, on_progress: OnProgress
) -> PrepareResult:
    prepared = inspect_labelled(layout, root, selection, on_progress)
    write_labelled(prepared, folder)
    official, splits = layout.official(selection), {}
    for name in layout.splits:
        sounds = prepared.split(name)
        splits[name] = LabelledSummary(
            num_sounds=len(sounds),
            hours=sum(sound.num_frames / sound.sample_rate for sound in sounds) / 3600,
            num_groups=len({sound.group for sound in sounds}),
            official_sounds=official.get(name),
        )
    return _of_sounds(layout.name, folder, prepared, splits, len(prepared.labels))


def _prepare_captioned(
    layout: CaptionedLayout, root: Path, folder: Path, selection: Selection, on_progress: OnProgress
) -> PrepareResult:
    prepared = inspect_captioned(layout, root, selection, on_progress)
    write_captioned(prepared, folder)
    official, splits = layout.official(selection), {}
    for name in layout.splits:
        sounds = prepared.split(name)
        splits[name] = CaptionedSummary(
            num_sounds=len(sounds),
            hours=sum(sound.num_frames / sound.sample_rate for sound in sounds) / 3600,
            num_captions=sum(len(sound.captions) for sound in sounds),
            official_sounds=official.get(name),
        )
    return _of_sounds(layout.name, folder, prepared, splits)


def _of_sounds(
    name: str,
    folder: Path,
    prepared: PreparedSounds | PreparedCaptioned,
    splits: Mapping[str, LabelledSummary] | Mapping[str, CaptionedSummary],
    num_classes: int = 0,
) -> PrepareResult:
    """What is told of sounds that were listed, whose splits are summed up."""
    warnings = [_incomplete(name, split.num_sounds, split.official_sounds, "sounds") for name, split in splits.items()]
    rate = max(sound.sample_rate for sound in prepared.sounds)
    told = tuple(filter(None, warnings))
    return PrepareResult(name, folder, prepared.root, rate, prepared.condition, 0, splits, told, num_classes)


def _prepare_images(
    layout: ImageLayout, root: Path, folder: Path, selection: Selection, on_progress: OnProgress
) -> PrepareResult:
    prepared = inspect_images(layout, root, selection, on_progress)
    write_images(prepared, folder)
    official = layout.official(selection)
    splits = {name: ImageSummary(prepared.num_images(name), official.get(name)) for name in SPLITS}
    warnings = [_incomplete(name, split.num_images, split.official_images, "images") for name, split in splits.items()]
    told = tuple(filter(None, warnings))
    return PrepareResult(
        layout.name, folder, prepared.root, 0, prepared.condition, 0, splits, told, len(prepared.labels)
    )


def _incomplete(split: str, found: int, official: int | None, what: str) -> str:
    if official in (None, found):
        return ""
    return f"{split} has {found} {what} and the whole corpus {official}: figures are not those of the literature"


def _nothing(_: float) -> None:
    """Tell nobody."""
