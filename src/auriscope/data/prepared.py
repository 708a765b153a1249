"""Prepared corpora: mixtures that come with their sources, as ``auriscope prepare`` lists them.

A prepared folder holds two files. ``corpus.json`` says what the mixtures have in common (:class:`PreparedCorpus`), and
``manifest.csv`` has a row per mixture, with the columns of every manifest (:mod:`auriscope.data.manifest`): ``path``
(the mixture), ``split``, ``duration_s``; and with these:

- ``num_frames``: length in samples at the corpus' rate
- ``source_1``, ``source_2``, ...: the sources, in the order of ``sources`` in ``corpus.json``
- ``speaker_1``, ``speaker_2``, ...: who speaks in them, where that is known
- ``noise``: the noise alone, where the corpus has it

All paths are relative to ``root``, with forward slashes; the audio stays where it is. Folders of transcribed speech, in
:mod:`auriscope.data.prepared_speech`, hold the same two files, with other columns.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from auriscope.data.manifest import SPLITS, Entry, read_manifest, write_manifest
from auriscope.errors import CorpusError

FORMAT_VERSION = 1
MIXTURES = "mixtures"
_CORPUS, _MANIFEST = "corpus.json", "manifest.csv"


@dataclass(frozen=True)
class PreparedMixture:
    """A mixture of a prepared corpus; paths are relative to its root, ``num_frames`` of its rate."""

    path: str
    split: str
    num_frames: int
    sources: tuple[str, ...]
    speakers: tuple[str | None, ...]
    noise: str | None = None

    @property
    def id(self) -> str:
        """Its path without the suffix."""
        return str(Path(self.path).with_suffix("").as_posix())


@dataclass(frozen=True)
class PreparedCorpus:
    """What the mixtures of a prepared corpus have in common, and the mixtures.

    Args:
        name: of the corpus, such as "wham".
        condition: which of the corpus' mixtures these are, such as "noisy".
        root: folder that the paths are relative to.
        sample_rate: in hertz.
        num_channels: of every file; more than one are separated one by one.
        sources: names of the sources, in their order.
        order: "any" where the order of the sources means nothing (talkers), "fixed" where each has its place (stems).
        remixable: whether a mixture is the sum of its sources and its noise, so that they can be mixed anew.
        mixtures: in the order of the manifest.
    """

    name: str
    condition: str
    root: Path
    sample_rate: int
    num_channels: int
    sources: tuple[str, ...]
    order: Literal["any", "fixed"]
    remixable: bool
    mixtures: tuple[PreparedMixture, ...]

    def split(self, name: str) -> tuple[PreparedMixture, ...]:
        """Give the mixtures of a split; ``CorpusError`` if it is none or empty."""
        if name not in SPLITS:
            raise CorpusError(f"split {name!r} must be one of {', '.join(SPLITS)}")
        chosen = tuple(mixture for mixture in self.mixtures if mixture.split == name)
        if not chosen:
            raise CorpusError(f"the prepared corpus {self.name!r} has no mixture in the split {name!r}")
        return chosen


def is_prepared(folder: str | Path) -> bool:
    """Tell whether a folder is one that ``auriscope prepare`` wrote."""
    try:
        return (Path(folder) / _CORPUS).is_file()
    except OSError:
        return False


def kind_of(folder: str | Path) -> str | None:
    """Tell of what kind a prepared folder is; None where it is none. ``CorpusError`` if it is damaged."""
    if not is_prepared(folder):
        return None
    place = Path(folder) / _CORPUS
    try:
        return str(json.loads(place.read_text(encoding="utf-8")).get("kind", MIXTURES))
    except (OSError, ValueError, AttributeError) as error:
        raise CorpusError(f"{place}: cannot be read ({error}); prepare the corpus again") from error


def read_prepared(folder: str | Path) -> PreparedCorpus:
    """Read a prepared folder of mixtures; ``CorpusError`` names the file and what is wrong with it."""
    folder = Path(folder)
    values, entries = read_folder(folder, MIXTURES)
    try:
        values["sources"] = tuple(values["sources"])
        corpus = PreparedCorpus(mixtures=(), **values)
    except (KeyError, TypeError) as error:
        raise CorpusError(f"{folder / _CORPUS}: cannot be read ({error}); prepare the corpus again") from error
    mixtures = tuple(_mixture(entry, len(corpus.sources), where) for where, entry in entries)
    return dataclasses.replace(corpus, mixtures=mixtures)


def read_folder(folder: Path, kind: str) -> tuple[dict[str, Any], list[tuple[str, Entry]]]:
    """Read a prepared folder of a kind: what ``corpus.json`` says, and the entries, each with where it stands.

    Of what it says, ``root`` is a path then, and format and kind are left out. ``CorpusError`` as of
    :func:`read_prepared`.
    """
    place = folder / _CORPUS
    if not is_prepared(folder):
        raise CorpusError(f"{folder}: holds no {_CORPUS}; write it with: auriscope prepare CORPUS --root FOLDER")
    try:
        values: dict[str, Any] = json.loads(place.read_text(encoding="utf-8"))
        version, own = values.pop("format_version"), values.pop("kind", MIXTURES)
        root = values["root"] = Path(values.pop("root"))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CorpusError(f"{place}: cannot be read ({error}); prepare the corpus again") from error
    if version != FORMAT_VERSION:
        raise CorpusError(f"{place}: is of format {version}, not {FORMAT_VERSION}; prepare the corpus again")
    if own != kind:
        raise CorpusError(f"{folder}: holds {own}, not {kind}; give the folder of another corpus")
    if not root.is_dir():
        raise CorpusError(f"{place}: its root {root} is not there; prepare the corpus again with --root")
    manifest = folder / _MANIFEST
    return values, [(f"{manifest}, line {number}", entry) for number, entry in enumerate(read_manifest(manifest), 2)]


def write_prepared(corpus: PreparedCorpus, folder: str | Path) -> None:
    """Write a prepared folder, whole or not at all; one that is there already is replaced.

    Raises ``CorpusError`` if it cannot be written, or if the folder is there and holds something else.
    """
    values = {field.name: getattr(corpus, field.name) for field in dataclasses.fields(corpus)}
    del values["mixtures"]
    values["sources"] = list(corpus.sources)
    write_folder(Path(folder), values, [_entry(mixture, corpus.sample_rate) for mixture in corpus.mixtures])


def write_folder(
    folder: Path, values: dict[str, Any], entries: Sequence[Entry], beside: Mapping[str, str] | None = None
) -> None:
    """Write what :func:`read_folder` reads, as :func:`write_prepared` does; ``values`` may name a ``kind``.

    ``beside`` are further files of text, by name.
    """
    if folder.exists() and not is_prepared(folder) and (not folder.is_dir() or any(folder.iterdir())):
        raise CorpusError(f"{folder}: is there and was not written by prepare; choose another with --out")
    values = {"format_version": FORMAT_VERSION, **values, "root": str(values["root"])}
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        try:
            (aside / _CORPUS).write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
            write_manifest(aside / _MANIFEST, entries)
            for name, text in (beside or {}).items():
                (aside / name).write_text(text, encoding="utf-8")
            aside.chmod(0o755)
            if folder.exists():
                # A folder that is not empty cannot be replaced in one step.
                old = aside.with_name(aside.name + "-old")
                folder.rename(old)
                aside.rename(folder)
                shutil.rmtree(old)
            else:
                aside.rename(folder)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
    except OSError as error:
        why = os.strerror(error.errno) if error.errno else str(error)
        raise CorpusError(f"{folder}: cannot be written ({why}); choose another with --out") from error


def speaker_names(mixtures: Sequence[PreparedMixture]) -> list[str]:
    """List the known speakers of some mixtures, sorted."""
    return sorted({speaker for mixture in mixtures for speaker in mixture.speakers if speaker is not None})


def _entry(mixture: PreparedMixture, sample_rate: int) -> Entry:
    more = {"num_frames": str(mixture.num_frames)}
    for number, (source, speaker) in enumerate(zip(mixture.sources, mixture.speakers, strict=True), start=1):
        more[f"source_{number}"] = source
        if speaker is not None:
            more[f"speaker_{number}"] = speaker
    if mixture.noise is not None:
        more["noise"] = mixture.noise
    return Entry(mixture.path, mixture.split, round(mixture.num_frames / sample_rate, 6), more=more)


def _mixture(entry: Entry, num_sources: int, where: str) -> PreparedMixture:
    more = entry.more
    try:
        return PreparedMixture(
            path=entry.path,
            split=entry.split,
            num_frames=int(more["num_frames"]),
            sources=tuple(more[f"source_{number}"] for number in range(1, num_sources + 1)),
            speakers=tuple(more.get(f"speaker_{number}") for number in range(1, num_sources + 1)),
            noise=more.get("noise"),
        )
    except (KeyError, ValueError) as error:
        raise CorpusError(f"{where}: lacks or has a wrong {error}; prepare the corpus again") from error
