from __future__ import annotations

from pathlib import Path

import pytest

from auriscope.errors import CheckpointError
from auriscope.pretrained.hyperpyyaml import HyperPyYaml, Tagged

TEXT = """
seed: 1234
__set_seed: !apply:os.system [touch created-by-reading]
data_folder: !PLACEHOLDER
rate: 8000
again: !ref <rate>
twice: !ref <rate> * 2
sizes:
    inner: {kernel: !ref <rate>}
kernel: !ref <sizes[inner][kernel]>
Net: !new:some.package.Net
    width: !ref <again>
    depth: 3
    bias: False
    dropout: 0
    activation: !name:torch.nn.ReLU
    inner: !new:torch.nn.ReLU
copied: !copy <Net>
modules:
    net: !ref <copied>
    text: Net
round: !ref <about>
about: !ref <round>
lost: !ref <nowhere>
"""


def read(text: str, folder: Path) -> HyperPyYaml:
    path = folder / "hyperparams.yaml"
    path.write_text(text, encoding="utf-8")
    return HyperPyYaml.read(path)


def test_references_are_followed_and_nothing_is_executed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    file = read(TEXT, tmp_path)
    assert file.get("again") == file.get("kernel") == file.take("again", int) == 8000
    assert file.get("__set_seed") == Tagged("apply:os.system", ["touch created-by-reading"])
    assert file.get("data_folder") == Tagged("PLACEHOLDER", "")
    assert file.get("no such") is None
    assert not (tmp_path / "created-by-reading").exists()


def test_an_object_is_its_class_and_its_arguments(tmp_path: Path) -> None:
    net = read(TEXT, tmp_path).part("modules", "net")
    assert (net.kind, net.path) == ("Net", "some.package.Net")
    assert (net.take("width", int), net.take("depth", int, 1), net.take("height", int, 7)) == (8000, 3, 7)
    net.require("bias", False, True)
    assert net.take("dropout", float) == 0
    assert net.part("inner").kind == "ReLU"
    with pytest.raises(CheckpointError, match=r"a Net with the argument activation cannot be loaded"):
        net.finish()
    net.take_any("activation")
    net.finish()
    # Arguments were taken from a copy: another reader finds them all.
    assert read(TEXT, tmp_path).part("modules", "net").take("depth", int) == 3


def test_what_is_no_plain_value_is_said_in_one_line(tmp_path: Path) -> None:
    file = read(TEXT, tmp_path)
    net = file.part("modules", "net")
    for attempt, message in (
        (lambda: file.take("twice", int), r"twice is !ref <rate> \* 2, not a whole number; write it as a plain value"),
        (lambda: file.take("missing", int), "has no missing; add the line missing:"),
        (lambda: file.get("round"), "references that lead in a circle"),
        (lambda: file.get("lost"), "refers to <nowhere>, which it does not have"),
        (lambda: file.part("modules", "text"), r"modules\.text is not described as a module"),
        (lambda: file.part("modules", "none"), r"modules\.none is not described as a module"),
        (lambda: net.take("bias", int), "the bias of Net is False, not a whole number"),
        (lambda: net.take("height", int), r"the Net of modules\.net has no height"),
        (lambda: net.require("depth", 4, 4), "a Net with depth: 3 cannot be loaded"),
        (lambda: net.require("height", 4, 5), "a Net with height: 5 cannot be loaded"),
        (lambda: net.require_kind("Other"), "is a Net, and must be a Other"),
    ):
        with pytest.raises(CheckpointError, match=message) as caught:
            attempt()
        assert str(caught.value).startswith(str(tmp_path / "hyperparams.yaml"))
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [1, 2", "not valid YAML in line"),
        ("a: b\n  c: d", "not valid YAML in line 2"),
        ("a: !!python/object/apply:os.system ['touch created-by-reading']", "not valid YAML in line 1"),
        ("- a\n- b", "does not hold names and values"),
        ("", "does not hold names and values"),
        ("[" * 20000, "not valid YAML"),
        ("a: 2001-99-99", "not valid YAML"),
        ("# " + "x" * (1 << 20), "larger than any file of settings"),
    ],
)
def test_files_that_are_no_settings(text: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError, match=message) as caught:
        read(text, tmp_path)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "created-by-reading").exists()


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="cannot be read: No such file"):
        HyperPyYaml.read(tmp_path / "hyperparams.yaml")
    (tmp_path / "hyperparams.yaml").write_bytes(b"a: \xff\xfe")
    with pytest.raises(CheckpointError, match="not valid YAML"):
        HyperPyYaml.read(tmp_path / "hyperparams.yaml")


def test_references_do_not_multiply(tmp_path: Path) -> None:
    # Ten lists, each of ten references to the one before: followed eagerly, that is ten billion entries.
    levels = [f"l{level}: &l{level} [{', '.join([f'*l{level - 1}' if level else 'x'] * 10)}]" for level in range(10)]
    assert len(read("\n".join(levels), tmp_path).get("l9")) == 10
