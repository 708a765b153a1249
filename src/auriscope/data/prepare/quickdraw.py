"""Quick, Draw!: pictures of 28 x 28 pixels that people drew in seconds, of hundreds of things.

D. Ha, D. Eck, "A neural representation of sketch drawings" (arXiv 1704.03477), as distributed: NumPy's files
``full_numpy_bitmap_CLASS.npy`` or ``CLASS.npy``; the classes are those whose files are there. ``--train-set`` is how
many drawings of each class are trained on; the first 1,000 of each test, the next 500 are the valid split.
"""

from __future__ import annotations

from pathlib import Path

from auriscope.data.prepare.labelled import ImageLayout
from auriscope.data.prepare.layout import Selection
from auriscope.data.prepared_images import PreparedStretch, read_array
from auriscope.errors import CorpusError

_TEST, _VALID = 1_000, 500
_PREFIX = "full_numpy_bitmap_"


def _find(root: Path, selection: Selection) -> tuple[list[str], list[PreparedStretch]]:
    names = sorted(path.name for path in root.glob("*.npy"))
    if not names:
        raise CorpusError(f"{root}: holds no .npy files; give --root the folder of the drawings")
    found, labels = [], []
    wanted = int(selection.train_set)
    for name in names:
        label = name.removesuffix(".npy").removeprefix(_PREFIX)
        number = len(read_array(root / name))
        if number < _TEST + _VALID + wanted:
            raise CorpusError(
                f"{root / name}: holds {number} drawings, and {_TEST + _VALID + wanted} are needed; "
                "give a smaller --train-set"
            )
        labels.append(label)
        found += [
            PreparedStretch(name, "test", 0, _TEST, label),
            PreparedStretch(name, "valid", _TEST, _TEST + _VALID, label),
            PreparedStretch(name, "train", _TEST + _VALID, _TEST + _VALID + wanted, label),
        ]
    return labels, found


LAYOUTS = (
    ImageLayout("quickdraw", {"condition": ("drawings",), "train_set": ("4000", "1000", "10000", "70000")}, _find),
)
