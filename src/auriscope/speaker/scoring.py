"""What a speaker model makes of a set of trials: a score for each, and how well they tell speakers apart."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from auriscope.data.voices import TrialSet
from auriscope.metrics.eer import equal_error_rate, min_dcf
from auriscope.speaker.embedder import Embedder


def trial_scores(model: Embedder, found: TrialSet, on_progress: Callable[[float], None] | None = None) -> Tensor:
    """Cosines (trials,) of a set of trials, float64; every recording is embedded once, whole and by itself."""
    embedded = []
    with torch.no_grad():
        # One at a time, as recordings of one length are embedded much faster than a padded batch.
        for index in range(len(found)):
            waveform = torch.from_numpy(found[index])[None].to(model.device)
            embedded.append(model.embed(waveform).cpu().double())
            if on_progress is not None:
                on_progress((index + 1) / len(found))
    embeddings = torch.cat(embedded)
    return (embeddings[found.first] * embeddings[found.second]).sum(1)


def trial_metrics(model: Embedder, found: TrialSet) -> dict[str, Tensor]:
    """Equal error rate in per cent and minimal detection cost of a set of trials, each (1,)."""
    scores = trial_scores(model, found)
    return {
        "eer_percent": torch.tensor([100.0 * equal_error_rate(scores, found.targets).value]),
        "min_dcf": torch.tensor([min_dcf(scores, found.targets).value]),
    }
