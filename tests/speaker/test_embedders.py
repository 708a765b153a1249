"""The networks: the quick way beside the plain one, layers beside what their papers' equations say, and errors."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

from auriscope.errors import AuriscopeError, CheckpointError
from auriscope.nn.pooling import AttentiveStatisticsPooling, StatisticsPooling
from auriscope.nn.tdnn import TDNN, FrameNorm
from auriscope.speaker import ECAPA, Embedder, XVector
from auriscope.speaker.ecapa import SERes2Block

PUBLISHED: dict[str, Any] = {"sum_blocks": False, "norm_aggregated": True, "norm_embedding": False}
VARIANTS: list[tuple[type[Embedder], dict[str, Any]]] = [
    (ECAPA, {}),
    (ECAPA, PUBLISHED),
    (ECAPA, {"stride": 2, "norm_aggregated": False}),
    (XVector, {}),
    (XVector, {"stride": 3}),
]


def made(kind: type[Embedder], changes: dict[str, Any]) -> Embedder:
    """A tiny network whose norms have seen something, in evaluation mode."""
    torch.manual_seed(0)
    model = kind.from_config({**kind.Tiny, **changes})
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm1d):
                module.running_mean.normal_()
                module.running_var.uniform_(0.5, 2.0)
                module.weight.uniform_(0.5, 2.0)
                module.bias.normal_()
    return model.eval()


@pytest.mark.parametrize(("kind", "changes"), VARIANTS)
@pytest.mark.parametrize("time", [400, 1600, 8001])
def test_the_quick_way_gives_what_the_plain_one_gives(kind: type[Embedder], changes: dict[str, Any], time: int) -> None:
    model = made(kind, changes)
    waveform = 0.1 * torch.randn(2, time)
    plain = model(waveform)
    assert plain.requires_grad
    with torch.no_grad():
        quick = model(waveform)
        assert torch.equal(model(waveform), quick)
    assert quick.std() > 1e-3
    torch.testing.assert_close(quick, plain.detach(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("kind", "changes"), VARIANTS)
def test_padding_changes_nothing(kind: type[Embedder], changes: dict[str, Any]) -> None:
    model = made(kind, changes)
    waveform, lengths = 0.1 * torch.randn(4, 6400), torch.tensor([6400, 4801, 1600, 320])
    with torch.no_grad():
        together = model(waveform, lengths)
        for row, length in enumerate(lengths.tolist()):
            torch.testing.assert_close(together[row], model(waveform[row : row + 1, :length])[0], rtol=1e-4, atol=1e-4)


def test_parameters_are_as_many_as_published() -> None:
    assert ECAPA.from_config({}).num_parameters == pytest.approx(14.7e6, rel=0.005)
    assert ECAPA.from_config({"channels": 512}).num_parameters == pytest.approx(6.2e6, rel=0.005)
    speechbrain = ECAPA.from_config({"aggregated_channels": 3072, **PUBLISHED})
    assert speechbrain.num_parameters == pytest.approx(20.77e6, rel=0.0005)
    assert len(speechbrain.state_dict()) == 231
    assert XVector.from_config({}).num_parameters == pytest.approx(4.21e6, rel=0.001)


def test_embeddings_are_of_unit_length_and_of_enough_sound() -> None:
    model = made(ECAPA, {})
    waveform = 0.1 * torch.randn(2, 8000)
    with torch.no_grad():
        embedding = model.embed(waveform, torch.tensor([8000, 4000]))
        torch.testing.assert_close(embedding.norm(dim=1), torch.ones(2))
        torch.testing.assert_close(embedding[0], torch.nn.functional.normalize(model(waveform[:1])[0], dim=0))
        assert model.min_seconds == 0.25
        for arguments in ((waveform[:, :1600],), (waveform, torch.tensor([8000, 1600]))):
            with pytest.raises(AuriscopeError, match=r"0\.10 s of sound are too short .* at least 0\.25 s"):
                model.embed(*arguments)


def test_louder_is_the_same_voice() -> None:
    model = made(XVector, {})
    waveform = 0.1 * torch.randn(1, 8000)
    with torch.no_grad():
        assert (model.embed(waveform) * model.embed(5.0 * waveform)).sum() > 0.9999


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ({"channels": 100, "scale": 8}, "channels a multiple of scale"),
        ({"scale": 1}, "at least 2"),
        ({"stride": 0}, "at least 1"),
        ({"dim": 0}, "num_mels and dim at least 1"),
    ],
)
def test_sizes_that_make_no_sense_are_refused(values: dict[str, Any], line: str) -> None:
    with pytest.raises(CheckpointError, match=line):
        ECAPA.from_config(values)


def test_statistics_are_torchs() -> None:
    torch.manual_seed(0)
    x, pool = torch.randn(3, 4, 9), StatisticsPooling()
    torch.testing.assert_close(pool(x), torch.cat((x.mean(2), x.std(2) + 1e-5), 1))
    lengths = torch.tensor([9, 5, 1])
    noisy = torch.where(torch.arange(9) < lengths[:, None, None], x, torch.nan)
    found = pool(noisy, lengths)
    torch.testing.assert_close(found[1], torch.cat((x[1, :, :5].mean(1), x[1, :, :5].std(1) + 1e-5)))
    torch.testing.assert_close(found[2], torch.cat((x[2, :, 0], torch.full((4,), 1.1e-5))))


def test_attentive_statistics_follow_the_equations() -> None:
    torch.manual_seed(0)
    pool = AttentiveStatisticsPooling(4, 6).eval()
    x = torch.randn(2, 4, 7)
    with torch.no_grad():
        found = pool(x)
        for row in range(2):
            h = x[row]  # (channels, frames)
            whole = torch.cat((h.mean(1), h.std(1, correction=0)))
            scores = torch.empty(4, 7)
            for frame in range(7):
                hidden = pool.tdnn.conv.weight[..., 0] @ torch.cat((h[:, frame], whole)) + pool.tdnn.conv.bias
                hidden = pool.tdnn.norm(hidden.relu()[None, :, None])[0, :, 0].tanh()
                scores[:, frame] = pool.conv.weight[..., 0] @ hidden + pool.conv.bias
            weights = scores.exp() / scores.exp().sum(1, keepdim=True)
            mean = (weights * h).sum(1)
            deviation = ((weights * h.square()).sum(1) - mean.square()).sqrt()
            torch.testing.assert_close(found[row], torch.cat((mean, deviation)), rtol=1e-4, atol=1e-5)


def test_a_group_of_a_res2_block_hears_the_group_before() -> None:
    torch.manual_seed(0)
    block = SERes2Block(16, 4, 8, 2).eval()
    x = torch.randn(1, 16, 30)
    with torch.no_grad():
        h = block.before(x)
        parts = [h[:, :4], block.groups[0](h[:, 4:8])]
        parts.append(block.groups[1](h[:, 8:12] + parts[1]))
        parts.append(block.groups[2](h[:, 12:] + parts[2]))
        y = block.after(torch.cat(parts, 1))
        gate = torch.sigmoid(block.excite(block.squeeze(y.mean(2)).relu()))
        torch.testing.assert_close(block(x), x + gate[..., None] * y)


def test_a_layer_hears_each_recording_mirrored_and_at_its_stride() -> None:
    torch.manual_seed(0)
    layer = TDNN(3, 5, 3, 2, stride=2, norm=False)
    x = torch.randn(1, 3, 11)
    padded = torch.cat((x[..., [2, 1]], x, x[..., [9, 8]]), 2)
    expected = torch.nn.functional.conv1d(padded, layer.conv.weight, layer.conv.bias, 2, dilation=2).relu()
    assert layer(x).shape == (1, 5, 6)
    torch.testing.assert_close(layer(x), expected)


def test_norms_learn_from_valid_frames_alone() -> None:
    torch.manual_seed(0)
    x, lengths = torch.randn(2, 3, 8), torch.tensor([8, 5])
    norm = FrameNorm(3)
    together = copy.deepcopy(norm)
    valid = torch.cat((x[0], x[1, :, :5]), 1)[None]
    expected = together(valid)
    padded = x.clone()
    padded[1, :, 5:] = 1e6
    found = norm(padded, lengths)
    torch.testing.assert_close(torch.cat((found[0], found[1, :, :5]), 1), expected[0])
    assert not found[1, :, 5:].any()
    torch.testing.assert_close(norm.running_mean, together.running_mean)
    torch.testing.assert_close(norm.running_var, together.running_var)
