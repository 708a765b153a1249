"""``prepare``: list a corpus of the field, from where it lies as distributed, for training and evaluation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from auriscope.data.manifest import SPLITS
from auriscope.data.prepare import LAYOUTS, inspect
from auriscope.data.prepared import write_prepared
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
class PrepareResult:
    """What was prepared, and where; ``warnings`` are one line each."""

    corpus: str
    out: Path
    root: Path
    sample_rate: int
    condition: str
    num_sources: int
    splits: Mapping[str, SplitSummary]
    warnings: tuple[str, ...]


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

    The folder that comes out (:mod:`auriscope.data.prepared`) goes into a recipe as ``data.prepared``, and into
    ``evaluate`` in the place of a set's name.

    Args:
        corpus: one of :data:`auriscope.data.prepare.LAYOUTS`, such as ``"wsj0-2mix"``.
        root: folder of the corpus.
        out: folder for the manifest; by default ``manifests/`` and the corpus, with the condition behind it where it
            is not the corpus' first one.
        sample_rate: 8000, 16000, 44100 or 48000 Hz, as far as the corpus comes in them; by default the first.
        lengths: "min" or "max", of corpora that come in both.
        condition: which of the corpus' mixtures.
        train_set: of LibriMix, "train-360" or "train-100".
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
    prepared = inspect(layout, Path(root), selection, on_progress or _nothing)
    write_prepared(prepared, folder)
    official, splits, warnings = layout.official(selection), {}, []
    for name in SPLITS:
        mixtures = prepared.split(name)
        summary = SplitSummary(
            num_mixtures=len(mixtures),
            hours=sum(mixture.num_frames for mixture in mixtures) / prepared.sample_rate / 3600,
            num_speakers=len({speaker for mixture in mixtures for speaker in mixture.speakers if speaker}),
            official_mixtures=official.get(name),
        )
        splits[name] = summary
        if summary.official_mixtures not in (None, summary.num_mixtures):
            warnings.append(
                f"{name} has {summary.num_mixtures} mixtures and the whole corpus {summary.official_mixtures}: "
                "figures are not those of the literature"
            )
    return PrepareResult(
        corpus,
        folder,
        prepared.root,
        prepared.sample_rate,
        prepared.condition,
        len(prepared.sources),
        splits,
        tuple(warnings),
    )


def _nothing(_: float) -> None:
    """Tell nobody."""
