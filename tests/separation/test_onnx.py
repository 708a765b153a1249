"""ONNX files give what the models give, and what cannot be exported or read is said in one line."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from auriscope.errors import AuriscopeError, CheckpointError
from auriscope.pretrained.model import Model
from auriscope.separation import DPRNN, BandSplitRNN, ConvTasNet, SepFormer
from auriscope.separation.long import separate_waveform
from auriscope.separation.onnx import OnnxSeparator, export_onnx

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")


def tiny(architecture: type[Model], **changes: object) -> Model:
    torch.manual_seed(0)
    return architecture.from_config({**architecture.Tiny, **changes}).eval()


@pytest.mark.parametrize("architecture", [ConvTasNet, DPRNN, SepFormer])
def test_a_file_gives_what_the_model_gives(architecture: type[Model], tmp_path: Path) -> None:
    model = tiny(architecture, num_sources=3)
    assert export_onnx(model, tmp_path / "model.onnx", seconds=0.2) < 1e-5
    separator = OnnxSeparator(tmp_path / "model.onnx", threads=1)
    assert (separator.name, separator.config.sample_rate, separator.config.num_sources) == (model.name, 8000, 3)
    assert separator.num_samples == 1600
    mixture = torch.randn(2, 1600)
    with torch.no_grad():
        torch.testing.assert_close(separator(mixture), model(mixture), atol=1e-5, rtol=1e-4)
    assert separator(mixture[:, :1000]).shape == (2, 3, 1000)
    with pytest.raises(AuriscopeError, match="takes 1600 samples at once, not 1601"):
        separator(torch.zeros(1, 1601))


def test_long_recordings_take_an_onnx_file(tmp_path: Path) -> None:
    model = tiny(ConvTasNet)
    export_onnx(model, tmp_path / "model.onnx", seconds=8.0)
    waveform = 0.1 * torch.randn(24_000).numpy()
    tracks = separate_waveform(waveform, OnnxSeparator(tmp_path / "model.onnx"), sample_rate=8000)
    expected = separate_waveform(waveform, model, sample_rate=8000)
    assert tracks.shape == (2, 24_000)
    assert abs(tracks).max() > 1e-4
    # Three seconds are continued to eight with silence, which the global norms of the model see.
    assert (abs(tracks - expected) ** 2).mean() < (expected**2).mean()


def test_what_onnx_cannot_express_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(AuriscopeError, match="separation/bandsplit cannot be written as ONNX"):
        export_onnx(tiny(BandSplitRNN), tmp_path / "model.onnx", seconds=0.2)
    assert list(tmp_path.iterdir()) == []


def test_files_that_are_not_ours_are_refused(tmp_path: Path) -> None:
    import onnx

    with pytest.raises(CheckpointError, match="there is no such file"):
        OnnxSeparator(tmp_path / "missing.onnx")
    (tmp_path / "text.onnx").write_text("not a network")
    with pytest.raises(CheckpointError, match=r"text\.onnx: not an ONNX file that can be read"):
        OnnxSeparator(tmp_path / "text.onnx")
    value = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1])
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Identity", ["x"], ["y"])],
        "other",
        [value],
        [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1])],
    )
    onnx.save(
        onnx.helper.make_model(graph, ir_version=8, opset_imports=[onnx.helper.make_opsetid("", 17)]),
        tmp_path / "other.onnx",
    )
    with pytest.raises(CheckpointError, match="not an ONNX file that auriscope wrote"):
        OnnxSeparator(tmp_path / "other.onnx")
