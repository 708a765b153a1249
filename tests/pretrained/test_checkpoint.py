from __future__ import annotations

import hashlib
import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from auriscope.errors import AuriscopeError, CheckpointError
from auriscope.pretrained import Model, ModelCard, load_pretrained, save_pretrained
from auriscope.separation.dprnn import DPRNN

FIXTURES = Path(__file__).parent / "fixtures"


def _edit_config(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    config = json.loads(path.read_text())
    config.update(changes)
    path.write_text(json.dumps({key: value for key, value in config.items() if value != "remove"}))


def _replace_weights(folder: Path, data: bytes) -> None:
    """Put other weights in, with the checksum that belongs to them."""
    (folder / "model.safetensors").write_bytes(data)
    _edit_config(folder, weights_sha256=hashlib.sha256(data).hexdigest())


def _edit_tensors(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    tensors = safetensors.torch.load((folder / "model.safetensors").read_bytes())
    change(tensors)
    _replace_weights(folder, safetensors.torch.save(tensors))


@pytest.fixture
def folder(model: Model, card: ModelCard, tmp_path: Path) -> Path:
    folder = tmp_path / "saved"
    save_pretrained(model, folder, card)
    return folder


def test_what_is_written(folder: Path, model: Model, card: ModelCard) -> None:
    assert sorted(path.name for path in folder.iterdir()) == [
        "README.md",
        "card.json",
        "config.json",
        "model.safetensors",
    ]
    config = json.loads((folder / "config.json").read_text())
    assert config["format_version"] == 1
    assert config["architecture"] == "separation/scale"
    assert config["sample_rate"] == 8000
    assert config["num_parameters"] == model.num_parameters == 32
    assert config["config"]["sizes"] == [3, 4]
    assert config["weights_sha256"] == hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    assert ModelCard.read(folder) == card


def test_loading_is_exact(folder: Path, model: Model) -> None:
    model.first.weight.data[0, 0] = torch.nan  # the file does not change with the model
    loaded = load_pretrained(folder)
    assert loaded.config == model.config
    assert not loaded.training
    assert all(parameter.requires_grad for parameter in loaded.parameters())
    saved = safetensors.torch.load_file(folder / "model.safetensors")
    assert {name: tensor.tolist() for name, tensor in loaded.state_dict().items()} == {
        name: tensor.tolist() for name, tensor in saved.items()
    }


def test_half_precision_keeps_what_does_not_fit(model: Model, tmp_path: Path) -> None:
    save_pretrained(model, tmp_path / "half", half=True)
    stored = safetensors.torch.load_file(tmp_path / "half" / "model.safetensors")
    assert {name: str(tensor.dtype) for name, tensor in stored.items()} == {
        "count": "torch.int64",
        "first.bias": "torch.float16",
        "first.weight": "torch.float16",
        "huge": "torch.float32",
        "second.bias": "torch.float16",
        "second.weight": "torch.float16",
    }
    loaded = load_pretrained(tmp_path / "half")
    assert {parameter.dtype for parameter in loaded.parameters()} == {torch.float32}
    assert torch.equal(loaded.first.weight, model.first.weight.half().float())
    assert loaded.huge.tolist() == model.huge.tolist()
    assert loaded.count.item() == 7


def test_tied_and_non_contiguous_weights_are_saved(scale_class: type[Model], tmp_path: Path) -> None:
    model = scale_class.from_config({"tied": True})
    model.first.bias = torch.nn.Parameter(torch.arange(8.0)[::2])
    save_pretrained(model, tmp_path / "tied")
    loaded = load_pretrained(tmp_path / "tied")
    assert loaded.first.weight is loaded.second.weight
    assert torch.equal(loaded.second.weight, model.first.weight)
    assert loaded.first.bias.tolist() == [0.0, 2.0, 4.0, 6.0]


def test_saving_again_replaces_the_checkpoint_and_keeps_other_files(folder: Path, model: Model) -> None:
    (folder / "curve.png").write_bytes(b"a picture")
    (folder / "notes").mkdir()
    (folder / "notes" / "a.txt").write_text("kept")
    model.first.bias.data.fill_(4.0)
    save_pretrained(model, folder)
    assert load_pretrained(folder).first.bias.tolist() == [4.0] * 4
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "curve.png", "model.safetensors", "notes"]
    assert (folder / "notes" / "a.txt").read_text() == "kept"
    assert [path.name for path in folder.parent.iterdir()] == ["saved"]


def test_a_failed_save_leaves_the_former_checkpoint(
    folder: Path, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = load_pretrained(folder).first.bias.tolist()
    model.first.bias.data.fill_(4.0)
    for name in ("fsync", "rename"):
        with monkeypatch.context() as patch:
            calls = []

            def fail(*args: object, calls: list[object] = calls, name: str = name, **kwargs: object) -> None:
                calls.append(args)
                raise OSError(28, "No space left on device")

            real = Path.rename
            if name == "fsync":
                patch.setattr(os, "fsync", fail)
            else:  # the second renaming, of the finished folder into place
                patch.setattr(
                    Path,
                    "rename",
                    lambda self, target, fail=fail, real=real: fail() if ".new-" in self.name else real(self, target),
                )
            with pytest.raises(CheckpointError, match="No space left"):
                save_pretrained(model, folder)
            assert calls
        assert load_pretrained(folder).first.bias.tolist() == before
        assert [path.name for path in folder.parent.iterdir()] == ["saved"]


def test_saving_where_a_file_is_says_so(model: Model, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(CheckpointError, match="cannot be written there"):
        save_pretrained(model, tmp_path / "file")
    with pytest.raises(CheckpointError, match="cannot be written there"):
        save_pretrained(model, tmp_path / "file" / "below")
    assert (tmp_path / "file").read_text() == "mine"


def test_saving_into_the_current_folder(model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path)
    save_pretrained(model, "here/new/model")
    save_pretrained(model, "here/../other")
    assert load_pretrained("here/new/model").config == load_pretrained("other").config == model.config


class Bomb:
    """Unpickling this creates a file: the proof that something was executed."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.target,))


@pytest.mark.parametrize("kind", ["pickle", "torch"])
def test_a_pickle_is_never_executed(folder: Path, tmp_path: Path, kind: str) -> None:
    target = tmp_path / "executed"
    if kind == "pickle":
        data = pickle.dumps(Bomb(target))
    else:
        torch.save({"first.weight": Bomb(target)}, tmp_path / "bomb")
        data = (tmp_path / "bomb").read_bytes()
    _replace_weights(folder, data)
    with pytest.raises(CheckpointError, match="not a valid safetensors file"):
        load_pretrained(folder)
    assert not target.exists()
    pickle.loads(pickle.dumps(Bomb(target)))  # the bomb is a real one
    assert target.exists()


Damage = Callable[[Path], object]
DAMAGES: dict[str, tuple[Damage, str]] = {
    "no config": (lambda f: (f / "config.json").unlink(), "it has no config.json"),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), "it has no model.safetensors"),
    "config not JSON": (lambda f: (f / "config.json").write_text('{"format_version": 1,'), "not valid JSON"),
    "config binary": (lambda f: (f / "config.json").write_bytes(b"\xff\xfe\x00\x80"), "not valid JSON"),
    "config nested": (lambda f: (f / "config.json").write_text("[" * 100_000), "not valid JSON"),
    "config a list": (lambda f: (f / "config.json").write_text("[1, 2]"), "JSON object"),
    "later format": (lambda f: _edit_config(f, format_version=4), "format_version is 4, .* reads 1 to 3"),
    "no format": (lambda f: _edit_config(f, format_version="remove"), "format_version is None"),
    "true format": (lambda f: _edit_config(f, format_version=True), "format_version is True"),
    "no architecture": (lambda f: _edit_config(f, architecture="remove"), "'architecture' is missing"),
    "odd checksum": (lambda f: _edit_config(f, weights_sha256=5), "'weights_sha256' is missing or not a string"),
    "other architecture": (
        lambda f: _edit_config(f, architecture="separation/dprn"),
        "no model 'separation/dprn'; did you mean 'separation/dprnn'",
    ),
    "other room": (lambda f: _edit_config(f, architecture="os/system"), "there is no room 'os'"),
    "module outside": (lambda f: _edit_config(f, architecture="..cli/x"), "there is no room '..cli'"),
    "unknown key": (
        lambda f: _edit_config(f, config={"num_source": 2}),
        "unknown configuration value 'num_source'; did you mean 'num_sources'",
    ),
    "wrong type": (lambda f: _edit_config(f, config={"num_sources": "two"}), "num_sources = 'two' is not valid"),
    "wrong element": (lambda f: _edit_config(f, config={"sizes": [3, "x"]}), "sizes = .* is not valid"),
    "true is not 1": (lambda f: _edit_config(f, config={"num_sources": True}), "num_sources = True is not valid"),
    "refused value": (lambda f: _edit_config(f, config={"kind": "odd"}), "kind is 'odd'; it must be plain or other"),
    "absurd value": (lambda f: _edit_config(f, config={"sizes": [-3, 4]}), "does not build a network"),
    "short tuple": (lambda f: _edit_config(f, config={"sizes": [3]}), "does not build a network"),
    "other shapes": (
        lambda f: _edit_config(f, config={"sizes": [5, 4]}),
        r"'first.weight' has shape \(4, 3\), and the configuration makes it \(4, 5\)",
    ),
    "truncated": (
        lambda f: (f / "model.safetensors").write_bytes((f / "model.safetensors").read_bytes()[:-10]),
        "SHA-256",
    ),
    "one bit": (
        lambda f: (f / "model.safetensors").write_bytes(
            (lambda data: data[:-1] + bytes([data[-1] ^ 1]))((f / "model.safetensors").read_bytes())
        ),
        "SHA-256",
    ),
    "empty": (lambda f: _replace_weights(f, b""), "not a valid safetensors"),
    "truncated, checksum with it": (
        lambda f: _replace_weights(f, (f / "model.safetensors").read_bytes()[:-10]),
        "not a valid safetensors",
    ),
    "huge header": (lambda f: _replace_weights(f, b"\xff" * 8 + b"{}"), "not a valid safetensors"),
    "garbage": (lambda f: _replace_weights(f, os.urandom(300)), "not a valid safetensors"),
    "missing tensor": (lambda f: _edit_tensors(f, lambda t: t.pop("first.bias")), "lack 'first.bias'"),
    "extra tensor": (
        lambda f: _edit_tensors(f, lambda t: t.update({"third": torch.zeros(2)})),
        "hold 'third', unknown to separation/scale",
    ),
    "weights a folder": (
        lambda f: ((f / "model.safetensors").unlink(), (f / "model.safetensors").mkdir()),
        "cannot be read",
    ),
}


@pytest.mark.parametrize(("damage", "message"), DAMAGES.values(), ids=DAMAGES.keys())
def test_damage_ends_in_one_clear_line(folder: Path, damage: Damage, message: str) -> None:
    damage(folder)
    with pytest.raises(CheckpointError, match=message) as caught:
        load_pretrained(folder)
    assert "\n" not in str(caught.value)
    assert str(folder) in str(caught.value)


def test_a_missing_folder_and_a_file(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="there is no such folder"):
        load_pretrained(tmp_path / "nothing")
    (tmp_path / "file").write_text("x")
    with pytest.raises(CheckpointError, match="there is no such folder"):
        load_pretrained(tmp_path / "file")


@pytest.mark.parametrize("device", ["nonsense", "meta:7:8"])
def test_a_device_that_does_not_exist(folder: Path, device: str) -> None:
    with pytest.raises(AuriscopeError, match=f"the device '{device}' cannot be used"):
        load_pretrained(folder, device=device)


def test_eight_bits_keep_every_row_within_a_half_step(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = DPRNN.from_config({**DPRNN.Tiny, "bottleneck_channels": 32, "hidden_size": 16}).eval()
    save_pretrained(model, tmp_path / "small", bits=8)
    save_pretrained(model, tmp_path / "half", half=True)
    loaded = load_pretrained(tmp_path / "small")
    stored = safetensors.torch.load_file(tmp_path / "small" / "model.safetensors")
    in_eight_bits = {name for name, tensor in stored.items() if tensor.dtype == torch.int8}
    assert in_eight_bits
    for name, tensor in model.state_dict().items():
        own = loaded.state_dict()[name]
        if name in in_eight_bits:
            assert tensor.dim() > 1
            rows, step = (own - tensor).flatten(1).abs().amax(1), tensor.flatten(1).abs().amax(1) / 127
            assert (rows <= 0.501 * step).all()
        else:
            assert torch.equal(own, tensor.half().float())
    assert json.loads((tmp_path / "small" / "config.json").read_text())["format_version"] == 2
    sizes = [(tmp_path / name / "model.safetensors").stat().st_size for name in ("small", "half")]
    assert sizes[0] < 0.75 * sizes[1]


@pytest.mark.parametrize("bits", [4, 5, 6, 7])
def test_fewer_bits_are_packed_and_come_back(tmp_path: Path, bits: int) -> None:
    torch.manual_seed(0)
    model = DPRNN.from_config({**DPRNN.Tiny, "bottleneck_channels": 33, "hidden_size": 17}).eval()
    save_pretrained(model, tmp_path / "small", bits=bits)
    loaded = load_pretrained(tmp_path / "small").state_dict()
    stored = safetensors.torch.load_file(tmp_path / "small" / "model.safetensors")
    packed = {name.removesuffix(".packed_shape") for name in stored if name.endswith(".packed_shape")}
    assert packed
    for name in packed:
        tensor, own = model.state_dict()[name], loaded[name]
        assert stored[name].numel() == -(-tensor.numel() * bits // 8)
        rows, step = tensor.flatten(1), stored[name + ".row_scales"][:, None]
        top = 2 ** (bits - 1) - 1
        nearest = (rows / step).round().clamp(-top, top) * step
        torch.testing.assert_close(own.flatten(1), nearest)
        # Never worse than without cutting large values.
        plain = rows.abs().amax(1, keepdim=True) / top
        uncut = (rows / plain).round() * plain
        assert (own.flatten(1) - rows).square().sum() <= (uncut - rows).square().sum() * 1.0001
    assert json.loads((tmp_path / "small" / "config.json").read_text())["weights_dtype"] == f"int{bits}"


@pytest.mark.parametrize("bits", [0, 3, 9])
def test_other_numbers_of_bits_are_refused(tmp_path: Path, bits: int) -> None:
    with pytest.raises(ValueError, match="bits must be 4 to 8"):
        save_pretrained(DPRNN.from_config(DPRNN.Tiny), tmp_path / "model", bits=bits)


def test_packed_weights_of_another_shape_are_refused(tmp_path: Path) -> None:
    model = DPRNN.from_config({**DPRNN.Tiny, "bottleneck_channels": 32, "hidden_size": 16})
    save_pretrained(model, tmp_path, bits=5)

    def widen(tensors: dict[str, torch.Tensor]) -> None:
        name = next(name for name in tensors if name.endswith(".packed_shape"))
        tensors[name] = tensors[name] * 7

    _edit_tensors(tmp_path, widen)
    with pytest.raises(CheckpointError, match="is not packed as its shape says"):
        load_pretrained(tmp_path)


def test_scales_that_are_not_those_of_the_rows_are_refused(tmp_path: Path) -> None:
    model = DPRNN.from_config({**DPRNN.Tiny, "bottleneck_channels": 32, "hidden_size": 16})
    save_pretrained(model, tmp_path, bits=8)
    ending = ".row_scales"

    def shorten(tensors: dict[str, torch.Tensor]) -> None:
        name = next(name for name in tensors if name.endswith(ending))
        tensors[name] = tensors[name][:-1].clone()

    _edit_tensors(tmp_path, shorten)
    with pytest.raises(CheckpointError, match="are no scales of its rows"):
        load_pretrained(tmp_path)


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_checkpoint_of_every_format_loads(number: int) -> None:
    """Files that earlier versions wrote; they never change, and every later version must load them."""
    fixture = FIXTURES / f"format-{number}"
    loaded = load_pretrained(fixture)
    assert loaded.name == "separation/dprnn"
    assert loaded.config.sample_rate == 8000
    expected = json.loads((fixture / "expected.json").read_text())
    mixture = torch.sin(0.01 * torch.arange(expected["num_samples"])[None] ** 1.2)
    with torch.no_grad():
        estimates = loaded(mixture)
    torch.testing.assert_close(
        estimates[0, :, :: expected["step"]], torch.tensor(expected["estimates"]), rtol=1e-3, atol=1e-5
    )
    assert ModelCard.read(fixture).licence == "Apache-2.0"
