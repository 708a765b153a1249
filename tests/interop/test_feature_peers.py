"""Our features against SpeechBrain's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from auriscope.signal.cepstra import GlobalNormalization, normalize
from auriscope.signal.features import make_features

CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "fbank_80": ("speechbrain", {}),
    "fbank_40_deltas": ("speechbrain", {"num_mels": 40, "num_deltas": 2, "delta_width": 5, "delta_edges": "replicate"}),
    "fbank_24": ("speechbrain", {"num_mels": 24}),
    "mfcc": ("speechbrain-mfcc", {}),
}


@pytest.fixture(scope="module")
def originals(peer_features: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = torch.load(peer_features / "features.pt", weights_only=True)
    return loaded


def _batch(sequences: list[Tensor]) -> tuple[Tensor, Tensor]:
    padded = torch.nn.utils.rnn.pad_sequence(sequences, batch_first=True)
    return padded, torch.tensor([len(sequence) for sequence in sequences])


@pytest.mark.peers
@pytest.mark.parametrize("case", CASES)
def test_features_of_a_batch_equal_the_originals_of_each(case: str, originals: dict[str, Any]) -> None:
    name, changes = CASES[case]
    features, frame_lengths = make_features(name, **changes)(*_batch(originals["waveforms"]))
    for row, expected in enumerate(originals[case]):
        assert frame_lengths[row] == len(expected)
        # A cepstrum sums mels of up to 100 dB with either sign, and so their roundings.
        torch.testing.assert_close(
            features[row, : len(expected)], expected, rtol=1e-5, atol=5e-4 if case == "mfcc" else 1e-4
        )


@pytest.mark.peers
def test_normalisation_equals_the_originals(originals: dict[str, Any]) -> None:
    features, frame_lengths = _batch(originals["fbank_80"])
    corpus = GlobalNormalization(80)
    corpus.update(features[:2], frame_lengths[:2])
    corpus.update(features[2:], frame_lengths[2:])
    torch.testing.assert_close(corpus.mean, originals["statistics"]["glob_mean"], rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(corpus.deviation, originals["statistics"]["glob_std"], rtol=1e-4, atol=1e-4)
    for found, case in ((normalize(features, frame_lengths), "sentence"), (corpus(features, frame_lengths), "global")):
        for row, expected in enumerate(originals[case]):
            torch.testing.assert_close(found[row, : len(expected)], expected, rtol=1e-4, atol=1e-4)
