"""The administration in a real browser: a review by keyboard alone, and every page looked at and judged by axe-core."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import select

from auriscope.study.heartbeat import beat
from auriscope.study.schema import AuditEntry, Contributor, Review, Submission
from auriscope.study.study import Study

from .conftest import COLLECTION, LISTENING
from .filled import PASSWORD, add_accounts, fill_collection, fill_listening


@pytest.fixture
def full(open_study: Callable[..., Study]) -> Study:
    limits = {"max_sessions": 200, "max_submissions": 400}
    study = open_study({**COLLECTION, "limits": limits})
    accounts = add_accounts(study)
    fill_collection(study, [accounts["rolf"], accounts["ruth"]], num_sessions=14, seconds=3.0)
    beat(study)
    return study


def log_in(page: Any, address: str, name: str) -> None:
    page.goto(f"{address}/admin")
    page.wait_for_url("**/admin/login")
    # The keyboard goes to the first field, but only once the browser has given it the focus.
    until(page, "document.activeElement.tagName === 'INPUT'")
    page.keyboard.type(name)
    page.keyboard.press("Tab")
    page.keyboard.type(PASSWORD)
    page.keyboard.press("Enter")
    page.wait_for_url(lambda url: "login" not in url)


def until(page: Any, condition: str) -> None:
    """Wait for a condition; the page's policy forbids the browser's driver to do it inside the page."""
    deadline = time.monotonic() + 20
    while not page.evaluate(condition):
        assert time.monotonic() < deadline, condition


def test_a_reviewer_reviews_with_the_keyboard_alone(browsing: Any, full: Study) -> None:
    with browsing.serve(full) as address:
        page = browsing.page()
        log_in(page, address, "rita")
        page.wait_for_url("**/admin/review")
        assert "WORKER" not in page.content()
        first = page.locator("#vote").get_attribute("action").rpartition("/")[2]
        sounds = page.locator("audio")
        assert sounds.count() == 3
        # The recording plays; a track takes its place; the same key lets it rest.
        page.keyboard.press("q")
        until(page, "document.querySelectorAll('audio')[0].currentTime > 0.1")
        page.keyboard.press("w")
        until(page, "document.querySelectorAll('audio')[1].currentTime > 0.1")
        assert sounds.nth(0).evaluate("sound => sound.paused")
        page.keyboard.press("w")
        assert sounds.nth(1).evaluate("sound => sound.paused")
        # Seeking works, because the server sends parts.
        sounds.nth(0).evaluate("sound => { sound.currentTime = 2.5 }")
        until(page, "!document.querySelectorAll('audio')[0].seeking")
        assert abs(sounds.nth(0).evaluate("sound => sound.currentTime") - 2.5) < 0.01
        page.keyboard.press("b")
        page.keyboard.press("4")
        page.keyboard.press("8")
        page.locator("#note").focus()
        page.keyboard.type("bnqs")  # letters in a note are letters
        page.keyboard.press("Escape")
        page.keyboard.press("n")
        page.wait_for_url("**/admin/review?saved=yes")
        assert "Your vote is kept" in page.inner_text("[role=status]")
        second = page.locator("#vote").get_attribute("action").rpartition("/")[2]
        assert second != first
        page.keyboard.press("s")
        page.wait_for_url(f"**/admin/review?skipped={second}")
        assert page.locator("#vote").get_attribute("action").rpartition("/")[2] not in (first, second)
        # Without a vote nothing is kept.
        page.keyboard.press("n")
        assert page.evaluate("document.activeElement.name") == "vote"
        # Whoever needs the letters for something else switches them off, and that is remembered.
        page.locator("#keys").uncheck()
        page.reload()
        page.keyboard.press("g")
        assert not page.locator("input[value=good]").is_checked()
        assert page.problems == []
    with full.database.read() as session:
        review = session.scalars(select(Review).where(Review.submission_id == first).order_by(Review.created_at)).all()[
            -1
        ]
        assert (review.vote, review.reasons, review.note) == ("bad", ["one_voice", "other"], "bnqs")


@pytest.mark.parametrize("phone", [False, True], ids=["desktop", "phone"])
def test_every_page_is_accessible_and_fits(browsing: Any, full: Study, phone: bool) -> None:
    size = "phone" if phone else "desktop"
    with full.database.read() as session:
        submission = session.scalars(select(Review.submission_id)).first()
        person = session.scalars(select(Contributor.id)).first()
    with browsing.serve(full) as address:
        page = browsing.page(phone=phone)
        page.goto(f"{address}/admin/login")
        browsing.look(page, f"admin-login-{size}")
        log_in(page, address, "olga")
        page.locator("details").first.locator("summary").click()
        browsing.look(page, f"admin-overview-{size}")
        places = ("review", "submissions", f"submissions/{submission}", "audit", f"removal?name={person}")
        for place in places:
            page.goto(f"{address}/admin/{place}")
            browsing.look(
                page, f"admin-{place.partition('/')[0].partition('?')[0]}{'-one' if '/' in place else ''}-{size}"
            )


def test_the_dashboard_of_a_listening_study_is_accessible(browsing: Any, open_study: Callable[..., Study]) -> None:
    study = open_study(LISTENING)
    add_accounts(study)
    fill_listening(study)
    with browsing.serve(study) as address:
        page = browsing.page()
        log_in(page, address, "olga")
        assert "better" in page.inner_text("main")
        browsing.look(page, "admin-listening-desktop")


def test_an_owner_decides_and_pauses_in_the_browser(browsing: Any, full: Study) -> None:
    with browsing.serve(full) as address:
        page = browsing.page()
        log_in(page, address, "olga")
        page.get_by_role("button", name="Pause the study").click()
        page.get_by_role("heading", name="Paused").wait_for()
        page.get_by_role("link", name="Recordings", exact=True).click()
        page.get_by_label("Reviewers suggest").select_option("good")
        page.get_by_role("button", name="Show").click()
        page.get_by_role("checkbox", name="Decide about all").first.check()
        page.get_by_role("button", name="Approve").click()
        page.get_by_role("heading", name="Payment: 0 undecided").wait_for()
        with page.expect_download() as download:
            page.goto(f"{address}/admin/overview")
            page.get_by_role("link", name="Submissions (CSV)").click()
        assert download.value.suggested_filename.startswith("two-at-once-submissions-")
    with full.database.read() as session:
        approved = session.scalars(select(Submission).where(Submission.payment == "approved")).all()
        assert approved
        assert {submission.use for submission in approved} == {"pending"}
        actions = session.scalars(select(AuditEntry.action)).all()
        assert {"study.pause", "decision.payment", "csv.download"} <= set(actions)
