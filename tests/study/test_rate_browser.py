"""A rater in a real browser: from consent to the stamp, with the keyboard alone, with a reload and a lost network."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from auriscope.study import headphones, items, stamps
from auriscope.study.ids import now
from auriscope.study.schema import Assignment, Session, Vote
from auriscope.study.study import Study

CAMPAIGN: dict[str, Any] = {
    "kind": "listening",
    "name": "how-good",
    "title": {"en": "How good do these voices sound?", "fr": "Comment sonnent ces voix ?"},
    "languages": ["en", "fr"],
    "instructions": "Listen.",
    "contact": "lab@example.org",
    "consent": {"version": "1", "text": "We keep your votes."},
    "prolific": {"completion_code": "C1A2B3", "screen_out_code": "NOPE11"},
    "items_per_session": 2,
    "gold_per_session": 1,
    "traps_per_session": 1,
    "training_items": 1,
    "headphone_trials": 3,
    "break_every": 2,
}


@pytest.fixture
def study(open_study: Callable[..., Study], database_url: str, write_items: Callable[..., Path]) -> Study:
    """Two mixtures by two systems, whose sounds last long enough to be interrupted."""
    study = open_study(CAMPAIGN, database=database_url)
    write_items(study, num_mixtures=2, seconds=0.8)
    items.load_if_empty(study)
    return study


def consent(page: Any, address: str) -> None:
    page.goto(address)
    page.get_by_role("checkbox").check()
    page.locator("form button").click()
    page.wait_for_url("**/questionnaire")
    page.locator("input[name=hearing][value=normal]").check()
    page.locator("input[name=device][value=headphones]").check()
    page.locator("#language1").fill("English")
    page.locator("main form button").click()
    page.wait_for_url("**/rate")


def visit_of(study: Study) -> Session:
    with study.database.read() as session:
        return session.scalars(select(Session)).one()


def press_until(page: Any, key: str, condition: str) -> None:
    """Press a key until the focused element is as wanted, as somebody without a mouse does."""
    for _ in range(40):
        if page.evaluate(f"() => {{ const element = document.activeElement; return {condition}; }}"):
            return
        page.keyboard.press(key)
    raise AssertionError(f"{condition} is not reached by {key}")


def check_headphones(page: Any, study: Study, *, right: bool, attempt: int = 0) -> None:
    """Go through the headphone check with the keyboard."""
    answers = [order.index("quiet") for order in headphones.orders(visit_of(study).seed, attempt, 3)]
    page.locator("#level .play:not([disabled])").wait_for()
    press_until(page, "Tab", "element.matches('#level .go-on')")
    page.keyboard.press("Enter")
    for number, answer in enumerate(answers, 1):
        step = page.locator(f"section[aria-labelledby=tones{number}]")
        step.locator(".play:not([disabled])").wait_for()
        # The browser of the tests need not hear four seconds of tones.
        page.evaluate("() => { for (const audio of window.sounds) audio.playbackRate = 16; }")
        press_until(page, "Tab", f"element.matches('section[aria-labelledby=tones{number}] .play')")
        page.keyboard.press("Space")
        step.locator(".state.heard").wait_for()
        press_until(page, "Tab", "element.matches('[type=radio]')")
        page.keyboard.press("Space")
        for _ in range(answer if right else (answer + 1) % 3):
            page.keyboard.press("ArrowDown")
        press_until(page, "Tab", f"element.matches('section[aria-labelledby=tones{number}] .go-on')")
        page.keyboard.press("Enter")


# Lets a test reach the sounds that the page's scripts make.
CATCH_SOUNDS = """
window.sounds = [];
const Plain = window.Audio;
window.Audio = function (...given) { const audio = new Plain(...given); window.sounds.push(audio); return audio; };
"""


TOO_WIDE = """
() => [...document.querySelectorAll(".scores label")].filter((label) => label.scrollWidth > label.clientWidth)
  .map((label) => label.textContent)
"""


def open_page(browsing: Any, **options: Any) -> Any:
    page = browsing.page(**options)
    page.add_init_script(CATCH_SOUNDS)
    return page


def rate_with_keyboard(page: Any, scores: tuple[int, int]) -> None:
    """Hear everything and rate it: Tab, Space and figures."""
    sections = page.locator(".sound")
    for place in range(sections.count()):
        section = sections.nth(place)
        name = section.get_attribute("aria-labelledby")
        section.locator(".play:not([disabled])").wait_for()
        press_until(page, "Tab", f"element.matches('section[aria-labelledby={name}] .play')")
        page.keyboard.press("Space")
        section.locator(".state.heard").wait_for()
        if place > 0:
            page.keyboard.press(str(scores[place - 1]))
            assert section.locator("input:checked").get_attribute("value") == str(scores[place - 1])
    press_until(page, "Tab", "element.id === 'send'")
    page.keyboard.press("Enter")


def test_a_rater_goes_from_consent_to_the_stamp_with_the_keyboard(study: Study, browsing: Any) -> None:
    with browsing.serve(study) as address:
        page = open_page(browsing)
        consent(page, f"{address}/?PROLIFIC_PID=p1&SESSION_ID=s1")
        check_headphones(page, study, right=False)
        page.get_by_role("heading", name="Please try once more").wait_for()
        check_headphones(page, study, right=True, attempt=1)
        page.get_by_role("heading", name="What you will hear").wait_for()
        press_until(page, "Tab", "element.matches('main form button')")
        page.keyboard.press("Enter")
        page.get_by_role("heading", name="Practice 1 of 1").wait_for()
        given = []
        for number in range(5):
            page.locator(f"#progress:has-text('{'Practice 1' if number == 0 else f'Trial {number}'} of')").wait_for()
            given.append((number % 5 + 1, 5 - number % 5))
            rate_with_keyboard(page, given[-1])
        page.wait_for_url("**/done")
        with study.database.read() as session:
            visit = visit_of(study)
            stamp = stamps.stamp_of(study, session, visit)
            assert page.locator("#stamp").inner_text() == stamp
            assert visit.equipment["headphones"]["passed"] is True
            assert len(visit.equipment["headphones"]["attempts"]) == 2
            for assignment, scores in zip(
                session.scalars(select(Assignment).order_by(Assignment.position)), given, strict=True
            ):
                by_part = dict(zip(assignment.part_order, scores, strict=True))
                assert {vote.part: vote.score for vote in assignment.votes} == by_part
                assert assignment.seconds_on_page >= 2
                heard = assignment.listened["heard_seconds"]
                assert all(0.7 <= seconds <= 0.85 for seconds in (*heard["context"], *heard["parts"]))
        assert page.problems == []


def begin_trials(page: Any, study: Study) -> None:
    """Skip the headphones and the introduction."""
    with study.database.write() as session:
        visit = session.scalars(select(Session)).one()
        attempt = {"answers": [1, 1, 1], "correct": 3, "passed": True, "at": ""}
        visit.equipment = {"headphones": {"attempts": [attempt]}}
        visit.progress = {"introduced_at": ""}
    page.reload()
    page.locator("#trial").wait_for()


def hear(page: Any, place: int) -> None:
    section = page.locator(".sound").nth(place)
    section.locator(".play:not([disabled])").click()
    section.locator(".state.heard").wait_for()


def choose(page: Any, place: int, score: int) -> None:
    page.locator(".rated").nth(place).locator("label").nth(score - 1).click()


def test_a_reload_in_the_middle_loses_nothing(study: Study, browsing: Any) -> None:
    with browsing.serve(study) as address:
        page = open_page(browsing, phone=True)
        consent(page, address)
        begin_trials(page, study)
        assignment = page.locator("#trial").get_attribute("data-assignment")
        hear(page, 0)
        hear(page, 1)
        choose(page, 0, 3)
        page.reload()
        # Each sound says what was heard of it once it is loaded.
        for place in range(3):
            page.locator(".sound").nth(place).locator(".play:not([disabled])").wait_for()
        assert page.locator("#trial").get_attribute("data-assignment") == assignment
        assert page.locator(".state.heard").count() == 2
        assert page.locator(".rated").nth(0).locator("input:checked").get_attribute("value") == "3"
        # What is missing is told, and nothing is sent.
        page.locator("#send").click()
        status = page.locator("#status").inner_text()
        assert status == "Not yet heard to the end: Voice 2. Not yet rated: Voice 2."
        assert page.evaluate("document.activeElement.closest('section').getAttribute('aria-labelledby')") == "rated2"
        hear(page, 2)
        choose(page, 1, 5)
        page.locator("#send").click()
        page.get_by_role("heading", name="Trial 1 of 4").wait_for()
        with study.database.read() as session:
            kept = session.get_one(Assignment, assignment)
            assert sorted(vote.score for vote in kept.votes) == [3, 5]
            # The time before the reload counts, and so do its sounds.
            assert all(seconds >= 0.7 for seconds in kept.listened["heard_seconds"]["parts"])
            assert kept.listened["plays"]["context"] == [1]
            assert kept.seconds_on_page >= 2.4
        assert page.problems == []


def test_a_lost_network_loses_no_vote(study: Study, browsing: Any) -> None:
    with browsing.serve(study) as address:
        page = open_page(browsing)
        consent(page, address)
        begin_trials(page, study)
        for place in range(3):
            hear(page, place)
        for place in range(2):
            choose(page, place, 4)
        # The votes arrive, but their answer is lost on the way back; then the network is away for a while.
        lost = []

        def lose(route: Any) -> None:
            if not lost:
                route.fetch()
            if len(lost) < 2:
                lost.append(route)
                route.abort()
            else:
                route.continue_()

        page.route("**/votes", lose)
        page.locator("#send").click()
        page.get_by_role("heading", name="Trial 1 of 4").wait_for()
        assert len(lost) == 2
        with study.database.read() as session:
            assert sorted(session.scalars(select(Vote.score))) == [4, 4]


def test_a_sound_that_cannot_be_loaded_is_told_and_tried_again(study: Study, browsing: Any) -> None:
    with browsing.serve(study) as address:
        page = open_page(browsing)
        consent(page, address)
        page.route("**/api/trial/audio/**", lambda route: route.abort())
        begin_trials(page, study)
        state = page.locator(".sound").nth(0).locator(".state.failed")
        state.wait_for(timeout=30_000)
        assert state.inner_text() == "The sound could not be loaded."
        page.unroute("**/api/trial/audio/**")
        page.locator(".sound").nth(0).get_by_role("button", name="Try again").click()
        page.locator(".sound").nth(0).get_by_role("button", name="Play").wait_for()
        hear(page, 0)


def test_only_one_sound_plays_and_what_is_skipped_is_not_heard(study: Study, browsing: Any) -> None:
    with browsing.serve(study) as address:
        page = open_page(browsing)
        consent(page, address)
        begin_trials(page, study)
        sections = page.locator(".sound")
        for place in range(3):
            sections.nth(place).locator(".play:not([disabled])").wait_for()
        page.evaluate("() => { for (const audio of window.sounds) audio.playbackRate = 0.1; }")
        sections.nth(0).locator(".play").click()
        page.wait_for_function("() => window.sounds[0].currentTime > 0")
        sections.nth(1).locator(".play").click()
        page.wait_for_function("() => window.sounds[0].paused && !window.sounds[1].paused")
        sections.nth(0).get_by_role("button", name="Go on").wait_for()
        # Jumping to the end by other means plays the end only.
        page.evaluate(
            "() => { const audio = window.sounds[2]; audio.playbackRate = 1; audio.currentTime = 0.6; audio.play(); }"
        )
        page.wait_for_function("() => window.sounds[2].ended")
        assert sections.nth(2).locator(".state.heard").count() == 0
        # Played again from the beginning, it is.
        sections.nth(2).locator(".play").click()
        sections.nth(2).locator(".state.heard").wait_for()


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
@pytest.mark.parametrize("phone", [True, False], ids=["phone", "desktop"])
@pytest.mark.parametrize("language", ["en", "fr"])
def test_the_pages_are_fit_to_be_looked_at(study: Study, browsing: Any, phone: bool, language: str) -> None:
    name = f"rate-{'phone' if phone else 'desktop'}-{language}"
    with browsing.serve(study) as address:
        page = open_page(browsing, phone=phone)
        consent(page, f"{address}/?language={language}&PROLIFIC_PID=p1&SESSION_ID=s1")
        page.locator("#level .play:not([disabled])").wait_for()
        browsing.look(page, f"{name}-1-level")
        page.locator("#level .go-on").click()
        page.locator("section[aria-labelledby=tones1] .play:not([disabled])").wait_for()
        page.locator("section[aria-labelledby=tones1] .go-on").click()
        browsing.look(page, f"{name}-2-tones")
        with study.database.write() as session:
            session.scalars(select(Session)).one().equipment = {"headphones": {"attempts": [{"passed": True}]}}
        page.reload()
        page.get_by_role("heading", level=1).wait_for()
        browsing.look(page, f"{name}-3-introduction")
        page.locator("main form button").click()
        page.locator("#trial").wait_for()
        for place in range(3):
            page.locator(".sound").nth(place).locator(".play:not([disabled])").wait_for()
        browsing.look(page, f"{name}-4-practice")
        with study.database.write() as session:
            for assignment in session.scalars(select(Assignment).where(Assignment.position <= 2)):
                assignment.answered_at = now()
        page.reload()
        page.locator("#rest").wait_for()
        hear(page, 0)
        hear(page, 1)
        choose(page, 0, 4)
        page.locator("#send").click()
        browsing.look(page, f"{name}-5-trial")
        # No word is wider than its field, on the smallest phones neither.
        for width in (page.viewport_size["width"], 390, 384, 360, 320):
            page.set_viewport_size({"width": width, "height": 844})
            assert page.evaluate(TOO_WIDE) == [], width
        if phone:
            browsing.look(page, f"{name}-8-smallest")


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_who_cannot_go_on_is_told_and_sent_back(
    open_study: Callable[..., Study], database_url: str, write_items: Callable[..., Path], browsing: Any
) -> None:
    study = open_study({**CAMPAIGN, "headphones_required": True}, database=database_url)
    write_items(study, num_mixtures=2, seconds=0.8)
    items.load_if_empty(study)
    with browsing.serve(study) as address:
        page = open_page(browsing, phone=True)
        consent(page, f"{address}/?PROLIFIC_PID=p1&SESSION_ID=s1")
        check_headphones(page, study, right=False)
        page.get_by_role("heading", name="Please try once more").wait_for()
        browsing.look(page, "rate-phone-en-6-again")
        check_headphones(page, study, right=False, attempt=1)
        page.get_by_role("heading", name="You cannot go on").wait_for()
        assert page.get_by_role("link", name="Back to Prolific").get_attribute("href").endswith("cc=NOPE11")
        browsing.look(page, "rate-phone-en-7-screened")
