"""What the corpora have in common: how a layout is described, and how a corpus is found and checked by it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import soundfile

from auriscope.data.manifest import SPLITS
from auriscope.data.prepared import PreparedCorpus, PreparedMixture
from auriscope.errors import CorpusError
from auriscope.signal.outputs import reason

OnProgress = Callable[[float], None]
NUM_READERS = 8


@dataclass(frozen=True)
class Selection:
    """Which version of a corpus; "" or 0 where the corpus comes in one version only.

    ``lengths`` is "min" (mixtures end with their shortest talker) or "max"; ``condition`` the kind of mixture;
    ``train_set`` which of several training sets.
    """

    sample_rate: int = 0
    lengths: str = ""
    condition: str = ""
    train_set: str = ""


@dataclass(frozen=True)
class Found:
    """A mixture by its layout, not yet checked: paths relative to the root."""

    split: str
    path: str
    sources: tuple[str, ...]
    speakers: tuple[str | None, ...]
    noise: str | None = None


@dataclass(frozen=True)
class Choices:
    """What all layouts have: ``name``, what ``prepare`` calls the corpus, and the versions that it comes in.

    ``choices``: by the fields of :class:`Selection`, what there is to choose from, the default first.
    """

    name: str
    choices: Mapping[str, tuple[str | int, ...]]

    def select(self, asked: Mapping[str, str | int | None]) -> Selection:
        """Fill what was not asked for with the defaults; ``CorpusError`` for what the corpus does not have."""
        chosen: dict[str, str | int] = {}
        for name in ("sample_rate", "lengths", "condition", "train_set"):
            value, offered = asked.get(name), self.choices.get(name, ())
            option = "--" + name.replace("_", "-")
            if value is None:
                if offered:
                    chosen[name] = offered[0]
            elif value not in offered:
                there = ", ".join(map(str, offered)) or "nothing to choose; leave it out"
                raise CorpusError(f"{self.name} has no {option} {value}; it has: {there}")
            else:
                chosen[name] = value
        return Selection(**chosen)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Layout(Choices):
    """How a corpus of mixtures lies on disk as it is distributed.

    Args:
        name: what ``prepare`` calls it.
        choices: as of every corpus.
        find: from (root, selection) to the mixtures.
        sources: names of the sources by selection.
        num_channels: of every file.
        order: as in :class:`~auriscope.data.prepared.PreparedCorpus`.
        remixable: by selection, as there.
        official: by selection, how many mixtures each split has in the whole corpus; splits left out vary.
    """

    find: Callable[[Path, Selection], Iterable[Found]]
    sources: Callable[[Selection], tuple[str, ...]]
    num_channels: int = 1
    order: Literal["any", "fixed"] = "any"
    remixable: Callable[[Selection], bool] = lambda _: True
    official: Callable[[Selection], Mapping[str, int]] = lambda _: {}


def inspect(layout: Layout, root: Path, selection: Selection, on_progress: OnProgress) -> PreparedCorpus:
    """Find the mixtures of a corpus and check every file's header.

    Raises ``CorpusError``, naming the file and the cure, when a file is missing or damaged, has another rate or number
    of channels than the corpus, a source is not as long as its mixture, or a split is empty.
    """
    if not root.is_dir():
        raise CorpusError(f"{root}: is not a folder; give --root the folder of {layout.name}")
    root = root.resolve()
    found = list(layout.find(root, selection))
    for split in SPLITS:
        if not any(mixture.split == split for mixture in found):
            raise CorpusError(f"{root}: {layout.name} has no mixture for the split {split}; get the whole corpus")

    def check(mixture: Found) -> PreparedMixture:
        rate = selection.sample_rate
        num_frames = _frames(root / mixture.path, rate, layout.num_channels)
        for name in mixture.sources:
            own = _frames(root / name, rate, layout.num_channels)
            if own != num_frames:
                raise CorpusError(
                    f"{root / name}: has {own} samples and its mixture {root / mixture.path} {num_frames}; "
                    f"generate or copy both again"
                )
        if mixture.noise is not None:
            _frames(root / mixture.noise, rate, layout.num_channels)
        return PreparedMixture(
            mixture.path, mixture.split, num_frames, mixture.sources, mixture.speakers, mixture.noise
        )

    checked: list[PreparedMixture] = []
    with ThreadPoolExecutor(NUM_READERS) as pool:
        for first in range(0, len(found), 512):
            checked += pool.map(check, found[first : first + 512])
            on_progress(len(checked) / len(found))
    return PreparedCorpus(
        name=layout.name,
        condition=selection.condition,
        root=root,
        sample_rate=selection.sample_rate,
        num_channels=layout.num_channels,
        sources=layout.sources(selection),
        order=layout.order,
        remixable=layout.remixable(selection),
        mixtures=tuple(checked),
    )


def base_folder(root: Path, layout: str, candidates: Sequence[str]) -> str:
    """Give the first of some folders, relative to the root, that exists; ``CorpusError`` if none does."""
    for candidate in candidates:
        if (root / candidate).is_dir():
            return candidate
    raise CorpusError(
        f"{root / candidates[0]}: is not there; give --root the folder that holds it, or choose another version of "
        f"{layout} (--sample-rate, --lengths)"
    )


def wav_names(folder: Path) -> list[str]:
    """List the names of the WAV files in a folder, sorted; ``CorpusError`` if it is missing."""
    try:
        with os.scandir(folder) as entries:
            # Files that a Mac leaves beside others in an archive are no audio.
            names = sorted(e.name for e in entries if e.name.lower().endswith(".wav") and not e.name.startswith("."))
    except OSError as error:
        raise CorpusError(f"{folder}: cannot be read ({reason(error)}); copy this part of the corpus") from error
    return names


def parallel_folders(
    root: Path,
    split: str,
    base: str,
    *,
    mixture: str,
    sources: Sequence[str],
    noise: str | None,
    speakers: Callable[[str], Sequence[str | None]],
) -> list[Found]:
    """Find the mixtures of a split whose mixtures, sources and noise lie side by side in folders of the same names.

    ``base`` is the folder of these, "" for the root. ``speakers`` maps a file's name without its suffix to who speaks,
    at least one for each source.
    """
    folder, prefix = root / base, f"{base}/" if base else ""
    names = wav_names(folder / mixture)
    missing = sorted(set(wav_names(folder / sources[0])) - set(names))
    if missing:
        raise CorpusError(f"{folder / mixture / missing[0]}: is missing, though its sources are there; copy it again")
    found = []
    for name in names:
        spoken = tuple(speakers(name[: -len(".wav")]))[: len(sources)]
        if len(spoken) < len(sources):
            raise CorpusError(f"{folder / mixture / name}: its name does not tell the talkers; keep the corpus' names")
        paths = tuple(f"{prefix}{source}/{name}" for source in sources)
        alone = None if noise is None else f"{prefix}{noise}/{name}"
        found.append(Found(split, f"{prefix}{mixture}/{name}", paths, spoken, alone))
    return found


def audio_info(path: Path) -> Any:
    """Read a file's header by soundfile; ``CorpusError`` if it is missing, damaged or empty."""
    if not path.is_file():
        raise CorpusError(f"{path}: is missing; copy or generate the corpus again")
    try:
        info = soundfile.info(str(path))
    except (soundfile.SoundFileError, OSError, RuntimeError) as error:
        raise CorpusError(f"{path}: cannot be read as audio ({reason(error)}); copy it again") from error
    if info.frames == 0:
        raise CorpusError(f"{path}: holds no samples; copy it again")
    return info


def _frames(path: Path, sample_rate: int, num_channels: int) -> int:
    """Length of a file in samples, after its header was checked."""
    info = audio_info(path)
    if info.samplerate != sample_rate:
        raise CorpusError(
            f"{path}: has a rate of {info.samplerate} Hz instead of {sample_rate} Hz; generate it anew, or give "
            f"--sample-rate {info.samplerate} if the corpus comes in that rate"
        )
    if info.channels != num_channels:
        raise CorpusError(f"{path}: has {info.channels} channels instead of {num_channels}; copy it again")
    return int(info.frames)
