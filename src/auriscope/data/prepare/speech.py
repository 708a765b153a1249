"""What the corpora of transcribed speech have in common: how a layout is described, and how its files are checked."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from auriscope.data.manifest import SPLITS
from auriscope.data.prepare.layout import NUM_READERS, Choices, OnProgress, Selection, audio_info
from auriscope.data.prepared_speech import PreparedSpeech, PreparedUtterance
from auriscope.errors import CorpusError


@dataclass(frozen=True)
class FoundUtterance:
    """An utterance by its layout, not yet checked: ``path`` relative to the root, ``sex`` "F", "M" or None.

    ``period`` tells stretches of a speaker's life apart, where the corpus does.
    """

    split: str
    path: str
    text: str
    speaker: str
    sex: str | None = None
    period: str | None = None


@dataclass(frozen=True)
class SpeechLayout(Choices):
    """How a corpus of transcribed speech lies on disk as it is distributed.

    Args:
        name: what ``prepare`` calls it.
        choices: as of every corpus.
        find: from (root, selection) to the utterances.
        official: by selection, how many utterances each split has in the whole corpus; splits left out vary.
    """

    find: Callable[[Path, Selection], Iterable[FoundUtterance]]
    official: Callable[[Selection], Mapping[str, int]] = lambda _: {}


def inspect_speech(layout: SpeechLayout, root: Path, selection: Selection, on_progress: OnProgress) -> PreparedSpeech:
    """Find the utterances of a corpus and check every file's header.

    Raises ``CorpusError``, naming the file and the cure, when a file is missing or damaged, or a split is empty.
    """
    if not root.is_dir():
        raise CorpusError(f"{root}: is not a folder; give --root the folder of {layout.name}")
    root = root.resolve()
    found = list(layout.find(root, selection))
    for split in SPLITS:
        if not any(utterance.split == split for utterance in found):
            raise CorpusError(f"{root}: {layout.name} has no utterance for the split {split}; get the whole corpus")

    def check(utterance: FoundUtterance) -> PreparedUtterance:
        info = audio_info(root / utterance.path)
        return PreparedUtterance(
            utterance.path,
            utterance.split,
            info.frames,
            info.samplerate,
            utterance.text,
            utterance.speaker,
            utterance.sex,
            utterance.period,
        )

    checked: list[PreparedUtterance] = []
    with ThreadPoolExecutor(NUM_READERS) as pool:
        for first in range(0, len(found), 512):
            checked += pool.map(check, found[first : first + 512])
            on_progress(len(checked) / len(found))
    return PreparedSpeech(layout.name, selection.condition, root, tuple(checked))
