from __future__ import annotations

from typing import Any

import pytest
import torch

from auriscope.separation.dprnn import DPRNN, SMALL_16K, DPRNNConfig, RecurrentPath

VARIANTS: list[dict[str, Any]] = [
    {},
    {"multiply_concatenate": True, "mask_activation": "relu"},
    {"cell": "gru", "bidirectional": False, "norm": "channel", "num_layers": 2},
    {"num_sources": 3, "hop_size": 3, "cell": "rnn", "kernel_size": 10, "stride": 3},
    {"chunk_padding": "half"},
    {"chunk_padding": "none", "hop_size": 10},
    {"initial_filters": "harmonic", "num_filters": 32, "encoder_activation": "relu", "fixed_filters": True},
]
HARMONIC: dict[str, Any] = {**DPRNN.Tiny, **VARIANTS[-1]}


def test_the_papers_size() -> None:
    model = DPRNN(DPRNNConfig())
    assert round(model.num_parameters / 1e6, 1) == 2.6
    # Asteroid's default, counted there.
    asteroid = DPRNNConfig(bottleneck_channels=128, kernel_size=16, stride=8, chunk_size=100, hop_size=50)
    assert DPRNN(asteroid).num_parameters == 3_652_865
    assert DPRNN(SMALL_16K).num_parameters == pytest.approx(1.15e6, rel=0.03)


@pytest.mark.parametrize("variant", VARIANTS)
def test_padding_changes_nothing(variant: dict[str, Any], check_padding: Any) -> None:
    check_padding(DPRNN(DPRNNConfig(**{**DPRNN.Tiny, **variant})))


@pytest.mark.parametrize("slice_positions", [1, 64, 200])
def test_slices_give_what_the_whole_gives(slice_positions: int, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    model = DPRNN(DPRNNConfig(**DPRNN.Tiny)).eval()
    mixture = torch.randn(2, 900)
    lengths = torch.tensor([900, 431])
    whole = model(mixture, lengths)
    monkeypatch.setattr(RecurrentPath, "slice_positions", slice_positions)
    with torch.no_grad():
        torch.testing.assert_close(model(mixture, lengths), whole, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("fixed", [True, False])
def test_harmonic_filters_give_back_what_no_mask_changes(fixed: bool) -> None:
    model = DPRNN(DPRNNConfig(**{**HARMONIC, "fixed_filters": fixed}))
    mixture = torch.randn(1, 800)
    features = model.encoder(mixture).transpose(1, 2)
    whole = slice(model.config.stride, -model.config.kernel_size)
    torch.testing.assert_close(model.decoder(features[:, None], 800)[:, 0, whole], mixture[:, whole])
    stored = {name for name in model.state_dict() if not name.startswith("masker.")}
    assert stored == (set() if fixed else {"encoder.weight", "decoder.weight"})
    assert fixed == all(not name.endswith("coder.weight") for name, _ in model.named_parameters())


@pytest.mark.usefixtures("lstm_in_bfloat16")
def test_bfloat16_is_close() -> None:
    torch.manual_seed(0)
    model = DPRNN(DPRNNConfig(**DPRNN.Tiny)).eval()
    mixture = torch.randn(2, 800)
    exact = model(mixture)
    with torch.autocast("cpu", torch.bfloat16):
        rough = model(mixture)
    assert rough.dtype == torch.float32
    assert 0 < (rough - exact).norm() < 0.05 * exact.norm()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"norm": "cumulative"}, "norm is"),
        ({"cell": "qrnn"}, "cell is"),
        ({"hop_size": 251}, "hop_size"),
        ({"initial_filters": "harmonic"}, "num_filters = 2"),
        ({"initial_filters": "harmonic", "num_filters": 4}, "encoder_activation 'relu'"),
        ({"fixed_filters": True}, "initial_filters 'harmonic'"),
    ],
)
def test_impossible_configurations(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DPRNNConfig(**values)


def test_half_padding_needs_chunks_that_overlap_by_half() -> None:
    with pytest.raises(ValueError, match="hop_size must be half of chunk_size"):
        DPRNNConfig(chunk_size=10, hop_size=4, chunk_padding="half")
    with pytest.raises(ValueError, match="chunk_padding is 'double'"):
        DPRNNConfig(chunk_padding="double")
    with pytest.raises(ValueError, match="hop_size must be chunk_size"):
        DPRNNConfig(chunk_padding="none")
