"""The page of an analysis: self-contained, without scripts, and fit for every screen and reader."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from auriscope.study.analysis import Data, Settings, analyse, write_analysis
from auriscope.study.analysis.tables import ItemFacts, VoteRow

SYSTEMS = ("SepFormer", "DPRNN", "Conv-TasNet", "a system with a name that is longer than its table")


def full(seed: int = 0) -> Data:
    """A study that has everything: gold items, times, blind scores, epochs, corpora, classes; a rater who clicks."""
    rng = np.random.default_rng(seed)
    items, votes = {}, []
    for place, system in enumerate(SYSTEMS):
        for mixture in range(12):
            quality = 4.2 - 0.6 * place + rng.normal(0, 0.5, 2)
            blind = tuple(float(value) for value in (3 * quality + rng.normal(0, 1, 2)).round(2))
            name = f"{system}/{mixture}"
            items[name] = ItemFacts(
                name, f"m{mixture}", system, blind_db=blind, corpus="REAL-M", group=f"class {mixture % 2}"
            )
            other = f"{name} synthetic"
            items[other] = ItemFacts(other, f"s{mixture}", system, blind_db=(blind[0] + 4,), corpus="Libri2Mix")
            for epoch in (1, 10, 50):
                made = f"{name} at {epoch}"
                items[made] = ItemFacts(made, f"s{mixture}", system, blind_db=(blind[0] - 20 / epoch,), epoch=epoch)
            for rater in range(9):
                for part in range(2):
                    score = (
                        rng.integers(1, 6)
                        if rater == 8
                        else np.clip(np.round(quality[part] + rng.normal(0, 0.6)), 1, 5)
                    )
                    votes.append(VoteRow(f"r{rater}", name, part, int(score), 3.0 if rater == 8 else 20.0 + part))
    items["gold"] = ItemFacts("gold", "gold", "gold", "gold", expected=((4, 5),))
    votes += [VoteRow(f"r{rater}", "gold", 0, 1 + 4 * (rater < 8)) for rater in range(9)]
    return Data("Which system? <all>", "quality", items, votes, bonus=1.0)


def little() -> Data:
    """A study of three votes."""
    items = {"i": ItemFacts("i", "m", "a")}
    return Data("Begun", "naturalness", items, [VoteRow(f"r{n}", "i", 0, 2 + n) for n in range(3)])


class Reader(HTMLParser):
    """Gathers what a page loads, runs and names."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.addresses: list[str] = []
        self.images: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            if name == "id":
                self.ids.append(value or "")
            elif name in ("src", "href", "xlink:href", "srcset", "data"):
                self.addresses.append(value or "")
            assert not name.startswith("on"), f"{tag} has {name}"
        found = dict(attrs)
        if found.get("role") == "img":
            self.images.append(found.get("aria-label") or "")


def page_of(data: Data, folder: Path) -> Path:
    return write_analysis(analyse(data, Settings(num_resamples=200)), folder)["report"]


def test_the_page_is_whole_and_runs_nothing(tmp_path: Path) -> None:
    text = page_of(full(), tmp_path).read_text(encoding="utf-8")
    reader = Reader()
    reader.feed(text)
    assert "script" not in reader.tags
    assert all(address.startswith(("#", "data:,")) for address in reader.addresses)
    assert not re.findall(r"url\((?!#)", text)
    assert len(reader.ids) == len(set(reader.ids))
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', text)
    assert policy is not None
    assert policy[1].startswith("default-src 'none'")
    assert "script-src" not in policy[1]


def test_every_picture_says_in_words_what_it_shows(tmp_path: Path) -> None:
    reader = Reader()
    reader.feed(page_of(full(), tmp_path).read_text(encoding="utf-8"))
    # Votes, ranks, all tracks and each system, two curves less the one without votes, corpora.
    assert len(reader.images) == 2 + 1 + len(SYSTEMS) + 1 + 1
    assert all(len(text) > 30 for text in reader.images)
    assert any("SepFormer: rank 1, from 1 to" in text for text in reader.images)
    assert any("Conv-TasNet: −" in text and "at epoch 1," in text for text in reader.images)


def test_pictures_take_the_pages_colours(tmp_path: Path) -> None:
    text = page_of(full(), tmp_path).read_text(encoding="utf-8")
    for svg in re.findall(r"<svg viewBox.*?</svg>", text, flags=re.DOTALL):
        assert set(re.findall(r"#[0-9a-f]{6}", svg)) == set()


def test_published_values_are_marked_as_such(tmp_path: Path) -> None:
    text = page_of(full(), tmp_path).read_text(encoding="utf-8")
    for value in ("8.40", "2.88", "7.04", "2.43", "5.49", "1.59"):
        assert f'<td class="published">{value}</td>' in text
    assert text.count('class="published">–') == 2


@pytest.mark.parametrize("phone", [False, True], ids=["desktop", "phone"])
@pytest.mark.parametrize("make", [full, little])
def test_the_page_is_accessible_and_fits_the_screen(browsing: Any, make: Any, phone: bool, tmp_path: Path) -> None:
    path = page_of(make(), tmp_path)
    # axe-core is a script of the test, which the page's policy would not run.
    page = browsing.page(phone=phone, bypass_csp=True)
    page.goto(path.as_uri())
    browsing.look(page, f"analysis-{make.__name__}-{'phone' if phone else 'desktop'}")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.getAttribute('href')") == "#main"
    page.context.close()


def test_the_pages_own_policy_complains_of_nothing(browsing: Any, tmp_path: Path) -> None:
    page = browsing.page()
    page.goto(page_of(full(), tmp_path).as_uri())
    assert page.problems == []
    assert page.get_by_role("heading", level=1).inner_text() == "Which system? <all>"
    page.get_by_text("All epochs as a table").click()
    assert page.get_by_role("region", name="Table of epochs").is_visible()
    page.context.close()
