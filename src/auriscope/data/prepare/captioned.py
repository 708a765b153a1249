"""What the corpora of captioned sounds have in common: how a layout is described, and how it is checked."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from auriscope.data.manifest import SPLITS
from auriscope.data.prepare.layout import NUM_READERS, Choices, OnProgress, Selection, audio_info
from auriscope.data.prepared_captioned import PreparedCaptioned, PreparedCaptions
from auriscope.errors import CorpusError


@dataclass(frozen=True)
class FoundCaptions:
    """A sound by its layout, not yet checked: ``path`` relative to the root."""

    split: str
    path: str
    captions: tuple[str, ...]
    group: str
    label: str = ""


@dataclass(frozen=True)
class CaptionedLayout(Choices):
    """How a corpus of captioned sounds lies on disk as it is distributed.

    ``find`` goes from (root, selection) to the sounds; ``official`` says how many sounds each split has in the whole
    corpus; ``splits`` are those that it has.
    """

    find: Callable[[Path, Selection], Sequence[FoundCaptions]]
    official: Callable[[Selection], Mapping[str, int]] = lambda _: {}
    splits: tuple[str, ...] = SPLITS


def inspect_captioned(
    layout: CaptionedLayout, root: Path, selection: Selection, on_progress: OnProgress
) -> PreparedCaptioned:
    """Find the sounds of a corpus and check every file's header.

    Raises ``CorpusError``, naming the file and the cure, when a file is missing or damaged, or a split is empty.
    """
    if not root.is_dir():
        raise CorpusError(f"{root}: is not a folder; give --root the folder of {layout.name}")
    root = root.resolve()
    found = layout.find(root, selection)
    for split in layout.splits:
        if not any(sound.split == split for sound in found):
            raise CorpusError(f"{root}: {layout.name} has no sound for the split {split}; get the whole corpus")

    def check(sound: FoundCaptions) -> PreparedCaptions:
        info = audio_info(root / sound.path)
        return PreparedCaptions(
            sound.path, sound.split, sound.captions, sound.group, info.frames, info.samplerate, sound.label
        )

    checked: list[PreparedCaptions] = []
    with ThreadPoolExecutor(NUM_READERS) as pool:
        for first in range(0, len(found), 512):
            checked += pool.map(check, found[first : first + 512])
            on_progress(len(checked) / len(found))
    return PreparedCaptioned(layout.name, selection.condition, root, tuple(checked))
