"""Miniature trees of the corpora of the field, in the layout in which they are distributed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import soundfile

from auriscope.data.manifest import Entry, write_manifest

EFFECTS = ("hihat", "hyper_reality", "kick", "pool_table", "snare", "tom")
SONGS = {
    "train": ["Actions - One Minute Smile", "Some Band - Some Song", "Other Band - Other Song"],
    "test": ["Third Band - Third Song"],
}


def voice(seed: int, num_frames: int, num_channels: int = 1) -> np.ndarray:
    """Noise that rises and falls, (time, channels)."""
    rng = np.random.default_rng(seed)
    swell = 0.5 + 0.5 * np.sin(np.arange(num_frames) / 300.0 + seed)
    return 0.05 * swell[:, None] * rng.standard_normal((num_frames, num_channels))


def write(path: Path, waveform: np.ndarray, rate: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, waveform, rate, subtype="FLOAT")


def wsj0_name(number: int, num_talkers: int = 2) -> str:
    """Utterances of different speakers with their levels, as MERL's scripts name mixtures."""
    return "_".join(f"{number + 10 * talker:02d}{'abc'[talker]}a{number:04d}_0.5" for talker in range(num_talkers))


def mixtures(
    folder: Path,
    names: Sequence[str],
    rate: int,
    *,
    num_talkers: int = 2,
    mixture: str = "mix",
    suffix: str = "",
    noise: bool = False,
    seconds: float = 0.5,
) -> None:
    """Write mixtures, sources and noise side by side; the mixture is their sum."""
    for number, name in enumerate(names):
        num_frames = int(seconds * rate) + 100 * number
        sources = [voice(100 * number + talker, num_frames) for talker in range(num_talkers)]
        parts = list(sources)
        for talker, source in enumerate(sources, start=1):
            write(folder / f"s{talker}{suffix}" / f"{name}.wav", source, rate)
        if noise:
            parts.append(voice(100 * number + 50, num_frames))
            write(folder / "noise" / f"{name}.wav", parts[-1], rate)
        write(folder / mixture / f"{name}.wav", np.sum(parts, axis=0), rate)


def build_wsj0mix(root: Path, num_talkers: int = 2, rate: int = 8000, seconds: float = 0.5) -> Path:
    for split, count in {"tr": 6, "cv": 2, "tt": 3}.items():
        folder = root / f"{num_talkers}speakers" / f"wav{rate // 1000}k" / "min" / split
        names = [wsj0_name(number, num_talkers) for number in range(count)]
        mixtures(folder, names, rate, num_talkers=num_talkers, seconds=seconds)
    return root


def build_wham(root: Path, mixture: str = "mix_both", suffix: str = "") -> Path:
    for split in ("tr", "cv", "tt"):
        folder = root / "wav8k" / "min" / split
        mixtures(folder, [wsj0_name(number) for number in range(3)], 8000, mixture=mixture, suffix=suffix, noise=True)
    return root


def build_librimix(root: Path, num_talkers: int = 2, kind: str = "mix_clean") -> Path:
    base = root / f"Libri{num_talkers}Mix" / "wav8k" / "min"
    for split in ("train-100", "train-360", "dev", "test"):
        names = ["_".join(f"{10 * t + n}-1{t}-000{n}" for t in range(num_talkers)) for n in range(3)]
        mixtures(base / split, names, 8000, num_talkers=num_talkers, mixture=kind, noise=kind != "mix_clean")
        rows = [f"{name},/elsewhere/{split}/{kind}/{name}.wav,4000" for name in names]
        listed = base / "metadata" / f"mixture_{split}_{kind}.csv"
        listed.parent.mkdir(exist_ok=True)
        listed.write_text("\n".join(["mixture_ID,mixture_path,length", *rows]) + "\n")
    return root


def build_voicebank(root: Path, rate: int = 48000) -> Path:
    for folder, names in {
        "trainset_28spk_wav": ["p226_001", "p287_002", "p228_001", "p228_002"],
        "testset_wav": ["p232_001", "p257_001"],
    }.items():
        for number, name in enumerate(names):
            clean = voice(number, rate // 4)
            write(root / f"clean_{folder}" / f"{name}.wav", clean, rate)
            write(root / f"noisy_{folder}" / f"{name}.wav", clean + voice(90 + number, rate // 4), rate)
    return root


def build_musdb(root: Path, seconds: float = 2.0) -> Path:
    for part, songs in SONGS.items():
        for number, song in enumerate(songs):
            frames = int(seconds * 44100)
            stems = {
                stem: voice(10 * number + place, frames, 2)
                for place, stem in enumerate(("bass", "drums", "other", "vocals"))
            }
            for stem, waveform in {**stems, "mixture": np.sum(list(stems.values()), axis=0)}.items():
                write(root / part / song / f"{stem}.wav", waveform, 44100)
    return root


def build_librispeech(root: Path, rate: int = 16000) -> Path:
    """Two chapters in each part, with their texts, and who reads them."""
    readers = []
    for place, part in enumerate(("train-clean-100", "train-clean-360", "train-other-500", "dev-clean", "test-clean")):
        for chapter in range(2):
            reader = 10 * place + chapter
            readers.append(f"{reader:<5}| {'FM'[chapter]} | {part:<16} | 8.02 | Some Body")
            folder = root / "LibriSpeech" / part / str(reader) / "7"
            folder.mkdir(parents=True)
            names = [f"{reader}-7-{number:04d}" for number in range(2)]
            for number, name in enumerate(names):
                soundfile.write(folder / f"{name}.flac", voice(reader + number, rate // 2 + 100 * number), rate)
            texts = [f"{name} IT'S CHAPTER {['ONE', 'TWO'][chapter]}\n" for name in names]
            (folder / f"{reader}-7.trans.txt").write_text("".join(texts))
    (root / "LibriSpeech" / "SPEAKERS.TXT").write_text("\n".join([";ID |SEX| SUBSET |MINUTES| NAME", *readers]) + "\n")
    return root


def build_commonvoice(root: Path) -> Path:
    """Clips of two rates, as releases of different years have them; a sentence with a quotation mark."""
    (root / "clips").mkdir(parents=True)
    columns = "client_id\tpath\tsentence_id\tsentence\tup_votes\tdown_votes\tage\tgender\tlocale"
    number = 0
    for name in ("train", "dev", "test"):
        rows = [columns]
        for said in ("“Well,” she said.", 'The "old" way', "Don't — ever!"):
            rate = (48000, 32000)[number % 2]
            clip = f"common_voice_en_{number}.mp3"
            soundfile.write(root / "clips" / clip, voice(number, rate // 2 + 999 * number), rate, format="MP3")
            sex = ("female", "male_masculine", "")[number % 3]
            rows.append(f"{name}{number % 2}\t{clip}\tabc\t{said}\t2\t0\t\t{sex}\ten")
            number += 1
        (root / f"{name}.tsv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return root


def build_labelled(root: Path, num_kits: int, num_frames: Callable[[int, int], int]) -> None:
    """Small corpora of labels: ``num_kits`` kits of six sounds, each a tone of its own, and twenty pictures of digits.

    ``num_frames`` gives how long a sound is, by its number and that of the kit.
    """
    entries = []
    for number, label in enumerate(EFFECTS):
        for kit in range(num_kits):
            name, size = f"audio/{label}{kit}.wav", num_frames(number, kit)
            tone = 0.3 * np.sin(2 * np.pi * 400 * (number + 1) * np.arange(size) / 16_000)
            write(root / "sound_effects" / name, tone[:, None], 16_000)
            more = {"source_file": f"drum-samples/kit{kit}/{label}.wav"}
            entries.append(Entry(name, "test", size / 16_000, label=label, more=more))
    write_manifest(root / "sound_effects" / "manifest.csv", entries)
    folder = root / "mnist_10k"
    folder.mkdir()
    rng = np.random.default_rng(0)
    np.savez(folder / "images.npz", images=rng.integers(0, 255, (20, 28, 28), dtype=np.uint8))
    write_manifest(
        folder / "manifest.csv",
        [
            Entry("images.npz", "test", label=str(number % 10), text=str(number % 10), more={"index": str(number)})
            for number in range(20)
        ],
    )
