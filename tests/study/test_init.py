"""``study init`` and ``study items``: a new study works at once, and nothing of an old one is overwritten."""

from __future__ import annotations

import json
import re
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from subprocess import PIPE
from typing import Any

import httpx
import pytest
import yaml
from fastapi.testclient import TestClient
from sqlalchemy import func, select
from typer.testing import CliRunner

from auriscope.cli.app import app
from auriscope.errors import AuriscopeError
from auriscope.study.campaign import Collection, Listening, placeholders, read_campaign
from auriscope.study.init import init
from auriscope.study.schema import Item
from auriscope.study.settings import Settings, read_settings
from auriscope.study.study import Study
from auriscope.study.web.app import create_app


def run(*arguments: object) -> Any:
    return CliRunner().invoke(app, ["study", *map(str, arguments)])


@pytest.mark.parametrize("kind", ["collection", "listening"])
@pytest.mark.parametrize("languages", [["en"], ["fr"], ["en", "fr"], ["fr", "en"]])
def test_a_new_study_works_at_once(tmp_path: Path, kind: str, languages: list[str]) -> None:
    folder = tmp_path / "My Study"
    spoken = [part for language in languages for part in ("--language", language)]
    result = run("init", folder, "--kind", kind, *spoken, "--contact", "me@uni.example", "--json")
    assert result.exit_code == 0, result.stderr
    written = json.loads(result.stdout)
    assert sorted(Path(path).name for path in written["files"]) == sorted(path.name for path in folder.iterdir())
    assert stat.S_IMODE((folder / "secret.key").stat().st_mode) == 0o600
    study = Study.open(folder)
    try:
        campaign = study.campaign
        assert isinstance(campaign, Collection if kind == "collection" else Listening)
        assert (campaign.name, campaign.languages, campaign.contact) == ("my-study", languages, "me@uni.example")
        for language in languages:
            text = campaign.consent.text[language]
            assert text.count("me@uni.example") == 2
            assert "{{" not in text
        with TestClient(create_app(study)) as client:
            for language in languages:
                page = client.get(f"/?language={language}")
                assert page.status_code == 200
                assert campaign.title[language] in page.text
                assert {"en": "agree to take part", "fr": "participer."}[language] in page.text
    finally:
        study.close()


def test_consents_say_what_must_be_said(tmp_path: Path) -> None:
    for kind in ("collection", "listening"):
        folder = tmp_path / kind
        init(folder, kind, languages=("en", "fr"))  # type: ignore[arg-type]
        consent = read_campaign(folder).campaign.consent.text
        for language, needed in {
            "en": ("voluntary", "stop at any time", "delete", "published", "18 years", "data protection authority"),
            "fr": ("libre", "arrêter à tout moment", "effacer", "publié", "18 ans", "protection des données"),
        }.items():
            assert [word for word in needed if word not in consent[language]] == []
            # As many paragraphs in both languages.
            assert consent["en"].count("\n\n") == consent[language].count("\n\n")


@pytest.mark.parametrize("kind", ["collection", "listening"])
def test_what_a_consent_leaves_to_be_filled_in_is_found(tmp_path: Path, kind: str) -> None:
    init(tmp_path / "study", kind, languages=["en", "fr"])
    found = placeholders(read_campaign(tmp_path / "study").campaign)
    assert found == ["[NAME OF YOUR INSTITUTION]", "[SAY WHEN]", "[NOM DE VOTRE INSTITUTION]", "[INDIQUEZ QUAND]"]
    path = tmp_path / "study" / "campaign.yaml"
    path.write_text(re.sub(r"\[[A-Z ]+\]", "ours", path.read_text(encoding="utf-8")), encoding="utf-8")
    assert placeholders(read_campaign(tmp_path / "study").campaign) == []


def test_sentences_are_ones_own_by_language(tmp_path: Path) -> None:
    english = tmp_path / "en.txt"
    english.write_text('# remark\n\nA first: "one" # here.\n  A   second one.\n- A third.\n', encoding="utf-8")
    folder = tmp_path / "new"
    spoken = ("--language", "en", "--language", "fr")
    assert run("init", folder, "--kind", "collection", *spoken, "--from-sentences", english).exit_code == 0
    campaign = read_campaign(folder).campaign
    assert isinstance(campaign, Collection)
    mine = {sentence.id: sentence.text for sentence in campaign.sentences if sentence.language == "en"}
    assert mine == {"en-001": 'A first: "one" # here.', "en-002": "A second one.", "en-003": "- A third."}
    assert sum(sentence.language == "fr" for sentence in campaign.sentences) == 40


def test_the_example_sentences_are_fit_to_be_read_aloud(tmp_path: Path) -> None:
    init(tmp_path / "new", "collection", languages=("en", "fr"))
    campaign = read_campaign(tmp_path / "new").campaign
    assert isinstance(campaign, Collection)
    texts = [sentence.text for sentence in campaign.sentences]
    assert len(texts) == len(set(texts)) == 80
    # Two that are read at once should take about as long.
    assert all(7 <= len(text.split()) <= 13 and text.endswith(".") for text in texts)
    assert not any(re.search(r"\d", text) for text in texts)


@pytest.mark.parametrize("name", ["campaign.yaml", "server.yaml", "secret.key", "items.csv", "study.db"])
def test_nothing_is_overwritten(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("mine")
    result = run("init", tmp_path, "--kind", "listening")
    assert result.exit_code == 1
    assert result.stderr == f"auriscope: {tmp_path / name}: there is a study here already; choose another folder\n"
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [(name, "mine")]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--kind", "collection", "--language", "de"), "do not speak 'de'; choose among en, fr"),
        (("--kind", "collection", "--contact", "nobody"), "'nobody' is no e-mail address"),
        (("--kind", "listening", "--from-sentences", "SENTENCES"), "a listening study has no sentences"),
        (("--kind", "collection", *(("--from-sentences", "SENTENCES") * 2)), "2 files of sentences for 1 languages"),
        (("--kind", "collection", "--from-sentences", "MISSING"), "cannot be read"),
        (("--kind", "collection", "--from-sentences", "ONE"), "fewer than two sentences"),
        (("--kind", "collection", "--from-sentences", "TWICE"), "TWICE:3: this sentence is in line 1 too"),
        (("--kind", "collection", "--from-sentences", "LONG"), "LONG:1: a sentence is one line of at most 500"),
    ],
)
def test_mistakes_are_told_in_one_line_and_leave_nothing(
    tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    files = {
        "SENTENCES": "One.\nTwo.\n",
        "ONE": "One.\n",
        "TWICE": "One.\nTwo.\nOne.\n",
        "LONG": "x" * 501 + "\nTwo.\n",
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    places = {name: tmp_path / name for name in (*files, "MISSING")}
    result = run("init", tmp_path / "new", *(places.get(argument, argument) for argument in arguments))
    assert result.exit_code == 1
    assert message in result.stderr
    assert result.stderr.count("\n") == 1
    assert not (tmp_path / "new").exists()


def test_a_kind_must_be_named(tmp_path: Path) -> None:
    assert run("init", tmp_path / "new").exit_code == 2
    assert run("init", tmp_path / "new", "--kind", "poll").exit_code == 2


def test_every_variable_that_the_settings_name_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    init(tmp_path / "new", "collection")
    text = (tmp_path / "new" / "server.yaml").read_text()
    names = re.findall(r"AURISCOPE_STUDY_[A-Z]+(?:_[A-Z]+)*", text)
    assert "AURISCOPE_STUDY_METRICS_TOKEN" in names
    for name in names:
        monkeypatch.setenv(name, f"value-of-{name}")
    values = read_settings(tmp_path / "new").model_dump().values()
    assert {f"value-of-{name}" for name in names} <= set(map(str, values))


def test_every_setting_of_the_server_is_explained_and_may_be_uncommented(tmp_path: Path) -> None:
    init(tmp_path / "new", "collection")
    path = tmp_path / "new" / "server.yaml"
    assert yaml.safe_load(path.read_text()) is None
    marked = re.findall(r"^# ([a-z_]+: .*)$", path.read_text(), re.MULTILINE)
    path.write_text("\n".join(marked))
    read_settings(tmp_path / "new")
    assert {line.partition(":")[0] for line in marked} == Settings.model_fields.keys() - {"secret"}


def test_every_key_of_a_campaign_is_explained_and_may_be_uncommented(tmp_path: Path) -> None:
    for kind, model in (("collection", Collection), ("listening", Listening)):
        init(tmp_path / kind, kind, languages=("en", "fr"))  # type: ignore[arg-type]
        path = tmp_path / kind / "campaign.yaml"
        text = path.read_text()
        whole = re.sub(r"^( *)# ?( *(?:- \[|[a-z_]+: ?(?=\S)|[a-z_]+:$))", r"\1\2", text, flags=re.MULTILINE)
        kept = [line for line in whole.splitlines() if not line.lstrip().startswith("#")]
        path.write_text("\n".join(kept))
        values = yaml.safe_load("\n".join(kept))
        assert values.keys() == model.model_fields.keys()
        read_campaign(tmp_path / kind)


def test_items_are_checked_then_taken_in_by_the_command(
    tmp_path: Path, open_study: Callable[..., Study], write_items: Callable[..., Path]
) -> None:
    folder = tmp_path / "new"
    assert run("init", folder, "--kind", "listening").exit_code == 0
    empty = run("items", folder)
    assert empty.exit_code == 1
    assert "items.csv: lists no items yet" in empty.stderr
    study = Study.open(folder)
    write_items(study, num_mixtures=4, num_traps=0)
    gone = folder / "sounds" / "first-2.a.wav"
    data = gone.read_bytes()
    gone.unlink()
    for arguments in (("--check",), ()):
        result = run("items", folder, *arguments, "--json")
        assert result.exit_code == 1
        assert len(result.stderr.splitlines()) == 1
        assert json.loads(result.stdout)["problems"] == [result.stderr.strip().removeprefix("auriscope: ")]
    gone.write_bytes(data)
    checked = run("items", folder, "--check")
    assert (checked.exit_code, "nothing is wrong" in checked.stdout) == (0, True)
    assert "sessions ask for 20 trial items, but there are 8" in checked.stderr
    result = run("items", folder, "--noise-traps", "2", "--training", "1", "--level-dbfs", "-26", "--json")
    assert result.exit_code == 0, result.stderr
    told = json.loads(result.stdout)
    assert told["roles"] == {"trial": 6, "training": 3, "gold": 2, "trap": 2}
    assert (told["num_new"], told["num_systems"], told["problems"]) == (13, 2, [])
    again = json.loads(run("items", folder, "--json").stdout)
    assert (again["num_new"], again["num_present"]) == (0, 11)
    assert json.loads(run("items", folder, "--replace", "--json").stdout)["num_new"] == 11
    with study.database.read() as session:
        assert session.scalar(select(func.count()).select_from(Item)) == 11
    study.close()


def serve(folder: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", "from auriscope.cli import main; main()", "study", "serve", str(folder)]
    return subprocess.Popen([*command, "--port", "0", "--json"], stdout=PIPE, stderr=PIPE, text=True)


def test_a_listening_study_is_served_with_what_its_manifest_names(
    tmp_path: Path, write_items: Callable[..., Path]
) -> None:
    folder = tmp_path / "new"
    init(folder, "listening")
    # Without anything to be heard it does not start, and says why.
    server = serve(folder)
    said, complaint = server.communicate(timeout=60)
    assert (server.returncode, json.loads(said)["input"]) == (1, str(folder))
    assert "items.csv: lists no items yet" in complaint
    study = Study.open(folder)
    write_items(study, num_mixtures=2)
    server = serve(folder)
    try:
        assert server.stdout is not None
        address = json.loads(server.stdout.readline())["address"]
        with study.database.read() as session:
            assert session.scalar(select(func.count()).select_from(Item)) == 9
        assert httpx.get(address, timeout=60).status_code == 200
    finally:
        server.terminate()
        server.communicate(timeout=60)
        study.close()


@pytest.mark.parametrize(
    ("system", "message"),
    [("name", "write NAME=FOLDER"), ("a=FOLDER", "holds no results"), ("=x", "write NAME=FOLDER")],
)
def test_wrong_systems_are_told_in_one_line(tmp_path: Path, system: str, message: str) -> None:
    folder = tmp_path / "new"
    init(folder, "listening")
    result = run("items", folder, "--system", system.replace("FOLDER", str(tmp_path)))
    assert result.exit_code == 1
    assert message in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(AuriscopeError, match="a file is in the place of this folder"):
        init(tmp_path / "file", "collection")
