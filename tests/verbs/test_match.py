"""The verb ``match``: words and recordings find sounds, a page plays them, and what cannot be is one line."""

from __future__ import annotations

import gzip
import html.parser
import importlib.util
import json
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import auriscope
from auriscope.cli import app
from auriscope.crossmodal.graph import SoundGraph
from auriscope.crossmodal.index import SoundIndex
from auriscope.errors import AuriscopeError
from auriscope.pretrained import load
from auriscope.signal.files import read, write
from auriscope.verbs.match import MatchResult, Searcher
from auriscope.verbs.match.page import clock

from .sound_folders import RATE, sound, tiny_clap

CHROMIUM = Path("/usr/bin/chromium")
AXE = gzip.decompress((Path(__file__).parents[1] / "vendor" / "axe-core" / "axe.min.js.gz").read_bytes()).decode()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model, sounds in two folders, and an index of each."""
    folder = tmp_path_factory.mktemp("place")
    tiny_clap(folder / "model")
    for number in range(6):
        sound(folder / f"sounds/{number}.wav", number)
    sound(folder / "sounds/long.wav", 9, 7.0)
    sound(folder / "more/<b>odd & long name.flac", 11, 3.0)
    auriscope.index(folder / "sounds", folder / "index", model=folder / "model")
    auriscope.index(folder / "more", folder / "index2", model=folder / "model")
    return folder


def run(*arguments: object) -> Any:
    return CliRunner().invoke(app, ["match", *map(str, arguments)])


def expected(place: Path, query: np.ndarray, top: int) -> list[tuple[str, float]]:
    """The best window of every recording, the slow way."""
    scores: dict[str, float] = {}
    with SoundIndex(place / "index") as index:
        (shard,) = index.shards()
        for row, vector in enumerate(shard.vectors.astype(np.float32)):
            path = str(index.place(shard.number, row).path)
            scores[path] = max(scores.get(path, -2.0), float(vector @ query))
    return sorted(scores.items(), key=lambda each: -each[1])[:top]


def test_words_find_sounds(place: Path) -> None:
    result = auriscope.match("rain on a roof", place / "index", top=5)
    assert (result.kind, result.model, result.num_windows) == ("text", str(place / "model"), 6 + 4)
    query = load(place / "model").embed_text(["rain on a roof"])[0].detach().numpy()  # type: ignore[operator]
    wanted = expected(place, query, 5)
    assert [found.path for found in result.results] == [path for path, _ in wanted]
    assert [found.score for found in result.results] == pytest.approx([score for _, score in wanted], abs=1e-5)


def test_a_recording_finds_itself(place: Path, tmp_path: Path) -> None:
    result = auriscope.match(place / "sounds/3.wav", place / "index")
    assert result.kind == "sound"
    assert len(result.results) == 7, "each recording comes once"
    assert result.results[0].path == str(place / "sounds/3.wav")
    assert result.results[0].score == pytest.approx(1.0, abs=1e-3)
    assert (result.results[0].start_seconds, result.results[0].end_seconds) == (0.0, 1.0)
    part = tmp_path / "part.wav"
    write(part, read(place / "sounds/long.wav")[0][4 * RATE : 6 * RATE], RATE)
    (best,) = auriscope.match(part, place / "index", top=1).results
    assert (Path(best.path).name, best.start_seconds, best.end_seconds) == ("long.wav", 4.0, 6.0)


def test_every_window_of_a_recording(place: Path) -> None:
    result = auriscope.match("thunder", place / "index", top=100, every_window=True)
    assert len(result.results) == 10
    assert sum(Path(found.path).name == "long.wav" for found in result.results) == 4
    scores = [found.score for found in result.results]
    assert scores == sorted(scores, reverse=True)


def test_several_indices_are_searched_together(place: Path) -> None:
    both = auriscope.match("thunder", [place / "index", place / "index2"], top=100, every_window=True)
    apart = [auriscope.match("thunder", place / name, top=100, every_window=True) for name in ("index", "index2")]
    assert sorted(both.results, key=repr) == sorted([*apart[0].results, *apart[1].results], key=repr)
    assert [found.score for found in both.results] == sorted((found.score for found in both.results), reverse=True)


@pytest.mark.skipif(importlib.util.find_spec("usearch") is None, reason="needs usearch")
def test_a_graph_finds_the_nearest_among_many(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two hundred windows it looks at four for every one that is asked for."""
    rng = np.random.default_rng(0)
    tones = [np.sin(2 * np.pi * rng.uniform(50.0, 7000.0) * np.arange(2 * RATE) / RATE) for _ in range(200)]
    noise = rng.standard_normal((200, 2 * RATE)) * rng.uniform(0.0, 0.3, (200, 1))
    waveform = (0.3 * (np.stack(tones) + noise)).astype(np.float32)
    (tmp_path / "sounds").mkdir()
    write(tmp_path / "sounds/many.wav", waveform.reshape(-1), RATE)
    auriscope.index(tmp_path / "sounds", tmp_path / "index", model=place / "model", approximate=True)
    scored = []
    candidates = SoundGraph._candidates

    def counted(*given: Any) -> Any:
        found = candidates(*given)
        scored.append(int((found.rows >= 0).sum()))
        return found

    monkeypatch.setattr(SoundGraph, "_candidates", counted)
    for number in range(0, 200, 20):
        write(tmp_path / "query.wav", waveform[number], RATE)
        near = auriscope.match(tmp_path / "query.wav", tmp_path / "index", top=1)
        exact = auriscope.match(tmp_path / "query.wav", tmp_path / "index", top=1, exact=True)
        assert (near.approximate, exact.approximate) == (True, False)
        assert near.results == exact.results
        assert near.results[0].start_seconds == 2.0 * number
    assert scored == [4] * 10


def test_a_searcher_answers_many_queries(place: Path) -> None:
    with Searcher([place / "index"], keep=True) as searcher:
        for words in ("rain", "wind"):
            found = searcher.search(searcher.embedded(words), 3)
            assert found == list(auriscope.match(words, place / "index", top=3).results)


@pytest.mark.parametrize("graph", [False, True])
def test_an_open_searcher_sees_what_changes(place: Path, tmp_path: Path, graph: bool) -> None:
    if graph:
        pytest.importorskip("usearch", reason="needs usearch")
    for number in range(6):
        sound(tmp_path / f"sounds/{number}.wav", number)
    folder = tmp_path / "index"
    auriscope.index(tmp_path / "sounds", folder, model=place / "model")

    def names(path: Path) -> list[str]:
        return [Path(found.path).name for found in searcher.search(searcher.embedded(path), 20)]

    with Searcher([folder], keep=True) as searcher:
        assert not searcher.approximate
        assert len(names(place / "sounds/0.wav")) == 6
        (tmp_path / "sounds/0.wav").unlink()
        sound(tmp_path / "sounds/new.wav", 33)
        auriscope.index(tmp_path / "sounds", folder, approximate=graph)
        assert sorted(names(place / "sounds/0.wav")) == ["1.wav", "2.wav", "3.wav", "4.wav", "5.wav", "new.wav"]
        assert names(tmp_path / "sounds/new.wav")[0] == "new.wav"
        assert (searcher.num_windows, searcher.approximate) == (6, graph)
        # Most of it: what is left is moved.
        for number in range(1, 5):
            (tmp_path / f"sounds/{number}.wav").unlink()
        auriscope.index(tmp_path / "sounds", folder)
        assert sorted(names(place / "sounds/0.wav")) == ["5.wav", "new.wav"]
        assert names(tmp_path / "sounds/new.wav")[0] == "new.wav"


def test_what_is_taken_out_during_a_search_is_looked_for_again(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        sound(tmp_path / f"sounds/{number}.wav", number)
    folder = tmp_path / "index"
    auriscope.index(tmp_path / "sounds", folder, model=place / "model")
    with Searcher([folder]) as searcher:
        nearest = searcher._nearest

        def interrupted(*given: Any) -> Any:
            hits = nearest(*given)
            if (tmp_path / "sounds/0.wav").exists():
                (tmp_path / "sounds/0.wav").unlink()
                auriscope.index(tmp_path / "sounds", folder)
            return hits

        monkeypatch.setattr(searcher, "_nearest", interrupted)
        found = searcher.search(searcher.embedded(place / "sounds/0.wav"), 1)
        assert [Path(each.path).name for each in found] in (["1.wav"], ["2.wav"])


def test_every_window_is_looked_at_once(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = []
    search = SoundIndex.search
    monkeypatch.setattr(
        SoundIndex, "search", lambda *given, **more: (looks.append(given[2]), search(*given, **more))[1]
    )
    assert len(auriscope.match("thunder", place / "index", top=7).results) == 7
    assert len(looks) == 1, "though the first seven windows are not of seven recordings"
    auriscope.match("thunder", place / "index", top=7, every_window=True)
    assert looks[1:] == [7]


def test_the_command(place: Path, tmp_path: Path) -> None:
    done = run("a dog", place / "index", "--top", 2)
    assert done.exit_code == 0, done.output
    assert len(done.stdout.splitlines()) == 2
    done = run(place / "sounds/3.wav", place / "index", "--out", tmp_path / "out", "--json")
    assert done.exit_code == 0, done.output
    result = json.loads(done.stdout)
    assert result["query"] == str(place / "sounds/3.wav")
    assert set(result["results"][0]) == {"path", "start_seconds", "end_seconds", "score"}
    assert result == json.loads((tmp_path / "out/match.json").read_text())
    # A file's name may be what is looked for.
    assert json.loads(run(place / "sounds/3.wav", place / "index", "--text", "--json").stdout)["kind"] == "text"


def test_an_index_of_a_model_without_an_address(place: Path, tmp_path: Path) -> None:
    sound(tmp_path / "sounds/a.wav", 1)
    model = load(place / "model")
    auriscope.index(tmp_path / "sounds", tmp_path / "index", model=model)  # type: ignore[arg-type]
    line = "was made with a crossmodal/clap that has no address; give the model itself, or the folder"
    for attempt in (
        lambda: auriscope.match("rain", tmp_path / "index"),
        lambda: auriscope.index(tmp_path / "sounds", tmp_path / "index"),
    ):
        with pytest.raises(AuriscopeError, match=line):
            attempt()
    for given in (model, place / "model"):
        assert len(auriscope.match("rain", tmp_path / "index", model=given).results) == 1  # type: ignore[arg-type]
    other = tiny_clap(tmp_path / "other", seed=5)
    with pytest.raises(AuriscopeError, match=f"a crossmodal/clap that has no address, not with {other}"):
        auriscope.match("rain", tmp_path / "index", model=other)


def test_what_cannot_be_is_one_line(place: Path, tmp_path: Path) -> None:
    index = place / "index"
    (tmp_path / "bad.wav").write_text("no audio")
    write(tmp_path / "silent.wav", np.zeros(RATE, np.float32), RATE)
    (tmp_path / "sounds").mkdir()
    (tmp_path / "sounds/bad.wav").write_text("no audio")
    auriscope.index(tmp_path / "sounds", tmp_path / "empty", model=place / "model")
    other = tiny_clap(tmp_path / "other", seed=5)
    for arguments, words in (
        (["", index], "the query is empty"),
        (["  ", index], "the query is empty"),
        (["!?", index], "no word"),
        ([tmp_path / "missing.wav", index], "no such file"),
        ([tmp_path / "bad.wav", index], "is not audio"),
        ([tmp_path / "silent.wav", index], "is silent"),
        (["rain", tmp_path / "missing"], "is no index; make one first"),
        (["rain", tmp_path / "empty"], "holds no sound"),
        (["rain", index, "--model", other], f"was made with {place / 'model'}, not with {other}"),
    ):
        done = run(*arguments, "--json")
        assert done.exit_code == 1, arguments
        assert len(done.stderr.splitlines()) == 1, done.stderr
        assert words in done.stderr
        assert set(json.loads(done.stdout)) == {"query", "error"}
    with pytest.raises(AuriscopeError, match="ask for one at least"):
        auriscope.match("rain", index, top=0)
    with pytest.raises(AuriscopeError, match="there is no index"):
        auriscope.match("rain", [])


class _Page(html.parser.HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module")
def found(place: Path, tmp_path_factory: pytest.TempPathFactory) -> MatchResult:
    """What a recording found, after one of the results was deleted."""
    folder = tmp_path_factory.mktemp("page")
    sound(folder / "sounds/gone.wav", 20)
    auriscope.index(folder / "sounds", folder / "index", model=place / "model")
    (folder / "sounds/gone.wav").unlink()
    indices = [place / "index2", place / "index", folder / "index"]
    return auriscope.match(place / "sounds/3.wav", indices, folder / "out")


def test_the_page_is_one_closed_file(found: MatchResult) -> None:
    page = _Page()
    page.feed(Path(found.files[0]).read_text(encoding="utf-8"))
    assert "<b>odd & long name.flac" in page.text, "names of files are text"
    assert "gone.wav: no such file" in page.text
    sounds = [attributes for tag, attributes in page.tags if tag == "audio"]
    pictures = [attributes for tag, attributes in page.tags if tag == "img"]
    # The query, and every result but the one that is gone.
    assert len(found.results) == 9
    assert len(sounds) == len(pictures) == 9
    for each in (*sounds, *pictures):
        assert str(each["src"]).startswith("data:")
        assert each.get("alt") or each.get("aria-label")


def test_the_page_says_how_to_find_the_same_again(place: Path, tmp_path: Path) -> None:
    def command(query: str, out: str, **options: Any) -> str:
        result = auriscope.match(query, place / "index", tmp_path / out, **options)
        page = _Page()
        page.feed(Path(result.files[0]).read_text(encoding="utf-8"))
        return page.text[page.text.index("auriscope match") :].split("\n")[0]

    assert command("a dog", "plain") == f"auriscope match 'a dog' {place}/index --out {tmp_path}/plain"
    options = {"text": True, "model": place / "model", "top": 3, "every_window": True, "exact": True}
    again = command("-rain's end", "all", **options)
    assert again.endswith(f" -- '-rain'\"'\"'s end' {place}/index")
    before = json.loads((tmp_path / "all/match.json").read_text())
    for options_of_page in (f"--model {place}/model", "--top 3", "--text", "--every-window", "--exact"):
        assert options_of_page in again
    done = CliRunner().invoke(app, shlex.split(again)[1:])
    assert done.exit_code == 0, done.output
    assert json.loads((tmp_path / "all/match.json").read_text()) == before


@pytest.mark.skipif(
    not CHROMIUM.exists() or importlib.util.find_spec("playwright") is None,
    reason="needs /usr/bin/chromium and playwright",
)
def test_the_page_is_accessible_and_plays(found: MatchResult) -> None:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        for scheme, width in (("light", 1280), ("dark", 390)):
            page = browser.new_page(color_scheme=scheme, viewport={"width": width, "height": 900})
            complaints: list[str] = []
            page.on("console", lambda message, heard=complaints: heard.append(message.text))
            page.goto(Path(found.files[0]).resolve().as_uri())
            page.wait_for_function("[...document.querySelectorAll('audio')].every(each => each.duration > 0)")
            lengths = page.evaluate("[...document.querySelectorAll('audio')].map(each => each.duration)")
            assert lengths[:2] == pytest.approx([1.0, 1.0], abs=0.1)
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            page.evaluate(AXE)
            seen = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
            assert [(each["id"], each["nodes"][0]["html"]) for each in seen["violations"]] == []
            assert complaints == []
        browser.close()


def test_places_in_a_recording() -> None:
    assert [clock(seconds) for seconds in (0.0, 59.96, 3599.99)] == ["0:00.0", "1:00.0", "1:00:00.0"]
