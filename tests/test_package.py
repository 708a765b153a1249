"""The package as a whole: importing is quick and free of torch, and everything a user can name is documented."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer
import typer.main

import auriscope
from auriscope.cli import app
from auriscope.data import evaluation_set_names
from auriscope.pretrained import list_architectures

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
ROOMS = sorted(path.parent.name for path in (ROOT / "src" / "auriscope").glob("*/__init__.py"))

# Rooms with models register them when they are imported, which needs torch; everything else waits.
TORCH_FREE = [
    "auriscope",
    "auriscope.cli",
    "auriscope.data",
    "auriscope.errors",
    "auriscope.metrics",
    "auriscope.metrics.agreement",
    "auriscope.metrics.opinion",
    "auriscope.metrics.screening",
    "auriscope.metrics.wer",
    "auriscope.pretrained",
    "auriscope.signal",
    "auriscope.signal.files",
    "auriscope.signal.levels",
    "auriscope.study",
    "auriscope.study.web.app",
    "auriscope.training",
    "auriscope.verbs",
]


def fresh_process(code: str) -> dict[str, object]:
    """Run code in a new interpreter, without the coverage of this one, and give the object it prints as JSON."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
    finished = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment, timeout=120
    )
    result: dict[str, object] = json.loads(finished.stdout)
    return result


def test_importing_auriscope_takes_less_than_three_tenths_of_a_second() -> None:
    # Processor time, and the best of three: what else runs on the machine is not the package's doing.
    code = (
        "import json, time; before = time.process_time(); import auriscope; "
        "print(json.dumps({'seconds': time.process_time() - before}))"
    )
    assert min(float(str(fresh_process(code)["seconds"])) for _ in range(3)) < 0.3


def test_importing_auriscope_loads_nothing_but_itself_and_the_standard_library() -> None:
    code = (
        "import json, sys; before = set(sys.modules); import auriscope; "
        "print(json.dumps({'loaded': sorted({name.split('.')[0] for name in set(sys.modules) - before})}))"
    )
    loaded = fresh_process(code)["loaded"]
    assert isinstance(loaded, list)
    assert set(loaded) - sys.stdlib_module_names == {"auriscope"}


@pytest.mark.parametrize("module", TORCH_FREE)
def test_imports_no_torch(module: str) -> None:
    code = f"import json, sys; import {module}; print(json.dumps({{'torch': 'torch' in sys.modules}}))"
    assert fresh_process(code) == {"torch": False}


def test_every_public_name_is_there() -> None:
    assert dir(auriscope) == sorted(auriscope.__all__)
    for name in auriscope.__all__:
        assert getattr(auriscope, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'sepparate'"):
        _ = auriscope.sepparate


def commands() -> dict[str, typer.core.TyperCommand]:
    """Every command by what is typed for it, such as ``judge`` or ``study serve``."""
    found: dict[str, typer.core.TyperCommand] = {}

    def gather(group: object, before: str) -> None:
        assert isinstance(group, typer.core.TyperGroup)
        for name, command in group.commands.items():
            if isinstance(command, typer.core.TyperGroup):
                gather(command, f"{before}{name} ")
            else:
                assert isinstance(command, typer.core.TyperCommand)
                found[before + name] = command

    gather(typer.main.get_command(app), "")
    return found


def section(text: str, heading: str) -> str:
    """Give the part of a Markdown text under a heading of the second level."""
    found = re.search(rf"^## `?{re.escape(heading)}`?$(.*?)(?=^## |\Z)", text, flags=re.MULTILINE | re.DOTALL)
    assert found, f"there is no section {heading!r}"
    return found[1]


@pytest.mark.parametrize("command", sorted(commands()))
def test_every_command_and_option_is_documented(command: str) -> None:
    documented = section((DOCS / "cli.md").read_text(encoding="utf-8"), f"auriscope {command}")
    named = set(re.findall(r"`(--?[a-z][a-z-]*)", documented))
    parameters = commands()[command].params
    exists = {option for each in parameters for option in (*each.opts, *each.secondary_opts)}
    options = {option for option in exists if option.startswith("-")} - {"--help", "-h"}
    assert options - named == set(), "options that docs/cli.md does not have"
    assert named - options == set(), "options that docs/cli.md has and the command does not"


def test_no_command_is_documented_that_does_not_exist() -> None:
    text = (DOCS / "cli.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^## `auriscope ([\w ]+)`$", text, flags=re.MULTILINE)) == set(commands())


def test_every_recipe_is_documented() -> None:
    pages = [*(DOCS / "guides").glob("*.md"), *(DOCS / "systems").glob("*.md")]
    text = "".join(path.read_text(encoding="utf-8") for path in pages)
    recipes = {path.relative_to(ROOT).as_posix() for path in (ROOT / "recipes").rglob("*.yaml")}
    assert recipes
    assert set(re.findall(r"`(recipes/[^`]+\.yaml)`", text)) == recipes


def test_every_architecture_is_documented() -> None:
    pages = [*(DOCS / "rooms").glob("*.md"), *(DOCS / "systems").glob("*.md")]
    text = "".join(path.read_text(encoding="utf-8") for path in pages)
    assert {name for name in list_architectures() if f"`{name}`" not in text} == set()


def test_every_evaluation_set_is_documented() -> None:
    text = (DOCS / "guides" / "corpora.md").read_text(encoding="utf-8")
    assert {name for name in evaluation_set_names() if f"`{name}`" not in text} == set()


def test_every_benchmark_is_documented() -> None:
    text = (DOCS / "guides" / "reproduce.md").read_text(encoding="utf-8")
    scripts = {path.name for path in (ROOT / "benchmarks").glob("*.py") if not path.name.startswith("fit_")}
    assert set(re.findall(r"`benchmarks/(\w+\.py)` \|", text)) == scripts


def test_every_environment_variable_is_documented() -> None:
    sources = [path.read_text(encoding="utf-8") for path in (ROOT / "src").rglob("*.py")]
    used = {name for text in sources for name in re.findall(r"\"(AURISCOPE_[A-Z_]+)\"", text)}
    text = section((DOCS / "cli.md").read_text(encoding="utf-8"), "Environment variables")
    assert used
    assert used == set(re.findall(r"`(AURISCOPE_[A-Z_]+)`", text))


@pytest.mark.parametrize("room", ROOMS)
def test_every_room_has_a_page(room: str) -> None:
    text = (DOCS / "rooms" / f"{room}.md").read_text(encoding="utf-8")
    assert f"(../api/auriscope.{room}.rst)" in text


def test_every_target_of_make_is_in_the_contributing_guide() -> None:
    targets = set(re.findall(r"^([a-z]+):.*##", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE))
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    assert {target for target in targets if f"`make {target}" not in text} == set()


def test_the_readme_has_exactly_two_set_up_commands() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    block = re.search(r"```sh\n(.*?)```", section(text, "Set up"), flags=re.DOTALL)
    assert block
    assert [line.split("#")[0].strip() for line in block[1].splitlines()] == ["make demo", "make test"]


def test_decision_records_are_numbered_and_listed() -> None:
    records = sorted(path.name for path in (DOCS / "decisions").glob("[0-9]*.md"))
    assert [int(name[:4]) for name in records] == list(range(1, len(records) + 1))
    index = (DOCS / "decisions" / "index.md").read_text(encoding="utf-8")
    assert {name for name in records if name.removesuffix(".md") not in index} == set()


def test_the_changelog_has_a_place_for_the_next_change() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.search(r"^## \[Unreleased\]$", text, flags=re.MULTILINE)
