"""The administration from outside: who may do what, forms, cookies, headers, tables, sounds, and what is logged."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy import func, select

from auriscope.study.participants import Arrival, begin
from auriscope.study.schema import AuditEntry, Contributor, Login, Review, Session, Setting, Submission
from auriscope.study.study import Study
from auriscope.study.web.app import create_app
from auriscope.study.web.audio import audio_token
from auriscope.study.web.guards import HEADERS

from .conftest import COLLECTION, LISTENING
from .filled import PASSWORD, ROLES, add_accounts, csrf_of, fill_collection, fill_listening, log_in

ALL, OWNER = frozenset({"owner", "reviewer", "reader"}), frozenset({"owner"})
REVIEW, FIGURES = frozenset({"owner", "reviewer"}), frozenset({"owner", "reader"})

# What every role may do. A new page must be entered here.
MATRIX = {
    ("GET", "/admin"): ALL,
    ("GET", "/admin/overview"): FIGURES,
    ("POST", "/admin/pause"): OWNER,
    ("GET", "/admin/csv/{table}.csv"): FIGURES,
    ("GET", "/admin/audit"): OWNER,
    ("GET", "/admin/removal"): OWNER,
    ("POST", "/admin/removal"): OWNER,
    ("GET", "/admin/review"): REVIEW,
    ("POST", "/admin/review/{submission_id}"): REVIEW,
    ("POST", "/admin/review/{submission_id}/skip"): REVIEW,
    ("GET", "/admin/audio/{token}"): REVIEW,
    ("GET", "/admin/submissions"): OWNER,
    ("POST", "/admin/submissions/decide"): OWNER,
    ("GET", "/admin/submissions/{submission_id}"): OWNER,
    ("POST", "/admin/submissions/{submission_id}/decide"): OWNER,
    ("POST", "/admin/logout"): ALL,
}
PUBLIC = {("GET", "/admin/login"), ("POST", "/admin/login")}


def admin_routes(app: Any) -> set[tuple[str, str]]:
    """Find all routes of the administration that the application has, also in routers that it includes."""
    found: set[tuple[str, str]] = set()
    for route in app.routes:
        inner = getattr(route, "original_router", None)
        if inner is not None:
            found |= admin_routes(inner)
        elif getattr(route, "path", "").startswith("/admin"):
            found |= {(method, route.path) for method in route.methods - {"HEAD", "OPTIONS"}}
    return found


@pytest.fixture
def full(collection: Study) -> tuple[Study, dict[str, str], list[str]]:
    accounts = add_accounts(collection)
    ids = fill_collection(collection, [accounts["rolf"], accounts["ruth"]], num_sessions=4)
    return collection, accounts, ids


@pytest.fixture
def client(full: Any) -> Iterator[TestClient]:
    with TestClient(create_app(full[0]), follow_redirects=False) as client:
        yield client


def token_of(client: TestClient) -> str:
    for page in ("/admin/overview", "/admin/review"):
        if (answer := client.get(page)).status_code == 200:
            return csrf_of(answer.text)
    raise AssertionError("not logged in")


def filled_in(path: str, study: Study, account: str, submission: str) -> str:
    token = audio_token(study, f"recordings/{submission}.wav", account)
    return path.format(submission_id=submission, token=token, table="submissions")


def test_every_route_of_the_administration_is_in_the_matrix(client: TestClient) -> None:
    assert isinstance(client.app, FastAPI)
    assert admin_routes(client.app) == set(MATRIX) | PUBLIC


@pytest.mark.parametrize("name", ["olga", "rita", "ralf", None])
def test_every_role_may_do_what_the_matrix_says(full: Any, client: TestClient, name: str | None) -> None:
    study, accounts, ids = full
    token = ""
    if name is not None:
        token = token_of(log_in(client, name))
    for (method, path), allowed in MATRIX.items():
        address = filled_in(path, study, accounts.get(name or "", ""), ids[-1])
        answer = client.request(method, address, data={"csrf": token} if method == "POST" else None)
        if name is None:
            refused = (303, "/admin/login") if method == "GET" else (403, None)
            assert (answer.status_code, answer.headers.get("location")) == refused, (method, path)
        elif ROLES[name] in allowed:
            assert answer.status_code in (200, 303, 422), (method, path, answer.text)
            assert answer.headers.get("location") != "/admin/login" or path == "/admin/logout"
        else:
            assert answer.status_code == 403, (method, path)


def test_a_disabled_account_is_out_at_once(full: Any, client: TestClient) -> None:
    from auriscope.study.accounts import disable_account

    log_in(client, "olga")
    assert client.get("/admin/overview").status_code == 200
    token = token_of(client)
    disable_account(full[0], "olga", "command")
    assert client.get("/admin/overview").headers["location"] == "/admin/login"
    answer = client.post("/admin/pause", data={"csrf": token, "state": "paused"})
    assert answer.status_code == 401
    assert "not logged in any more" in answer.text


def state_of(study: Study) -> tuple[Any, ...]:
    with study.database.read() as session:
        submissions = session.scalars(select(Submission).order_by(Submission.id)).all()
        return (
            [(row.payment, row.use) for row in submissions],
            session.scalar(select(func.count()).select_from(Review)),
            session.scalar(select(func.count()).select_from(Contributor)),
            session.scalar(select(func.count()).select_from(Login)),
            session.get(Setting, "paused"),
        )


def test_no_form_is_taken_without_its_token(full: Any, client: TestClient) -> None:
    study, accounts, ids = full
    log_in(client, "olga")
    right = token_of(client)
    with TestClient(create_app(study), follow_redirects=False) as other:
        anothers = token_of(log_in(other, "olga"))
    participants = csrf_of(client.get("/").text)
    with study.database.read() as session:
        person = session.scalars(select(Contributor.id)).first()
    fields = {
        "state": "paused", "contributor": person, "again": person, "vote": "good", "field": "payment",
        "decision": "approved", "expected": "0", "sure": "yes", "reason": "r", "name": "olga", "password": PASSWORD,
    }  # fmt: skip
    before = state_of(study)
    posts = [path for method, path in sorted(set(MATRIX) | PUBLIC) if method == "POST"]
    for wrong in (None, "", "x", right[:-1], right + "A", anothers, participants, "é"):
        for path in posts:
            data = {**fields, **({} if wrong is None else {"csrf": wrong})}
            answer = client.post(filled_in(path, study, accounts["olga"], ids[-1]), data=data)
            assert answer.status_code == 403, (path, wrong)
    assert state_of(study) == before
    # The same forms are taken with it, in the form or in the header.
    assert client.post("/admin/pause", data={**fields, "csrf": right}).status_code == 303
    assert client.post("/admin/pause", data=fields, headers={"x-csrf-token": right}).status_code == 303


def test_a_secret_that_was_put_into_the_browser_before_opens_nothing(full: Any, client: TestClient) -> None:
    planted = "planted-by-somebody-else"
    client.cookies.set("auriscope_admin", planted, domain="testserver.local", path="/admin")
    log_in(client, "olga")
    secret = next(cookie.value for cookie in client.cookies.jar if cookie.name == "auriscope_admin")
    assert secret != planted
    with TestClient(create_app(full[0]), follow_redirects=False) as attacker:
        attacker.cookies.set("auriscope_admin", planted, path="/admin")
        assert attacker.get("/admin/overview").headers["location"] == "/admin/login"
        # And what was the browser's secret is none any more after the logout.
        attacker.cookies.clear()
        attacker.cookies.set("auriscope_admin", str(secret), path="/admin")
        assert attacker.get("/admin/overview").status_code == 200
        client.post("/admin/logout", data={"csrf": token_of(client)})
        assert attacker.get("/admin/overview").headers["location"] == "/admin/login"


def test_a_login_form_of_another_browser_is_not_taken(full: Any, client: TestClient) -> None:
    with TestClient(create_app(full[0]), follow_redirects=False) as other:
        theirs = csrf_of(other.get("/admin/login").text)
    client.get("/admin/login")
    answer = client.post("/admin/login", data={"name": "olga", "password": PASSWORD, "csrf": theirs})
    assert answer.status_code == 403
    assert "auriscope_admin" not in answer.headers.get("set-cookie", "")


def test_a_wrong_name_and_a_wrong_password_are_told_the_same(client: TestClient) -> None:
    pages = []
    for name, password in (("olga", "a wrong password"), ("nobody", PASSWORD)):
        token = csrf_of(client.get("/admin/login").text)
        answer = client.post("/admin/login", data={"name": name, "password": password, "csrf": token})
        assert answer.status_code == 401
        pages.append(re.sub(r'(data-csrf|value)="[^"]+"', "", answer.text))
    assert pages[0] == pages[1]


@pytest.mark.parametrize("https", [False, True])
def test_cookies_are_out_of_reach(open_study: Callable[..., Study], https: bool) -> None:
    scheme = "https" if https else "http"
    study = open_study(COLLECTION, public_url=f"{scheme}://study.example.org")
    add_accounts(study)
    with TestClient(create_app(study), base_url=f"{scheme}://study.example.org", follow_redirects=False) as client:
        form = client.get("/admin/login")
        data = {"name": "olga", "password": PASSWORD, "csrf": csrf_of(form.text)}
        answer = client.post("/admin/login", data=data)
        for given in (form.headers["set-cookie"], answer.headers.get_list("set-cookie")[0]):
            assert {"HttpOnly", "SameSite=strict", "Path=/admin"} <= set(given.split("; "))
            assert ("Secure" in given.split("; ")) == https
        assert ("strict-transport-security" in answer.headers) == https


def test_logins_are_limited(open_study: Callable[..., Study]) -> None:
    study = open_study(COLLECTION, logins_per_minute=3)
    add_accounts(study)
    with TestClient(create_app(study), follow_redirects=False) as client:
        codes = [
            client.post("/admin/login", data={"name": "x", "password": "y", "csrf": "z"}).status_code for _ in range(5)
        ]
    assert codes == [403, 403, 403, 429, 429]


def test_every_answer_has_the_security_headers(full: Any, client: TestClient) -> None:
    study, accounts, ids = full

    def check(answer: Any) -> None:
        assert {name: answer.headers.get(name) for name in HEADERS} == HEADERS, answer.request.url
        assert answer.headers["cache-control"] == "no-store"
        assert "<script>" not in answer.text
        assert " style=" not in answer.text

    for page in ("/admin/login", "/admin/audit", "/admin/nowhere", "/healthz", "/metrics"):
        check(client.get(page))
    log_in(client, "olga")
    for method, path in MATRIX:
        if method == "GET":
            check(client.get(filled_in(path, study, accounts["olga"], ids[0])))
    assert isinstance(client.app, FastAPI)

    def boom() -> None:
        raise RuntimeError("boom")

    client.app.add_api_route("/boom", boom)
    with TestClient(client.app, raise_server_exceptions=False) as failing:
        answer = failing.get("/boom")
        assert answer.status_code == 500
        assert "boom" not in answer.text
        check(answer)


def table(client: TestClient, name: str) -> list[dict[str, str]]:
    answer = client.get(f"/admin/csv/{name}.csv")
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    pattern = rf'attachment; filename="two-at-once-{name}-\d{{8}}T\d{{6}}Z\.csv"'
    assert re.fullmatch(pattern, answer.headers["content-disposition"])
    return list(csv.DictReader(io.StringIO(answer.text)))


def test_tables_hold_what_there_is_and_no_formulas(full: Any, client: TestClient) -> None:
    study, _, ids = full
    evil = '=HYPERLINK("http://evil";"x")'
    with study.database.write() as session:
        begin(study, session, Arrival("prolific", evil), "en")
        review = session.scalars(select(Review)).first()
        review.note = "-2+3"
        session.get_one(Submission, ids[0]).payment_reason = "@SUM(A1)"
    log_in(client, "olga")
    submissions = table(client, "submissions")
    assert {row["submission"] for row in submissions} == set(ids)
    assert sum(row["suggestion"] == "good" for row in submissions) > 0
    assert next(row for row in submissions if row["submission"] == ids[0])["payment_reason"] == "'@SUM(A1)"
    people = [row["external_id"] for row in table(client, "sessions")]
    assert sorted(people) == sorted(["WORKER0", "WORKER1", "WORKER2", "WORKER3", f"'{evil}"])
    reviews = table(client, "reviews")
    assert "'-2+3" in {row["note"] for row in reviews}
    assert {row["reviewer"] for row in reviews} == {"rolf", "ruth"}
    assert [row["action"] for row in table(client, "audit")].count("csv.download") == 3
    # A negative number is a number.
    with study.database.write() as session:
        score = session.get_one(Submission, ids[0]).score
        score.tracks = [{"blind_si_snr_db": -3.5, "expected_error_db": 1.0}]
    assert table(client, "submissions")


def test_readers_get_nothing_that_tells_who_people_are(full: Any, client: TestClient) -> None:
    log_in(client, "ralf")
    for name in ("submissions", "sessions", "reviews"):
        answer = client.get(f"/admin/csv/{name}.csv")
        assert answer.status_code == 200
        for word in ("WORKER", "external_id", "answers", "undisclosed", "note"):
            assert word not in answer.text, (name, word)
    for name in ("votes", "audit"):
        assert client.get(f"/admin/csv/{name}.csv").status_code == 403
    assert "WORKER" not in client.get("/admin/overview").text


def test_only_owners_see_opinions_before_the_end(open_study: Callable[..., Study]) -> None:
    study = open_study(LISTENING)
    add_accounts(study)
    fill_listening(study)
    for name, sees in (("olga", True), ("ralf", False)):
        with TestClient(create_app(study), follow_redirects=False) as client:
            page = log_in(client, name).get("/admin/overview").text
            assert ("Mean opinion" in page) == sees
            assert client.get("/admin/csv/votes.csv").status_code == (200 if sees else 403)
            if sees:
                rows = list(csv.DictReader(io.StringIO(client.get("/admin/csv/votes.csv").text)))
                assert {row["system"] for row in rows} == {"plain", "better"}
                assert {row["label"] for row in rows} == {"source 1"}


def test_a_reviewer_never_learns_whose_recording_it_is(full: Any, client: TestClient) -> None:
    page = log_in(client, "rita").get("/admin/review").text
    assert "first language" in page
    assert "The boat left the harbour" in page
    assert "WORKER" not in page
    assert "con_" not in page


def test_a_vote_of_the_page_is_kept_and_a_second_one_is_not(full: Any, client: TestClient) -> None:
    study, accounts, _ = full
    log_in(client, "rita")
    page = client.get("/admin/review").text
    address = re.search(r'action="(/admin/review/sub_\w+)" id="vote"', page)
    assert address is not None
    data = {"csrf": csrf_of(page), "vote": "bad", "reasons": ["noise", "one_voice"], "note": " <b>loud</b> "}
    assert client.post(address[1], data=data).headers["location"] == "/admin/review?saved=yes"
    again = client.post(address[1], data=data)
    assert again.status_code == 409
    assert "You have voted on this submission before" in again.text
    with study.database.read() as session:
        review = session.scalars(select(Review).where(Review.account_id == accounts["rita"])).one()
        assert (review.vote, review.reasons, review.note) == ("bad", ["noise", "one_voice"], "<b>loud</b>")
        name = review.submission_id
    client.post("/admin/logout", data={"csrf": csrf_of(page)})
    log_in(client, "olga")
    assert "&lt;b&gt;loud&lt;/b&gt;" in client.get(f"/admin/submissions/{name}").text


def test_every_change_is_written_down_without_personal_data(full: Any, client: TestClient) -> None:
    study, accounts, ids = full
    token = token_of(log_in(client, "olga"))
    with study.database.read() as session:
        person = session.scalars(select(Contributor).where(Contributor.external_id == "WORKER0")).one().id
        kept = session.scalar(select(Session.contributor_id).join(Submission, Submission.session_id == Session.id)
                              .where(Submission.id == ids[-1]))  # fmt: skip
        assert kept != person
    for path, data in (
        ("/admin/pause", {"state": "paused"}),
        ("/admin/pause", {"state": "open"}),
        (f"/admin/submissions/{ids[-1]}/decide", {"field": "payment", "decision": "rejected", "reason": "of WORKER3"}),
        ("/admin/removal", {"contributor": person, "again": person}),
    ):
        assert client.post(path, data={**data, "csrf": token}).status_code in (200, 303)
    client.get("/admin/csv/sessions.csv")
    with study.database.read() as session:
        entries = session.scalars(select(AuditEntry).where(AuditEntry.actor == accounts["olga"])).all()
        actions = [entry.action for entry in entries]
        told = json.dumps([[entry.subject, entry.details] for entry in entries])
        assert session.get(Contributor, person) is None
    expected = ["login", "study.pause", "study.resume", "decision.payment", "contributor.remove", "csv.download"]
    assert actions == expected
    assert "WORKER" not in told
    assert person not in told
    page = client.get("/admin/audit").text
    assert all(action in page for action in expected)


def test_a_removal_is_asked_for_twice(full: Any, client: TestClient) -> None:
    study = full[0]
    token = token_of(log_in(client, "olga"))
    found = client.get("/admin/removal?name=WORKER1").text
    person = re.search(r'name="contributor" value="(con_\w+)"', found)
    assert person is not None
    assert "2 recording(s)" in found
    assert client.get("/admin/removal?name=nobody").status_code == 404
    mistyped = client.post("/admin/removal", data={"csrf": token, "contributor": person[1], "again": "con_other"})
    assert mistyped.status_code == 422
    with study.database.read() as session:
        assert session.get(Contributor, person[1]) is not None
    done = client.post("/admin/removal", data={"csrf": token, "contributor": person[1], "again": f" {person[1]} "})
    assert "2 recording(s)" in done.text
    with study.database.read() as session:
        assert session.get(Contributor, person[1]) is None
