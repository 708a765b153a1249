"""``auriscope prepare`` on the command line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest


def test_prepare_says_what_there_is(
    call: Callable[..., Any], tmp_path: Path, trees: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    root = trees.build_wham(tmp_path / "wham", "mix_clean")
    done = call("prepare", "wham", "--root", root, "--condition", "clean")
    assert done.code == 0
    assert done.out.splitlines()[0] == "manifests/wham-clean (clean, 8000 Hz)"
    assert done.out.split()[4:6] == ["train", "3"]
    assert len(done.complaints) == 3
    assert "3 mixtures and the whole corpus 20000" in done.complaints[0]
    (result,) = call("prepare", "wham", "--root", root, "--condition", "clean", "--json").objects
    assert (result["input"], result["out"], result["num_sources"]) == ("wham", "manifests/wham-clean", 2)
    assert result["splits"]["test"]["num_mixtures"] == 3
    assert result["splits"]["test"]["official_mixtures"] == 3000


def test_what_is_missing_is_one_line(call: Callable[..., Any], tmp_path: Path) -> None:
    done = call("prepare", "wham", "--root", tmp_path, "--out", tmp_path / "out", "--json")
    assert done.code == 1
    assert done.objects == [{"input": "wham", "error": done.complaints[0].removeprefix("auriscope: ")}]
    assert "wav8k/min: is not there; give --root the folder that holds it" in done.complaints[0]
    assert not (tmp_path / "out").exists()
    assert call("prepare", "wham").code == 2
