"""VoxCeleb: celebrities in interviews, cut out of videos; without texts.

A. Nagrani, J. S. Chung, A. Zisserman, "VoxCeleb: a large-scale speaker identification dataset" (Interspeech 2017), and
J. S. Chung, A. Nagrani, A. Zisserman, "VoxCeleb2: deep speaker recognition" (Interspeech 2018), as distributed:
``id10001/1zcIwhmdeo4/00001.wav``, speaker, video, stretch, below ``vox1_dev_wav/wav`` and ``vox1_test_wav/wav``, or
``wav`` for both parts of VoxCeleb1 in one, and below ``dev/aac`` and ``test/aac`` of VoxCeleb2, which comes as M4A and
has to be converted to WAV, FLAC or Opus.

Neither has a validation part: of the development part, the speakers whose number is divisible by 50 are taken for it.
VoxCeleb1's test part holds the speakers of the trial list VoxCeleb1-O (``veri_test2.txt``).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from auriscope.data.prepare.layout import Selection
from auriscope.data.prepare.speech import FoundUtterance, SpeechLayout
from auriscope.errors import CorpusError

_VALID_EVERY = 50
_READABLE = frozenset({".wav", ".flac", ".opus", ".ogg", ".mp3"})
_TEST_OF_ONE = range(10_270, 10_310)
_PLACES: dict[int, dict[str, tuple[str, ...]]] = {
    1: {
        "dev": ("vox1_dev_wav/wav", "vox1_dev_wav", "dev/wav", "dev", "wav", ""),
        "test": ("vox1_test_wav/wav", "vox1_test_wav", "test/wav", "test", "wav", ""),
    },
    2: {
        "dev": ("dev/wav", "dev/aac", "vox2_dev_aac/dev/aac", "vox2_dev_wav", "dev"),
        "test": ("test/wav", "test/aac", "vox2_test_aac/test/aac", "vox2_test_wav", "test"),
    },
}
_SEXES = {"m": "M", "f": "F"}


def _find(number: int, root: Path, selection: Selection) -> Iterator[FoundUtterance]:  # noqa: ARG001
    sexes = _sexes(root)
    for part, candidates in _PLACES[number].items():
        base = next((place for place in candidates if next((root / place).glob("id*"), None)), None)
        if base is None:
            raise CorpusError(
                f"{root / candidates[0]}: is not there; give --root the folder of both parts of VoxCeleb{number}"
            )
        for folder in sorted((root / base).glob("id*")):
            speaker = folder.name
            if not speaker[2:].isdigit():
                raise CorpusError(f"{folder}: is not named after a speaker, such as id10001; keep the corpus' names")
            if number == 1 and (int(speaker[2:]) in _TEST_OF_ONE) != (part == "test"):
                continue
            split = "test" if part == "test" else "valid" if int(speaker[2:]) % _VALID_EVERY == 0 else "train"
            yield from _of_speaker(folder, root, split, sexes.get(speaker))


def _of_speaker(folder: Path, root: Path, split: str, sex: str | None) -> Iterator[FoundUtterance]:
    files = {path for path in folder.glob("*/*") if not path.name.startswith(".")}
    for path in sorted(files):
        if path.suffix.lower() in _READABLE:
            yield FoundUtterance(split, path.relative_to(root).as_posix(), "", folder.name, sex)
        elif path.suffix.lower() == ".m4a" and not any(path.with_suffix(suffix) in files for suffix in _READABLE):
            raise CorpusError(f"{path}: is M4A, which is not read here; convert the corpus to WAV, FLAC or Opus first")


def _sexes(root: Path) -> dict[str, str]:
    """Read who the speakers are, where the file was kept: its name, then ``id10001``, ..., ``m``, by tabs or commas."""
    found = {}
    for place in (root / "vox1_meta.csv", root / "vox2_meta.csv"):
        try:
            lines = place.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            continue
        for line in lines:
            cells = [cell.strip() for cell in line.replace(",", "\t").split("\t")]
            names = [cell for cell in cells if cell.startswith("id") and cell[2:].isdigit()]
            sexes = [_SEXES[cell] for cell in cells if cell in _SEXES]
            if names and sexes:
                found[names[0]] = sexes[0]
    return found


LAYOUTS = (
    SpeechLayout("voxceleb1", {"condition": ("interviews",)}, partial(_find, 1), official=lambda _: {"test": 4_874}),
    SpeechLayout("voxceleb2", {"condition": ("interviews",)}, partial(_find, 2), official=lambda _: {"test": 36_237}),
)
