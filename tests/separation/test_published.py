"""Models in the layouts of other toolkits, from files: what is read, and what is said of what cannot be."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor
from typer.testing import CliRunner

from auriscope.cli import app
from auriscope.errors import CheckpointError
from auriscope.pretrained import load
from auriscope.pretrained.addresses import weights_sha256
from auriscope.separation import ConvTasNet

HYPERPARAMS = """
seed: 1234
__set_seed: !apply:speechbrain.utils.seed_everything [!ref <seed>]
sample_rate: 8000
num_spks: 2
N_encoder_out: 16
kernel_size: 16
Encoder: !new:speechbrain.lobes.models.dual_path.Encoder
    kernel_size: !ref <kernel_size>
    out_channels: !ref <N_encoder_out>
MaskNet: !new:speechbrain.lobes.models.conv_tasnet.MaskNet
    N: !ref <N_encoder_out>
    B: 8
    H: 12
    P: 3
    X: 1
    R: 1
    C: !ref <num_spks>
    norm_type: 'gLN'
    causal: True
    mask_nonlinear: 'relu'
Decoder: !new:speechbrain.lobes.models.dual_path.Decoder
    in_channels: !ref <N_encoder_out>
    out_channels: 1
    kernel_size: !ref <kernel_size>
    stride: 8
    bias: False
modules:
    encoder: !ref <Encoder>
    decoder: !ref <Decoder>
    masknet: !ref <MaskNet>
"""


def weights() -> dict[str, dict[str, Tensor]]:
    """The weights of that network, part by part, under SpeechBrain's names."""
    block = "temporal_conv_net.temporalblock_0_0.layers"
    shapes = {
        "layer_norm.gamma": (1, 1, 16),
        "layer_norm.beta": (1, 1, 16),
        "bottleneck_conv1x1.conv.weight": (8, 16, 1),
        f"{block}.conv.conv.weight": (12, 8, 1),
        f"{block}.act.weight": (1,),
        f"{block}.norm.gamma": (1, 1, 12),
        f"{block}.norm.beta": (1, 1, 12),
        f"{block}.DSconv.conv_0.conv.weight": (12, 1, 3),
        f"{block}.DSconv.act.weight": (1,),
        f"{block}.DSconv.act_0.gamma": (1, 1, 12),
        f"{block}.DSconv.act_0.beta": (1, 1, 12),
        f"{block}.DSconv.conv_1.conv.weight": (8, 12, 1),
        "mask_conv1x1.conv.weight": (32, 8, 1),
    }
    torch.manual_seed(0)
    return {
        "encoder": {"conv1d.weight": torch.randn(16, 1, 16)},
        "decoder": {"weight": torch.randn(16, 1, 16)},
        "masknet": {name: torch.randn(shape) for name, shape in shapes.items()},
    }


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder as SpeechBrain publishes one."""
    home = tmp_path / "published"
    home.mkdir()
    (home / "hyperparams.yaml").write_text(HYPERPARAMS, encoding="utf-8")
    (home / "config.json").write_text('{"speechbrain_interface": "SepformerSeparation"}', encoding="utf-8")
    for part, values in weights().items():
        torch.save(values, home / f"{part}.ckpt")
    return home


def test_a_folder_loads_with_what_theirs_lacks_filled_in(folder: Path) -> None:
    model = load(folder)
    assert isinstance(model, ConvTasNet)
    assert (model.config.sample_rate, model.config.num_sources, model.config.block_padding) == (8000, 2, "late")
    assert not model.training
    state, given = model.state_dict(), weights()
    norm = "temporal_conv_net.temporalblock_0_0.layers.norm.gamma"
    assert torch.equal(state["decoder.weight"], given["decoder"]["weight"])
    assert torch.equal(state["masker.blocks.0.norm1.weight"], given["masknet"][norm].flatten())
    biases = [name for name in state if name.endswith(".bias") and "norm" not in name]
    assert len(biases) == 5
    assert not any(state[name].any() for name in biases)
    assert state["masker.prelu.weight"] == 1


def test_a_loaded_model_can_be_saved_as_ours(folder: Path, tmp_path: Path) -> None:
    model = load(folder)
    model.save_pretrained(tmp_path / "ours")
    again, mixture = load(tmp_path / "ours"), torch.randn(1, 400)
    assert torch.equal(again(mixture), model(mixture))


def test_the_checksum_is_of_all_its_files(folder: Path) -> None:
    before = weights_sha256(folder)
    assert before == weights_sha256(folder)
    torch.save({"weight": torch.zeros(16, 1, 16)}, folder / "decoder.ckpt")
    assert weights_sha256(folder) != before


def test_a_hub_address_downloads_ours_or_else_theirs(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def snapshot_download(repository: str, **options: Any) -> str:
        calls.append((repository, options))
        return str(folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    assert load("hf://speechbrain/some-model@main", offline=True).name == "separation/convtasnet"
    assert [(name, call["revision"], call["local_files_only"]) for name, call in calls] == [
        ("speechbrain/some-model", "main", True)
    ] * 2
    ours, theirs = (set(call["allow_patterns"]) for _, call in calls)
    assert "model.safetensors" in ours
    assert {"hyperparams.yaml", "masknet.ckpt", "encoder_out.ckpt", "pytorch_model.bin"} <= theirs
    # Nothing that runs, and none of the audio and the training's logs that such repositories also hold.
    assert not any(name.endswith((".py", ".wav")) or name.startswith("*") for name in theirs)
    # The merges and words of a tokenizer and the classes of a classifier are text, too.
    assert {name for name in theirs if name.endswith(".txt")} <= {"merges.txt", "vocab.txt", "label_encoder.txt"}


def test_files_of_none_of_them(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"not a model: it has no config\.json of auriscope's, and no files of"):
        load(tmp_path)
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(CheckpointError, match=r"notes\.txt: a model is a folder with a config\.json, or a file"):
        load(tmp_path / "notes.txt")
    torch.save({"some": torch.zeros(2)}, tmp_path / "model.pth")
    with pytest.raises(CheckpointError, match="no files of another toolkit that are known"):
        load(tmp_path)
    with pytest.raises(CheckpointError, match=r"model\.pth: a model is a folder"):
        load(tmp_path / "model.pth")
    # Another kind of model in the same layout.
    (tmp_path / "hyperparams.yaml").write_text("modules: {classifier: !new:some.Classifier {}}")
    with pytest.raises(CheckpointError, match="no files of another toolkit that are known"):
        load(tmp_path)


class Malicious:
    def __reduce__(self) -> Any:
        return (Path.touch, (Path("created-by-unpickling"),))


def replaced(old: str, new: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        assert old in HYPERPARAMS
        (folder / "hyperparams.yaml").write_text(HYPERPARAMS.replace(old, new), encoding="utf-8")

    return change


def masknet(content: Any) -> Callable[[Path], None]:
    return lambda folder: torch.save(content, folder / "masknet.ckpt")


def truncated(folder: Path) -> None:
    path = folder / "masknet.ckpt"
    path.write_bytes(path.read_bytes()[:-500])


DAMAGES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "a missing part": (lambda folder: (folder / "decoder.ckpt").unlink(), r"it has no decoder\.ckpt; copy or"),
    "missing settings": (
        lambda folder: (folder / "hyperparams.yaml").unlink(),
        r"has a masknet\.ckpt of SpeechBrain, but not its hyperparams\.yaml; copy it there",
    ),
    "a truncated part": (truncated, r"masknet\.ckpt: not a file of weights, or truncated or damaged; copy or download"),
    "an empty part": (
        lambda folder: (folder / "masknet.ckpt").write_bytes(b""),
        r"masknet\.ckpt: not a file of weights",
    ),
    "a page in its place": (lambda folder: (folder / "masknet.ckpt").write_text("<html>"), "not a file of weights"),
    "a pickle with code": (
        lambda folder: (folder / "masknet.ckpt").write_bytes(pickle.dumps(Malicious(), protocol=2)),
        r"masknet\.ckpt: it holds more than plain data and tensors, and reading that could run code",
    ),
    "a checkpoint with code": (masknet({"weight": Malicious()}), "reading that could run code; it was not loaded"),
    "a whole module": (masknet(torch.nn.Linear(2, 2)), "reading that could run code"),
    "no state dict": (masknet([torch.zeros(1)]), r"masknet\.ckpt: does not hold weights by name"),
    "another network's weights": (masknet({"weight": torch.zeros(1)}), "not a separation/convtasnet of that config"),
    "other sizes than it says": (
        replaced("H: 12", "H: 13"),
        r"published: the checkpoint's masker\.blocks\.0\S* has shape",
    ),
    "more blocks than there are": (replaced("R: 1", "R: 2"), r"it lacks masker\.blocks\.1\."),
    "no rate": (replaced("sample_rate: 8000", ""), r"hyperparams\.yaml: has no sample_rate; add the line"),
    "a wrong rate": (replaced("sample_rate: 8000", "sample_rate: -8000"), "sample_rate is -8000, which no recording"),
    "a rate in words": (
        replaced("sample_rate: 8000", "sample_rate: 8 kHz"),
        "sample_rate is '8 kHz', not a whole numb",
    ),
    "an unknown argument": (replaced("    R: 1", "    R: 1\n    Z: 1"), "a MaskNet with the argument Z cannot be"),
    "an unknown norm": (replaced("'gLN'", "'BN'"), "a MaskNet with norm_type: BN cannot be loaded"),
    "a mask that we lack": (
        replaced("mask_nonlinear: 'relu'", "mask_nonlinear: softmax"),
        "mask_nonlinear: softmax can",
    ),
    "a network that we lack": (replaced("conv_tasnet.MaskNet", "x.SkiM"), "a SkiM cannot be loaded; Dual_Path_Model"),
    "a decoder that does not fit": (replaced("    stride: 8", "    stride: 4"), "a Decoder with stride: 4 cannot"),
    "another encoder": (replaced("dual_path.Encoder", "x.Spectrogram"), r"the speechbrain\S*x\.Spectrogram of modules"),
    "no YAML": (replaced("num_spks: 2", "num_spks: ["), r"hyperparams\.yaml: not valid YAML in line"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_is_wrong_with_a_folder_is_said_in_one_line(
    damage: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    spoil, message = DAMAGES[damage]
    spoil(folder)
    with pytest.raises(CheckpointError, match=message) as caught:
        load(folder)
    line = str(caught.value)
    assert line.startswith(str(folder))
    assert "\n" not in line
    assert not (folder / "created-by-unpickling").exists()


TRANSFORMER = """
Block: !new:speechbrain.lobes.models.WHERE
    num_layers: 1
    d_model: 16
    nhead: 2
    d_ffn: 20
    use_positional_encoding: True
    norm_before: True
"""
DUAL_PATH = (
    TRANSFORMER.replace("WHERE", "dual_path.SBTransformerBlock")
    + """
MaskNet: !new:speechbrain.lobes.models.dual_path.Dual_Path_Model
    num_spks: 2
    in_channels: 16
    out_channels: 16
    K: 250
    intra_model: !ref <Block>
    inter_model: !ref <Block>
    linear_layer_after_inter_intra: False
"""
)
MEMORY = (
    TRANSFORMER.replace("WHERE", "resepformer.SBTransformerBlock_wnormandskip")
    + """
MaskNet: !new:speechbrain.lobes.models.resepformer.ResourceEfficientSeparator
    input_dim: 16
    segment_size: 150
    mem_type: av
    seg_model: !ref <Block>
    mem_model: !ref <Block>
"""
)
RECURRENT = """
Block: !new:speechbrain.lobes.models.dual_path.SBRNNBlock
    input_size: 16
    hidden_channels: 16
    num_layers: 1
""" + DUAL_PATH[DUAL_PATH.index("MaskNet") :].replace("inter_intra: False", "inter_intra: True")


@pytest.mark.parametrize(
    ("network", "old", "new", "message"),
    [
        (DUAL_PATH, "norm_before: True", "norm_before: False", "norm_before: False"),
        (DUAL_PATH, "norm_before: True", "", "norm_before: False"),
        (DUAL_PATH, "use_positional_encoding: True", "", "use_positional_encoding: False"),
        (DUAL_PATH, "d_ffn: 20", "activation: gelu", "activation: gelu"),
        (DUAL_PATH, "K: 250", "skip_around_intra: False", "skip_around_intra: False"),
        (DUAL_PATH, "K: 250", "use_global_pos_enc: True", "use_global_pos_enc: True"),
        (DUAL_PATH, "inter_intra: False", "inter_intra: True", "transformers and a linear layer after them"),
        (DUAL_PATH, "K: 250", "norm: cln", "another norm than ln"),
        (DUAL_PATH, "SBTransformerBlock", "SBConformerEncoderBlock", "SBConformerEncoderBlock in it"),
        (DUAL_PATH, "num_layers: 1", "num_layers: two", "not a whole number"),
        (DUAL_PATH, "K: 250", "K: 25", "chunk_size must be even"),
        (MEMORY, "mem_type: av", "mem_type: hc", "mem_type: hc"),
        (MEMORY, "SBTransformerBlock_wnormandskip", "SegLSTM", "SegLSTM in it"),
        (MEMORY, "d_ffn: 20", "causal: True", "causal: True"),
        (RECURRENT, "num_layers: 1", "bidirectional: False", "bidirectional: False"),
        (RECURRENT, "num_layers: 1", "rnn_type: LiGRU", "rnn_type: LiGRU"),
        (RECURRENT, "inter_intra: True", "inter_intra: False", "recurrent networks and no linear layer"),
    ],
)
def test_settings_that_no_model_here_has(network: str, old: str, new: str, message: str, folder: Path) -> None:
    start, end = HYPERPARAMS.index("MaskNet"), HYPERPARAMS.index("Decoder")
    assert old in network
    text = HYPERPARAMS[:start] + network.replace(old, new) + HYPERPARAMS[end:]
    (folder / "hyperparams.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(CheckpointError, match=message) as caught:
        load(folder)
    assert str(caught.value).startswith(str(folder))


def test_a_folder_separates_and_is_described_on_the_command_line(folder: Path, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).normal(size=12000).astype(np.float32) * 0.1
    soundfile.write(tmp_path / "talk.wav", noise, 8000)
    line = ["separate", str(tmp_path / "talk.wav"), "--model", str(folder), "--out", str(tmp_path / "out"), "--json"]
    first, second = CliRunner().invoke(app, line), CliRunner().invoke(app, line)
    assert first.exit_code == 0, first.stderr
    result = json.loads(first.stdout)
    assert result["model"] == str(folder)
    assert [Path(track).is_file() for track in result["tracks"]] == [True, True]
    assert not result["resumed"]
    assert json.loads(second.stdout)["resumed"]
    described = CliRunner().invoke(app, ["models", str(folder), "--json"])
    assert json.loads(described.stdout)["architecture"] == "separation/convtasnet"
    shutil.rmtree(folder)
    gone = CliRunner().invoke(app, ["models", str(folder), "--json"])
    assert gone.exit_code == 1
    assert "there is no such folder" in json.loads(gone.stdout)["error"]
    assert "there is no such folder" in gone.stderr


def test_what_is_wrong_with_an_asteroid_file_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "model.pth"
    torch.save({"model_name": "DPTNet2", "model_args": {}, "state_dict": {}}, path)
    with pytest.raises(CheckpointError, match=r"model\.pth: Asteroid's DPTNet2 cannot be loaded"):
        load(path)
    with pytest.raises(CheckpointError, match="Asteroid's DPTNet2 cannot be loaded") as caught:
        load(tmp_path)
    assert str(caught.value).startswith(str(tmp_path))
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(CheckpointError, match=r"model\.pth: not a file of weights, or truncated"):
        load(tmp_path)


def test_a_torchaudio_network_of_other_sizes_is_refused(tmp_path: Path) -> None:
    def weights(num_taps: int) -> dict[str, Tensor]:
        block = "mask_generator.conv_layers.0"
        return {
            "encoder.weight": torch.zeros(4, 1, 16),
            "decoder.weight": torch.zeros(4, 1, 16),
            "mask_generator.input_conv.weight": torch.zeros(2, 4, 1),
            f"{block}.conv_layers.0.weight": torch.zeros(3, 2, 1),
            f"{block}.conv_layers.3.weight": torch.zeros(3, 1, num_taps),
            f"{block}.skip_out.weight": torch.zeros(2, 3, 1),
            "mask_generator.output_conv.bias": torch.zeros(8),
        }

    path = tmp_path / "conv_tasnet.pt"
    torch.save(weights(3), path)
    with pytest.raises(
        CheckpointError, match=r"conv_tasnet\.pt: torchaudio's Conv-TasNet with 1 blocks, .* 8 blocks a"
    ):
        load(path)
    torch.save({key: value for key, value in weights(3).items() if "skip_out" not in key}, path)
    with pytest.raises(CheckpointError, match=r"not a Conv-TasNet of torchaudio's: 'mask_generator.*skip_out"):
        load(path)
