"""A corpus as it is published: audio, what is known of it, checksums, a data card; the same data give the same bytes.

Files: ``audio/SESSION/RECORDING.flac``, ``metadata.csv`` and ``metadata.jsonl`` (the same rows), ``manifest.csv`` (as
:mod:`auriscope.data.manifest` reads it), ``README.md``, ``LICENSE`` and ``SHA256SUMS``.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import re
import secrets
import shutil
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import soundfile

from auriscope.errors import AudioFileError, AuriscopeError
from auriscope.signal.outputs import cannot_write, make_folder, printable, reason
from auriscope.signal.wave import WaveWriter
from auriscope.study.cells import without_formula

SPLITS = ("train", "valid", "test")
MIN_GROUP = 5
"""What describes a speaker is published only together with at least this many speakers of the same description."""

_VERSION = re.compile(r"\d{1,4}\.\d{1,4}\.\d{1,4}")
_BLOCK_FRAMES = 1 << 16
# How many bits a sample of each coding has; what is not here cannot be kept exactly by what we write.
_BITS = {"PCM_U8": 8, "PCM_S8": 8, "PCM_16": 16, "PCM_24": 24, "FLOAT": 0}
_LICENCES = {
    "CC0-1.0": ("CC0 1.0 Universal", "https://creativecommons.org/publicdomain/zero/1.0/"),
    "CC-BY-4.0": ("Creative Commons Attribution 4.0 International", "https://creativecommons.org/licenses/by/4.0/"),
    "CC-BY-SA-4.0": (
        "Creative Commons Attribution-ShareAlike 4.0 International",
        "https://creativecommons.org/licenses/by-sa/4.0/",
    ),
    "CC-BY-NC-4.0": (
        "Creative Commons Attribution-NonCommercial 4.0 International",
        "https://creativecommons.org/licenses/by-nc/4.0/",
    ),
}


@dataclass(frozen=True)
class Description:
    """What a speaker said of themselves; None where it is not known or not published."""

    gender: str | None = None
    native: bool | None = None
    native_language: str | None = None


@dataclass(frozen=True)
class Recording:
    """A recording of a corpus: two people who read ``sentences`` at once; all names are pseudonyms.

    ``open`` gives, as a context manager, the path under which the recording lies. ``month`` is when it was made
    (2026-11), ``settings`` what the browser did to the sound, ``scores`` the blind SI-SNR of separated tracks in dB.
    ``source`` is our own name for it, for messages only. ``is_told_apart``: whether it is known that the contributor is
    nobody else of the corpus; who comes by a link again is a new contributor.
    """

    name: str
    session: str
    contributor: str
    sentences: tuple[tuple[str, str], ...]
    open: Callable[[], AbstractContextManager[Path]]
    speakers: tuple[Description, ...] = ()
    language: str | None = None
    month: str | None = None
    consent_version: str | None = None
    settings: Mapping[str, bool | int | None] = field(default_factory=dict)
    scores: tuple[float | None, ...] = ()
    scored_by: str | None = None
    source: str = ""
    is_told_apart: bool = True


@dataclass(frozen=True)
class About:
    """What the data card says: ``origin`` tells in Markdown how the recordings came about, ``contact`` whom to ask.

    ``licence`` is a name of SPDX's, such as CC-BY-4.0; ``licence_text`` goes into LICENSE instead of our sentence.
    ``names`` says what the names of people and recordings are.
    """

    name: str
    title: str
    version: str
    origin: str
    contact: str
    licence: str | None = None
    licence_text: str | None = None
    names: str = "Names of contributors, sessions and recordings are pseudonyms, made with a secret that stays with us."
    valid_percent: int = 10
    test_percent: int = 10
    audio: Literal["flac", "wav"] = "flac"


@dataclass(frozen=True)
class Built:
    """A corpus that lies ready beside its place: ``sha256`` is the digest of its list of checksums."""

    aside: Path
    target: Path
    sha256: str
    num_recordings: int
    num_sessions: int
    seconds: float
    splits: Mapping[str, int]

    def keep(self) -> None:
        """Put it in its place, where it outlives a power cut."""
        try:
            self.aside.rename(self.target)
            _flush(self.target.parent)
        except OSError as error:
            raise cannot_write(self.target, error) from None

    def discard(self) -> None:
        """Remove it."""
        shutil.rmtree(self.aside, ignore_errors=True)


def build(recordings: Sequence[Recording], about: About, out: Path) -> Built:
    """Write a corpus beside its place ``out/NAME-VERSION``; :meth:`Built.keep` puts it there.

    The same recordings give the same bytes. Raises ``AuriscopeError`` if the version is no version, is there already,
    or a recording cannot be kept exactly.
    """
    if not _VERSION.fullmatch(about.version):
        raise AuriscopeError(f"{about.version!r} is no version; write three numbers, such as 1.0.0")
    if not 0 <= about.valid_percent + about.test_percent < 100:
        raise AuriscopeError("the splits valid and test leave nothing to train on; give smaller shares")
    target = out / f"{about.name}-{about.version}"
    if target.exists():
        raise AuriscopeError(f"{printable(target)}: this version is there already; choose another version or folder")
    licence = _licence_text(about)
    make_folder(out)
    # Two that make the same version at once do not write into one folder.
    aside = out / f".{target.name}.{secrets.token_hex(4)}.part"
    try:
        aside.mkdir()
        published = with_rare_descriptions_left_out(sorted(recordings, key=lambda one: (one.session, one.name)))
        rows = [_row(recording, about, aside) for recording in published]
        _write(aside / "metadata.csv", _csv(rows))
        _write(aside / "metadata.jsonl", "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
        _write(aside / "manifest.csv", _csv([_entry(row) for row in rows]))
        has_strangers = not all(recording.is_told_apart for recording in published)
        _write(aside / "README.md", data_card(rows, about, has_strangers=has_strangers))
        _write(aside / "LICENSE", licence)
        sums = "".join(f"{_sha256(path)}  {path.relative_to(aside).as_posix()}\n" for path in _files(aside))
        _write(aside / "SHA256SUMS", sums)
        # The texts are flushed as they are written.
        for path in [*aside.joinpath("audio").rglob("*"), aside / "audio", aside]:
            if path.exists():
                _flush(path)
    except OSError as error:
        shutil.rmtree(aside, ignore_errors=True)
        raise cannot_write(target, error) from None
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise
    return Built(
        aside,
        target,
        hashlib.sha256(sums.encode()).hexdigest(),
        len(rows),
        len({row["session"] for row in rows}),
        sum(row["duration_seconds"] for row in rows),
        {split: sum(row["split"] == split for row in rows) for split in SPLITS},
    )


def split_of(contributor: str, valid_percent: int = 10, test_percent: int = 10) -> str:
    """Give the split of a contributor by the digest of their pseudonym: the same in every version.

    >>> split_of("c4kq2m7x9p")
    'train'
    """
    place = int.from_bytes(hashlib.sha256(f"split|{contributor}".encode()).digest()[:8], "big") % 100
    if place < test_percent:
        return "test"
    return "valid" if place < test_percent + valid_percent else "train"


def with_rare_descriptions_left_out(recordings: Sequence[Recording], min_group: int = MIN_GROUP) -> list[Recording]:
    """Leave out of speakers' descriptions what fewer than ``min_group`` speakers share.

    Of a description that is too rare first the language is left out, then whether it is native, then the gender; the
    speakers without description must be as many as well, so that their silence singles nobody out. Where that cannot
    be, nobody is described.

    A speaker counts once for each thing they said. Who came by a link does not count, because the same pair may have
    come again and again; they are described where enough others share what they said.
    """
    fields = ("native_language", "native", "gender")
    # Speakers by (contributor, which of the two); what they said, in all their sessions, with this much left out.
    said: dict[tuple[str, int], set[Description]] = {}
    shown: dict[Description, Description] = {}
    for recording in recordings:
        for index, speaker in enumerate(recording.speakers):
            shown[speaker] = speaker
            if recording.is_told_apart:
                said.setdefault((recording.contributor, index), set()).add(speaker)

    def groups() -> dict[Description, int]:
        counts = Counter(kept for descriptions in said.values() for kept in {shown[one] for one in descriptions})
        return {kept: counts[kept] for kept in set(shown.values())}

    nothing = Description()
    for name in fields:
        rare = {description for description, number in groups().items() if number < min_group}
        shown = {
            whole: replace(kept, **{name: None}) if kept in rare and kept != nothing else kept
            for whole, kept in shown.items()
        }
    counts = groups()
    while counts.get(nothing, min_group) < min_group and len(counts) > 1:
        smallest = min((one for one in counts if one != nothing), key=lambda one: (counts[one], repr(one)))
        shown = {whole: nothing if kept == smallest else kept for whole, kept in shown.items()}
        counts = groups()
    return [
        replace(recording, speakers=tuple(shown[speaker] for speaker in recording.speakers)) for recording in recordings
    ]


def _row(recording: Recording, about: About, aside: Path) -> dict[str, Any]:
    folder = aside / "audio" / recording.session
    folder.mkdir(parents=True, exist_ok=True)
    with recording.open() as source:
        path = write_exactly(source, folder / recording.name, about.audio, recording.source or recording.name)
    info = soundfile.info(str(path))
    row: dict[str, Any] = {
        "path": path.relative_to(aside).as_posix(),
        "recording": recording.name,
        "session": recording.session,
        "contributor": recording.contributor,
        "split": split_of(recording.contributor, about.valid_percent, about.test_percent),
        "language": recording.language,
        "duration_seconds": round(info.frames / info.samplerate, 6),
        "sample_rate": info.samplerate,
        "num_channels": info.channels,
        "num_frames": info.frames,
        "sha256": _sha256(path),
        "month": recording.month,
        "consent_version": recording.consent_version,
    }
    for index in (0, 1):
        name, text = recording.sentences[index] if index < len(recording.sentences) else (None, None)
        speaker = recording.speakers[index] if index < len(recording.speakers) else Description()
        row |= {
            f"sentence_{index + 1}_id": name,
            f"sentence_{index + 1}": text,
            f"gender_{index + 1}": speaker.gender,
            f"native_{index + 1}": speaker.native,
            f"native_language_{index + 1}": speaker.native_language,
        }
    row |= {name: recording.settings.get(name) for name in SETTINGS}
    for index in (0, 1):
        row[f"blind_si_snr_db_{index + 1}"] = recording.scores[index] if index < len(recording.scores) else None
    row["scored_by"] = recording.scored_by
    return row


SETTINGS = ("echo_cancellation", "noise_suppression", "auto_gain_control")
"""What a browser may have done to the sound; None where it did not say."""


def _entry(row: Mapping[str, Any]) -> dict[str, Any]:
    """The row of the manifest: a pair of speakers counts as one, because they are never heard apart."""
    return {
        "path": row["path"],
        "speaker": row["contributor"],
        "duration_s": row["duration_seconds"],
        "split": row["split"],
        "session": row["session"],
    }


def write_exactly(source: Path, target: Path, audio: Literal["flac", "wav"], called: str | None = None) -> Path:
    """Write the samples of a recording, and nothing else of its file, bit for bit; give the path with its suffix.

    Floating-point recordings become WAV, because FLAC has no such samples. Raises ``AudioFileError`` for a coding
    that cannot be kept; it names the recording as it is ``called``.
    """
    shown = printable(called or target.name)
    try:
        with soundfile.SoundFile(source) as file:
            coding, rate, channels = file.subtype, file.samplerate, file.channels
            samples = file.read(dtype="float32" if coding == "FLOAT" else "int32", always_2d=True)
    except (soundfile.SoundFileError, OSError) as error:
        raise AudioFileError(f"{shown}: the recording cannot be read ({reason(error)})") from None
    bits = _BITS.get(coding)
    if bits is None or not len(samples):
        raise AudioFileError(f"{shown}: a recording as {coding} cannot be released without loss")
    subtype = {0: "FLOAT", 24: "PCM_24"}.get(bits, "PCM_16")
    path = target.with_suffix(".flac" if audio == "flac" and bits else ".wav")
    if path.suffix == ".flac":
        soundfile.write(path, samples, rate, subtype, format="FLAC")
    else:
        _write_wav(path, samples, rate, channels, subtype)
    kept, _ = soundfile.read(path, dtype=samples.dtype.name, always_2d=True)
    if not np.array_equal(kept, samples, equal_nan=bits == 0):
        raise AudioFileError(f"{shown}: the recording is not the same after it was written")
    return path


def _write_wav(path: Path, samples: npt.NDArray[Any], rate: int, channels: int, subtype: str) -> None:
    writer = WaveWriter(path, rate, channels, subtype)
    for begin in range(0, len(samples), _BLOCK_FRAMES):
        block = samples[begin : begin + _BLOCK_FRAMES]
        # 24 bits and fewer are exact as float32.
        writer.write(block if subtype == "FLOAT" else (block / 2.0**31).astype(np.float32))
    writer.close()


_LINK = """\
Of pairs who came by a link it is not known whether they came before: every visit counts as a contributor, so that a
pair may be in several splits, and none of them counts among the speakers by whom a description becomes common.\
"""


def data_card(rows: Sequence[Mapping[str, Any]], about: About, *, has_strangers: bool = False) -> str:
    """Give the README of a corpus: what it holds, how it came about, what may be done with it.

    ``has_strangers``: whether some contributors may be the same people.
    """
    seconds = sum(row["duration_seconds"] for row in rows)
    months = sorted({row["month"] for row in rows if row["month"]})
    period = f"{months[0]} to {months[-1]}" if len(months) > 1 else "".join(months) or "not known"
    facts = [
        ("recordings", len(rows)),
        ("hours", f"{seconds / 3600:.2f}"),
        ("sessions", len({row["session"] for row in rows})),
        ("contributors (pairs of speakers)", len({row["contributor"] for row in rows})),
        ("languages", ", ".join(sorted({row["language"] for row in rows if row["language"]})) or "not known"),
        ("sample rates", ", ".join(f"{rate} Hz" for rate in sorted({row["sample_rate"] for row in rows}))),
        ("collected", period),
        (
            "consent, version",
            ", ".join(sorted({row["consent_version"] for row in rows if row["consent_version"]})) or "not known",
        ),
        ("licence", about.licence or "none chosen yet"),
    ]
    lines = [f"# {about.title}, version {about.version}", "", about.origin.strip(), "", "| | |", "|---|---|"]
    lines += [f"| {name} | {_cell(value)} |" for name, value in facts]
    lines += ["", "## Splits", "", "| split | recordings | hours | sessions | contributors |", "|---|---|---|---|---|"]
    for split in SPLITS:
        inside = [row for row in rows if row["split"] == split]
        hours = sum(row["duration_seconds"] for row in inside) / 3600
        sessions, people = ({row[name] for row in inside} for name in ("session", "contributor"))
        lines.append(f"| {split} | {len(inside)} | {hours:.2f} | {len(sessions)} | {len(people)} |")
    lines += ["", "A contributor is in one split only, and in the same one in every version.", ""]
    lines += _demographics(rows)
    lines += [
        "## Files",
        "",
        "`metadata.csv` and `metadata.jsonl` hold the same rows, one for each recording; `manifest.csv` is the list",
        "that auriscope's data room reads. In `metadata.csv`, a text that a spreadsheet would take for a formula has",
        "an apostrophe before it. Samples are those that were recorded, bit for bit. `blind_si_snr_db_1` and `_2`",
        "estimate the quality of separated tracks without ground truth. `sha256sum -c SHA256SUMS` checks all.",
        "",
        "## People",
        "",
        about.names,
        f"What fewer than {MIN_GROUP} speakers say of themselves is left out, so are languages that have no code here.",
        *([_LINK] if has_strangers else []),
        f"Whoever wants a recording removed writes to {about.contact}; the next version is without it.",
        "",
    ]
    return "\n".join(lines)


def _demographics(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    lines = []
    for name, title in (("gender", "Gender"), ("native", "Native"), ("native_language", "Native language")):
        # As the suppression counts: a speaker once for each thing they said.
        speakers: set[tuple[str, int, str]] = set()
        for row in rows:
            for index in (1, 2):
                value = row[f"{name}_{index}"]
                text = {True: "yes", False: "no", None: "not published"}.get(value, value)
                speakers.add((row["contributor"], index, str(text)))
        counts = Counter(text for _, _, text in speakers)
        if set(counts) - {"not published"}:
            lines += [f"| {title} | speakers |", "|---|---|"]
            lines += [f"| {_cell(value)} | {counts[value]} |" for value in sorted(counts)]
            lines.append("")
    return ["## Speakers", "", *lines] if lines else []


def _cell(value: object) -> str:
    return str(value).replace("|", "\\|")


def _licence_text(about: About) -> str:
    if about.licence_text is not None:
        return about.licence_text
    if about.licence is None:
        return f"No licence has been chosen for {about.title}. Ask {about.contact} before you use it.\n"
    if about.licence in _LICENCES:
        name, address = _LICENCES[about.licence]
        return f"{about.title}, version {about.version}, is licensed under {name} ({about.licence}).\n{address}\n"
    return f"{about.title}, version {about.version}, is licensed under {about.licence}.\n"


def _csv(rows: Sequence[Mapping[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]) if rows else ["path", "split"], lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({name: _plain(value) for name, value in row.items()})
    return text.getvalue()


def _plain(value: object) -> object:
    if isinstance(value, bool | None):
        return {True: "yes", False: "no", None: ""}[value]
    return without_formula(value) if isinstance(value, str) else value


def _write(path: Path, text: str) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
