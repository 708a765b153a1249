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
        """Put it in its place."""
        try:
            self.aside.rename(self.target)
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
    aside = out / f".{target.name}.part"
    shutil.rmtree(aside, ignore_errors=True)
    try:
        aside.mkdir()
        published = with_rare_descriptions_left_out(sorted(recordings, key=lambda one: (one.session, one.name)))
        rows = [_row(recording, about, aside) for recording in published]
        _write(aside / "metadata.csv", _csv(rows))
        _write(aside / "metadata.jsonl", "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
        _write(aside / "manifest.csv", _csv([_entry(row) for row in rows]))
        _write(aside / "README.md", data_card(rows, about))
        _write(aside / "LICENSE", licence)
        sums = "".join(f"{_sha256(path)}  {path.relative_to(aside).as_posix()}\n" for path in _files(aside))
        _write(aside / "SHA256SUMS", sums)
        _flush(aside)
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
    """
    fields = ("native_language", "native", "gender")
    # Speakers by (contributor, which of the two); what they said, in all their sessions, with this much left out.
    said: dict[tuple[str, int], set[Description]] = {}
    for recording in recordings:
        for index, speaker in enumerate(recording.speakers):
            said.setdefault((recording.contributor, index), set()).add(speaker)
    shown = {speaker: speaker for descriptions in said.values() for speaker in descriptions}

    def groups() -> dict[Description, int]:
        return Counter(kept for descriptions in said.values() for kept in {shown[one] for one in descriptions})

    nothing = Description()
    for name in fields:
        rare = {description for description, number in groups().items() if number < min_group}
        shown = {
            whole: replace(kept, **{name: None}) if kept in rare and kept != nothing else kept
            for whole, kept in shown.items()
        }
    counts = groups()
    while 0 < counts.get(nothing, 0) < min_group and len(counts) > 1:
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
        path = write_exactly(source, folder / recording.name, about.audio)
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


def write_exactly(source: Path, target: Path, audio: Literal["flac", "wav"]) -> Path:
    """Write the samples of a recording, and nothing else of its file, bit for bit; give the path with its suffix.

    Floating-point recordings become WAV, because FLAC has no such samples. Raises ``AudioFileError`` for a coding
    that cannot be kept.
    """
    try:
        with soundfile.SoundFile(source) as file:
            coding, rate, channels = file.subtype, file.samplerate, file.channels
            samples = file.read(dtype="float32" if coding == "FLOAT" else "int32", always_2d=True)
    except (soundfile.SoundFileError, OSError) as error:
        raise AudioFileError(f"{printable(target.name)}: the recording cannot be read ({reason(error)})") from None
    bits = _BITS.get(coding)
    if bits is None or not len(samples):
        raise AudioFileError(f"{printable(target.name)}: a recording as {coding} cannot be released without loss")
    subtype = {0: "FLOAT", 24: "PCM_24"}.get(bits, "PCM_16")
    path = target.with_suffix(".flac" if audio == "flac" and bits else ".wav")
    if path.suffix == ".flac":
        soundfile.write(path, samples, rate, subtype, format="FLAC")
    else:
        _write_wav(path, samples, rate, channels, subtype)
    kept, _ = soundfile.read(path, dtype=samples.dtype.name, always_2d=True)
    if not np.array_equal(kept, samples, equal_nan=bits == 0):
        raise AudioFileError(f"{printable(target.name)}: the recording is not the same after it was written")
    return path


def _write_wav(path: Path, samples: npt.NDArray[Any], rate: int, channels: int, subtype: str) -> None:
    writer = WaveWriter(path, rate, channels, subtype)
    for begin in range(0, len(samples), _BLOCK_FRAMES):
        block = samples[begin : begin + _BLOCK_FRAMES]
        # 24 bits and fewer are exact as float32.
        writer.write(block if subtype == "FLOAT" else (block / 2.0**31).astype(np.float32))
    writer.close()


def data_card(rows: Sequence[Mapping[str, Any]], about: About) -> str:
    """Give the README of a corpus: what it holds, how it came about, what may be done with it."""
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
        "that auriscope's data room reads. Samples are those that were recorded, bit for bit. `blind_si_snr_db_1` and",
        "`_2` estimate the quality of separated tracks without ground truth. `sha256sum -c SHA256SUMS` checks all.",
        "",
        "## People",
        "",
        about.names,
        f"What fewer than {MIN_GROUP} speakers say of themselves is left out. Whoever wants a recording removed writes",
        f"to {about.contact}; the next version is without it.",
        "",
    ]
    return "\n".join(lines)


def _demographics(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    lines = []
    for name, title in (("gender", "Gender"), ("native", "Native"), ("native_language", "Native language")):
        speakers: dict[tuple[str, int], str] = {}
        for row in rows:
            for index in (1, 2):
                value = row[f"{name}_{index}"]
                text = {True: "yes", False: "no", None: "not published"}.get(value, value)
                speakers.setdefault((row["contributor"], index), str(text))
        counts = Counter(speakers.values())
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
    return {True: "yes", False: "no", None: ""}.get(value, value) if isinstance(value, bool | None) else value


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


def _flush(root: Path) -> None:
    for path in [*_files(root / "audio"), root]:
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
