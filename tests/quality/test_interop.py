"""The files of SpeechBrain's estimator of REAL-M; tests/interop compares what it gives with the original."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from auriscope.errors import CheckpointError
from auriscope.pretrained import load
from auriscope.quality import RealMConfig, RealMEstimator

HEAD = """
sample_rate: 8000
snrmin: 0
snrmax: 10
separation_norm_type: stnorm
encoder: !new:speechbrain.nnet.containers.Sequential
    input_shape: [null, 2, null]
"""
CONVOLUTION = """    cnn{index}: !new:speechbrain.nnet.CNN.Conv1d
        in_channels: {inputs}
        kernel_size: 4
        out_channels: 16
        stride: {stride}
        skip_transpose: True
        padding: 'valid'
"""
LAST = """
encoder_out: !new:speechbrain.nnet.containers.Sequential
    input_shape: [null, 32]
    layer1: !new:speechbrain.nnet.linear.Linear
        input_size: 32
        n_neurons: 24
    relu: !new:torch.nn.ReLU
    layer2: !new:speechbrain.nnet.linear.Linear
        input_size: 24
        n_neurons: 1
    sigm: !new:torch.nn.Sigmoid
modules:
    encoder: !ref <encoder>
    encoder_out: !ref <encoder_out>
"""


def hyperparams() -> str:
    text = HEAD + CONVOLUTION.format(index=1, inputs=2, stride=1)
    for index in range(2, 6):
        text += f"    relu{index - 1}: !new:torch.nn.ReLU\n" + CONVOLUTION.format(index=index, inputs=16, stride=2)
    return text + LAST


@pytest.fixture
def donor() -> RealMEstimator:
    torch.manual_seed(0)
    return RealMEstimator(RealMConfig(num_channels=16, num_hidden=24)).eval()


@pytest.fixture
def folder(donor: RealMEstimator, tmp_path: Path) -> Path:
    (tmp_path / "hyperparams.yaml").write_text(hyperparams(), encoding="utf-8")
    state = donor.state_dict()
    for part, prefix in {"encoder": "cnn", "encoder_out": "layer"}.items():
        torch.save({name: value for name, value in state.items() if name.startswith(prefix)}, tmp_path / f"{part}.ckpt")
    return tmp_path


def test_a_folder_loads(folder: Path, donor: RealMEstimator) -> None:
    model = load(folder)
    assert model.config == donor.config
    mixture, tracks = torch.randn(1, 400), torch.randn(1, 2, 400)
    torch.testing.assert_close(model(mixture, tracks), donor(mixture, tracks))
    # As before any calibration.
    torch.testing.assert_close(model.predict(mixture, tracks).score_db, donor.predict(mixture, tracks).score_db)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("stnorm", "max", "another separation_norm_type than stnorm"),
        ("stride: 2", "stride: 3", "a Conv1d with stride: 3 cannot be loaded"),
        ("'valid'", "'same'", "a Conv1d with padding: same"),
        ("out_channels: 16", "out_channels: 17", "a Conv1d with in_channels: 16|a Conv1d with out_channels: 16"),
        ("torch.nn.Sigmoid", "torch.nn.Tanh", "is a Tanh, and must be a Sigmoid"),
        ("n_neurons: 1\n", "n_neurons: 2\n", "a Linear with n_neurons: 2"),
        ("snrmin: 0", "snrmin: low", "snrmin is 'low', not a number"),
        ("sample_rate: 8000", "", "has no sample_rate"),
        ("n_neurons: 24", "n_neurons: 23", "a Linear with input_size: 24"),
        ("input_size: 32", "input_size: 30", "a Linear with input_size: 30"),
    ],
)
def test_another_network_is_refused(old: str, new: str, message: str, folder: Path) -> None:
    assert old in hyperparams()
    (folder / "hyperparams.yaml").write_text(hyperparams().replace(old, new, 1), encoding="utf-8")
    with pytest.raises(CheckpointError, match=message) as caught:
        load(folder)
    assert str(caught.value).startswith(str(folder))
    assert "\n" not in str(caught.value)


def test_a_missing_part(folder: Path) -> None:
    (folder / "encoder_out.ckpt").unlink()
    with pytest.raises(CheckpointError, match=r"it has no encoder_out\.ckpt"):
        load(folder)


def test_missing_weights(folder: Path) -> None:
    torch.save({"layer1.w.weight": torch.zeros(24, 32)}, folder / "encoder_out.ckpt")
    with pytest.raises(CheckpointError, match=r"it lacks layer1\.w\.bias"):
        load(folder)
