"""What trainings of speaker models share: crops are heard in part, and trials of other speakers choose the weights."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from auriscope.signal.features import SpecAugment
from auriscope.speaker.embedder import Embedder
from auriscope.speaker.scoring import trial_metrics
from auriscope.training.task import Batch


class VerifyingTask(nn.Module):
    """Base of the tasks of speaker models: one phase, and the equal error rate on trials."""

    selection_metric = "eer_percent"
    higher_is_better = False

    def __init__(self, model: Embedder) -> None:
        super().__init__()
        self.model = model

    def phases(self) -> Mapping[str, Iterable[nn.Parameter]]:
        """One phase, over all parameters."""
        return {"main": self.parameters()}

    def embed(self, batch: Batch, masks: SpecAugment) -> Tensor:
        """Embeddings (batch, dim) of a batch's crops, of which SpecAugment blanks a part in training."""
        waveform = batch["waveform"]
        # Powers and their logarithms lose what a network needs of them in sixteen bits.
        with torch.autocast(waveform.device.type, enabled=False):
            features, frame_lengths = self.model.features(waveform, batch["lengths"])
        if self.training:
            features = masks.blanked(features, frame_lengths)
        return self.model.encode_features(features, frame_lengths)

    def evaluate(self, batch: Batch) -> dict[str, Tensor]:
        """Equal error rate in per cent and minimal detection cost of the set of trials in ``batch``, each (1,)."""
        return trial_metrics(self.model, batch["trials"])
