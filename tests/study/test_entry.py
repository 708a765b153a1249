"""The way in: consent first, to the text that was shown, in the visitor's language, and once per person."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from ipaddress import ip_network

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import func, select

from auriscope.study.ids import now
from auriscope.study.schema import ConsentText, Contributor, Session
from auriscope.study.study import Study
from auriscope.study.web.app import create_app
from auriscope.study.web.guards import MAX_FORM_BYTES, client_address

from .conftest import COLLECTION


def hidden_fields(html: str) -> dict[str, str]:
    return dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', html))


def test_nothing_is_kept_without_consent(collection: Study, collection_client: TestClient) -> None:
    fields = hidden_fields(collection_client.get("/").text)
    answer = collection_client.post("/begin", data=fields)
    assert answer.status_code == 200
    assert "nothing about you has been kept" in answer.text
    with collection.database.read() as session:
        assert session.scalar(select(func.count()).select_from(Session)) == 0
        assert session.scalar(select(func.count()).select_from(Contributor)) == 0


def test_consent_is_kept_with_its_text_version_digest_and_time(
    collection: Study, collection_client: TestClient
) -> None:
    welcome = collection_client.get("/?PROLIFIC_PID=p1&STUDY_ID=st&SESSION_ID=se", headers={"accept-language": "fr"})
    assert 'lang="fr"' in welcome.text
    answer = collection_client.post("/begin", data={**hidden_fields(welcome.text), "agree": "yes"})
    assert (answer.status_code, answer.headers["location"]) == (303, "/next")
    assert "HttpOnly" in answer.headers["set-cookie"]
    with collection.database.read() as session:
        visit = session.scalars(select(Session)).one()
        consent = session.get_one(ConsentText, visit.consent_sha256)
        assert (consent.version, consent.language, consent.text) == ("1", "fr", "Nous gardons l’enregistrement.")
        assert visit.consented_at is not None
        assert visit.contributor.external_id == "p1"
        assert visit.arrival == {"STUDY_ID": "st", "SESSION_ID": "se"}


def test_consent_to_another_text_is_refused(collection_client: TestClient) -> None:
    fields = hidden_fields(collection_client.get("/").text)
    answer = collection_client.post("/begin", data={**fields, "consent_sha256": "0" * 64, "agree": "yes"})
    assert answer.status_code == 403


def test_a_worker_takes_part_once(collection_client: TestClient) -> None:
    fields = {**hidden_fields(collection_client.get("/?workerId=W1&assignmentId=A1&hitId=H1").text), "agree": "yes"}
    assert collection_client.post("/begin", data=fields).status_code == 303
    collection_client.cookies.clear()
    again = collection_client.post("/begin", data=fields)
    assert again.status_code == 409
    assert "already taken part" in again.text


def begin_at_once(client: TestClient, query: str = "") -> list[int]:
    """Begin eight times at once, and give what was answered, sorted."""
    fields = {**hidden_fields(client.get(f"/{query}").text), "agree": "yes"}
    with ThreadPoolExecutor(8) as pool:
        answers = pool.map(lambda _: client.post("/begin", data=fields).status_code, range(8))
        return sorted(answers)


def test_eight_first_visitors_at_once_all_begin(collection_client: TestClient) -> None:
    assert begin_at_once(collection_client) == [303] * 8


def test_a_worker_who_begins_eight_times_at_once_takes_part_once(
    collection: Study, collection_client: TestClient
) -> None:
    assert begin_at_once(collection_client, "?workerId=W1&assignmentId=A1&hitId=H1") == [303, *[409] * 7]
    with collection.database.read() as session:
        assert session.scalar(select(func.count()).select_from(Session)) == 1


def test_no_more_begin_at_once_than_there_are_places(open_study: Callable[..., Study], database_url: str) -> None:
    study = open_study({**COLLECTION, "limits": {"max_sessions": 3}}, database=database_url)
    with TestClient(create_app(study), follow_redirects=False) as client:
        assert begin_at_once(client) == [*[303] * 3, *[409] * 5]


def test_sessions_that_were_left_do_not_keep_places(open_study: Callable[..., Study], database_url: str) -> None:
    limits = {"max_sessions": 1, "session_hours": 2}
    study = open_study({**COLLECTION, "limits": limits}, database=database_url)
    with TestClient(create_app(study), follow_redirects=False) as client:
        fields = {**hidden_fields(client.get("/?workerId=W1&assignmentId=A1&hitId=H1").text), "agree": "yes"}
        assert client.post("/begin", data=fields).status_code == 303
        assert client.post("/begin", data=fields).status_code == 409
        with study.database.write() as session:
            session.scalars(select(Session)).one().started_at = now() - timedelta(hours=2, minutes=1)
        assert client.post("/begin", data=fields).status_code == 303
        with study.database.write() as session:
            for visit in session.scalars(select(Session)):
                visit.started_at, visit.state = now() - timedelta(hours=3), "finished"
        assert client.post("/begin", data=fields).status_code == 409


def test_a_preview_of_mechanical_turk_cannot_begin(collection_client: TestClient) -> None:
    page = collection_client.get("/?assignmentId=ASSIGNMENT_ID_NOT_AVAILABLE&workerId=W1").text
    assert "preview" in page
    assert "<form" not in page


def test_every_page_has_the_security_headers(collection_client: TestClient) -> None:
    headers = collection_client.get("/").headers
    assert "script-src 'self'" in headers["content-security-policy"]
    assert "unsafe" not in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cache-control"] == "no-store"


CROSS_SITE = [
    {"sec-fetch-site": "cross-site"},
    {"sec-fetch-site": "same-site", "origin": "http://testserver"},
    {"origin": "https://evil.example"},
    {"origin": "http://testserver.evil.example"},
    {"origin": "http://testserver:8443"},
    {"origin": "null"},
    {"origin": "http://[", "host": "testserver"},
]
OURS = [
    {},
    {"sec-fetch-site": "same-origin", "origin": "null"},
    {"sec-fetch-site": "none"},
    {"origin": "http://testserver"},
    {"origin": "https://testserver"},
    {"origin": "https://study.example.org"},
    {"origin": "http://127.0.0.1:9000", "host": "127.0.0.1:9000"},
]


@pytest.fixture
def public_client(open_study: Callable[..., Study]) -> Iterator[TestClient]:
    study = open_study(COLLECTION, public_url="https://study.example.org")
    with TestClient(create_app(study), follow_redirects=False) as client:
        yield client


@pytest.mark.parametrize("headers", CROSS_SITE)
def test_a_page_of_somebody_else_cannot_begin(public_client: TestClient, headers: dict[str, str]) -> None:
    fields = {**hidden_fields(public_client.get("/", headers=headers).text), "agree": "yes"}
    answer = public_client.post("/begin", data=fields, headers=headers)
    assert (answer.status_code, answer.json()) == (403, {"error": "form"})
    assert public_client.put("/api/submissions/k", headers=headers).json() == {"error": "form"}
    assert answer.headers["x-frame-options"] == "DENY"


@pytest.mark.parametrize("headers", OURS)
def test_our_own_pages_can_begin(public_client: TestClient, headers: dict[str, str]) -> None:
    fields = {**hidden_fields(public_client.get("/").text), "agree": "yes"}
    assert public_client.post("/begin", data=fields, headers=headers).status_code == 303


def test_of_one_address_only_so_many_begin_or_withdraw(open_study: Callable[..., Study]) -> None:
    study = open_study(COLLECTION, begins_per_minute=2, trusted_proxies=["127.0.0.0/8"])
    with TestClient(create_app(study), follow_redirects=False, client=("127.0.0.1", 1)) as client:
        fields = {**hidden_fields(client.get("/").text), "agree": "yes"}
        for path, status in (("/begin", 303), ("/withdraw", 403)):
            for address, statuses in (("192.0.2.1", [status, status, 429]), ("192.0.2.2", [status])):
                headers = {"x-forwarded-for": address}
                answers = [client.post(path, data=fields, headers=headers).status_code for _ in statuses]
                assert answers == statuses


@pytest.mark.parametrize(
    ("lines", "address"),
    [
        ([b"198.51.100.7"], "198.51.100.7"),
        ([b"203.0.113.9", b"198.51.100.7"], "198.51.100.7"),
        ([b"203.0.113.9, 198.51.100.7", b"10.0.0.2"], "198.51.100.7"),
        ([b"203.0.113.9", b"not an address", b"10.0.0.2"], "not an address"),
        ([], "10.0.0.1"),
    ],
)
def test_every_line_of_the_proxies_is_read(lines: list[bytes], address: str) -> None:
    scope = {"client": ("10.0.0.1", 1), "headers": [(b"x-forwarded-for", line) for line in lines]}
    assert client_address(scope, [ip_network("10.0.0.0/8")]) == address


def test_a_body_larger_than_any_form_is_refused(collection_client: TestClient) -> None:
    fields = hidden_fields(collection_client.get("/").text)
    large = collection_client.post("/begin", data={**fields, "agree": "yes", "padding": "x" * MAX_FORM_BYTES})
    assert (large.status_code, large.json()) == (413, {"error": "too_large"})


def test_a_large_body_of_unknown_length_is_refused(collection: Study, collection_client: TestClient) -> None:
    def without_length() -> Iterator[bytes]:
        yield b"language=en&agree=yes&consent_sha256="
        for _ in range(MAX_FORM_BYTES // 65536 + 1):
            yield b"x" * 65536

    headers = {"content-type": "application/x-www-form-urlencoded"}
    assert collection_client.post("/begin", content=without_length(), headers=headers).status_code >= 400
    with collection.database.read() as session:
        assert session.scalar(select(func.count()).select_from(Session)) == 0
