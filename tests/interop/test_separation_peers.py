"""Our separators against Asteroid's and SpeechBrain's, with the same random weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from auriscope.separation import interop

CASES = {
    "convtasnet_default": ("separation/convtasnet", {"num_filters": 512, "num_repeats": 3, "norm": "global"}),
    "convtasnet_three_sources": ("separation/convtasnet", {"num_sources": 3, "mask_activation": "relu"}),
    "convtasnet_without_skip": ("separation/convtasnet", {"skip_channels": 0, "encoder_activation": "relu"}),
    "convtasnet_causal": ("separation/convtasnet", {"causal": True, "norm": "cumulative"}),
    "convtasnet_causal_replaced_norm": ("separation/convtasnet", {"causal": True, "norm": "channel"}),
    "convtasnet_softmax_16k": ("separation/convtasnet", {"sample_rate": 16000, "stride": 16}),
    "dprnn_default": ("separation/dprnn", {"bottleneck_channels": 128, "chunk_size": 100, "hop_size": 50}),
    "dprnn_paper_filters": ("separation/dprnn", {"kernel_size": 2, "stride": 1, "hop_size": 125}),
    "dprnn_mulcat": ("separation/dprnn", {"multiply_concatenate": True}),
    "dprnn_gru_one_way": ("separation/dprnn", {"cell": "gru", "bidirectional": False, "norm": "channel"}),
    "dprnn_uneven_hop": ("separation/dprnn", {"hop_size": 7, "num_sources": 3}),
    "dptnet_default": ("separation/dptnet", {"hidden_size": 256, "chunk_size": 100, "hop_size": 50}),
    "dptnet_three_sources": ("separation/dptnet", {"num_sources": 3, "hop_size": 7, "mask_activation": "sigmoid"}),
    "dptnet_one_way": ("separation/dptnet", {"bidirectional": False, "norm": "channel"}),
    "sudormrf_default": ("separation/sudormrf", {"variant": "original", "num_filters": 512, "depth": 4}),
    "sudormrf_three_sources": ("separation/sudormrf", {"num_sources": 3, "stride": 8, "mask_activation": "sigmoid"}),
    "sudormrf_one_width": ("separation/sudormrf", {"bottleneck_channels": 24, "depth": 1}),
    "sudormrf_improved_default": ("separation/sudormrf", {"variant": "improved", "kernel_size": 21, "stride": 10}),
    "sudormrf_improved_three_sources": ("separation/sudormrf", {"num_sources": 3, "stride": 5, "depth": 5}),
    "sepformer_default": ("separation/sepformer", {"num_filters": 256, "num_blocks": 2, "feedforward_size": 1024}),
    "sepformer_small": ("separation/sepformer", {"num_intra_layers": 2, "num_inter_layers": 3}),
    "sepformer_three_sources": ("separation/sepformer", {"num_sources": 3, "num_blocks": 1}),
}


@pytest.mark.peers
@pytest.mark.parametrize("case", CASES)
def test_outputs_equal_the_originals(case: str, peer_outputs: Path) -> None:
    architecture, expected_config = CASES[case]
    saved = interop.read_tensors(peer_outputs / f"{case}.pt")
    if architecture == "separation/sepformer":
        arguments = saved["arguments"]
        foreign = interop.from_speechbrain_sepformer(
            **saved["checkpoint"],
            chunk_size=arguments.get("masknet_chunksize", 250),
            num_heads=arguments.get("intra_nhead", 8),
        )
    else:
        foreign = interop.from_asteroid(saved["checkpoint"])
    assert foreign.architecture == architecture
    assert expected_config.items() <= foreign.config.items()
    model = foreign.build()
    for mixture, expected in zip(saved["mixtures"], saved["estimates"], strict=True):
        assert 0.1 < expected.std() < 0.5
        with torch.no_grad():
            in_slices = model(mixture)
        torch.testing.assert_close(in_slices, expected, atol=1e-4, rtol=0)
        if not case.endswith("default"):
            torch.testing.assert_close(model(mixture), in_slices, atol=1e-5, rtol=0)
