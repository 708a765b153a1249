"""Folders as SpeechBrain publishes its models: loaded by their address, they give what its own inference gives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch

from auriscope.pretrained import load
from auriscope.pretrained.foreign import read_tensors

SEPARATORS: dict[str, tuple[str, dict[str, Any]]] = {
    "sepformer_three_talkers": ("separation/sepformer", {"num_sources": 3, "num_inter_layers": 3, "num_heads": 4}),
    "sepformer_whamr_16k": ("separation/sepformer", {"num_sources": 2, "sample_rate": 16000}),
    "sepformer_enhancement": ("separation/sepformer", {"num_sources": 1, "sample_rate": 16000, "stride": 10}),
    "sepformer_recipe": ("separation/sepformer", {"num_blocks": 1, "chunk_size": 30}),
    "resepformer": ("separation/resepformer", {"num_blocks": 2, "num_chunk_layers": 2, "num_memory_layers": 3}),
    "resepformer_three_blocks": ("separation/resepformer", {"num_sources": 3, "num_blocks": 3, "chunk_size": 50}),
    "convtasnet_recipe": ("separation/convtasnet", {"causal": False, "block_padding": "late", "norm": "global"}),
    "convtasnet_causal": ("separation/convtasnet", {"causal": True, "block_padding": "late", "norm": "channel"}),
    "convtasnet_mirrored": ("separation/convtasnet", {"causal": False, "block_padding": "reflect"}),
    "dprnn_recipe": ("separation/dprnn", {"cell": "lstm", "chunk_padding": "half", "hop_size": 15}),
    "dprnn_gru": ("separation/dprnn", {"cell": "gru", "norm": "channel", "num_layers": 2, "num_filters": 24}),
}
ESTIMATORS: dict[str, dict[str, Any]] = {
    "realm": {"num_channels": 128, "minimum_db": 0.0, "maximum_db": 10.0},
    "realm_other_range": {"num_channels": 16, "minimum_db": -10.0, "maximum_db": 20.0},
}


@pytest.mark.peers
@pytest.mark.parametrize("case", SEPARATORS)
def test_a_separator_gives_what_speechbrains_gives(case: str, peer_folders: Path) -> None:
    architecture, expected_config = SEPARATORS[case]
    model = load(peer_folders / case)
    assert model.name == architecture
    assert {name: getattr(model.config, name) for name in expected_config} == expected_config
    saved = read_tensors(peer_folders / case / "outputs.pt")
    for mixture, expected in zip(saved["mixtures"], saved["outputs"], strict=True):
        assert 0.1 < expected.std() < 0.5
        with torch.no_grad():
            torch.testing.assert_close(model(mixture), expected, atol=1e-4, rtol=0)


@pytest.mark.peers
@pytest.mark.parametrize("case", ESTIMATORS)
def test_the_estimator_gives_what_speechbrains_gives(case: str, peer_folders: Path) -> None:
    model = load(peer_folders / case)
    assert model.name == "quality/sisnr-realm"
    assert {name: getattr(model.config, name) for name in ESTIMATORS[case]} == ESTIMATORS[case]
    saved = read_tensors(peer_folders / case / "outputs.pt")
    for mixture, tracks, expected in zip(saved["mixtures"], saved["tracks"], saved["outputs"], strict=True):
        assert (expected[0] - expected[1]).abs() > 0.01
        with torch.no_grad():
            torch.testing.assert_close(model(mixture, tracks)[0], expected, atol=1e-4, rtol=0)


@pytest.mark.peers
def test_a_hub_address_gives_what_its_folder_gives(peer_folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repositories = {"speechbrain/resepformer-wsj02mix": "resepformer", "speechbrain/REAL-M-sisnr-estimator": "realm"}

    def snapshot_download(repository: str, **options: Any) -> str:
        return str(peer_folders / repositories[repository])

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    for repository, case in repositories.items():
        weights, expected = load(f"hf://{repository}").state_dict(), load(peer_folders / case).state_dict()
        assert weights.keys() == expected.keys()
        assert all(torch.equal(weights[name], expected[name]) for name in weights)


@pytest.mark.peers
@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pth", "best.pt"])
def test_asteroids_files_load_by_their_address(name: str, peer_outputs: Path, tmp_path: Path) -> None:
    saved = read_tensors(peer_outputs / "dprnn_mulcat.pt")
    torch.save(saved["checkpoint"], tmp_path / name)
    # In a folder, a file is known by its name; a file that is named itself may have any.
    addresses = [tmp_path / name] if name == "best.pt" else [tmp_path / name, tmp_path]
    for address in addresses:
        model = load(address)
        with torch.no_grad():
            torch.testing.assert_close(model(saved["mixtures"][0]), saved["estimates"][0], atol=1e-4, rtol=0)


@pytest.mark.peers
def test_a_file_of_torchaudios_gives_what_torchaudio_gives(peer_folders: Path) -> None:
    model = load(peer_folders / "torchaudio" / "conv_tasnet.pt")
    assert model.name == "separation/convtasnet"
    assert (model.config.num_sources, model.config.num_repeats, model.config.sample_rate) == (3, 2, 8000)
    saved = read_tensors(peer_folders / "torchaudio" / "outputs.pt")
    for mixture, expected in zip(saved["mixtures"], saved["outputs"], strict=True):
        assert 0.1 < expected.std() < 0.5
        with torch.no_grad():
            torch.testing.assert_close(model(mixture), expected, atol=1e-4, rtol=0)
