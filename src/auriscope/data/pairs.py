"""Evaluation sets of recordings that a corpus offers in two versions: as recorded, and clean."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

import torch

from auriscope.data.cache import AudioStore, open_clips
from auriscope.data.corpora import QUIRKS, Clip, utterances
from auriscope.data.items import EvaluationItem, EvaluationSet
from auriscope.data.manifest import read_manifest
from auriscope.errors import CorpusError

PAIRED = {"voicebank-demand-pairs": "voicebank_demand_pairs"}
"""Name of a set to its corpus."""


class PairedSet(EvaluationSet):
    """One talker: the mixture is the noisy recording, the source the clean one, and the noise their difference."""

    def __init__(
        self,
        name: str,
        split: str,
        corpus: str,
        *,
        sample_rate: int,
        root: Path | None = None,
        folder: Path | None = None,
    ) -> None:
        super().__init__(name, split, sample_rate)
        self._corpus, self._folder = corpus, folder
        self._clean = utterances(corpus, split, root=root)
        place = self._clean[0].path.parents[len(Path(self._clean[0].name).parts) - 1]
        column = QUIRKS[corpus].clean_column or ""
        entries = {entry.more[column]: entry for entry in read_manifest(place / "manifest.csv")}
        self._snrs = [float(entries[clip.name].more["snr_db"]) for clip in self._clean]
        self._noisy = [
            Clip(corpus, entry.path, place / entry.path, split, clip.duration_seconds)
            for clip in self._clean
            for entry in (entries[clip.name],)
        ]

    def __len__(self) -> int:
        return len(self._clean)

    def __getitem__(self, index: int) -> EvaluationItem:
        clean, noisy = (torch.from_numpy(store.read(index)) for store in self._stores)
        if len(clean) != len(noisy):
            raise CorpusError(f"{self._noisy[index].path}: is not as long as its clean version; get the corpus anew")
        utterance = self._clean[index]
        return EvaluationItem(
            id=Path(self._noisy[index].name).stem,
            mixture=noisy,
            sources=clean[None],
            noise=noisy - clean,
            sample_rate=self.sample_rate,
            speakers=(utterance.speaker,),
            sexes=(utterance.sex or "",),
            room=None,
            snr_db=self._snrs[index],
        )

    @cached_property
    def _stores(self) -> tuple[AudioStore, AudioStore]:
        clean, noisy = (
            open_clips(
                clips,
                sample_rate=self.sample_rate,
                name=f"{self._corpus}-{version}-{self.split}",
                folder=self._folder,
            )
            for version, clips in (("clean", self._clean), ("noisy", self._noisy))
        )
        return clean, noisy
