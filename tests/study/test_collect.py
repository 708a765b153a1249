"""A collection from the server's side: the questionnaire, the pairs, the equipment, the end, and withdrawal."""

from __future__ import annotations

import re
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select

from auriscope.study.participants import answers_of
from auriscope.study.schema import Session
from auriscope.study.study import Study
from auriscope.study.web.app import create_app

SPEAKERS = {
    "gender1": "female",
    "native1": "yes",
    "language1": "english",
    "gender2": "other",
    "native2": "no",
    "language2": "Plautdietsch",
}


def fields_of(html: str) -> dict[str, str]:
    return dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', html))


def csrf_of(html: str) -> str:
    found = re.search(r'data-csrf="([^"]+)"', html)
    assert found is not None
    return found[1]


def consent(client: TestClient, address: str = "/") -> str:
    """Agree, and give the token for forms."""
    welcome = client.get(address)
    answer = client.post("/begin", data={**fields_of(welcome.text), "agree": "yes"})
    assert answer.headers["location"] == "/next"
    return csrf_of(client.get("/questionnaire").text)


def visit_of(study: Study) -> Session:
    with study.database.read() as session:
        return session.scalars(select(Session)).one()


def test_the_questionnaire_comes_first_and_is_asked_once(collection: Study, collection_client: TestClient) -> None:
    token = consent(collection_client)
    assert collection_client.get("/next").headers["location"] == "/questionnaire"
    answer = collection_client.post("/questionnaire", data={**SPEAKERS, "csrf": token})
    assert (answer.status_code, answer.headers["location"]) == (303, "/next")
    expected = {
        "speakers": [
            {"gender": "female", "native": True, "native_language": "en"},
            {"gender": "other", "native": False, "native_language": "Plautdietsch"},
        ],
        "nativeness": "one_of_each",
    }
    assert answers_of(visit_of(collection)) == expected
    assert collection_client.get("/questionnaire").headers["location"] == "/next"
    # Whoever sends it again, from another window, changes nothing.
    collection_client.post("/questionnaire", data={**SPEAKERS, "gender1": "male", "csrf": token})
    assert answers_of(visit_of(collection)) == expected


@pytest.mark.parametrize(
    ("changes", "wrong"),
    [
        ({"gender1": ""}, ["gender1"]),
        ({"gender2": "robot"}, ["gender2"]),
        ({"native1": "", "language2": "  "}, ["native1", "language2"]),
        ({"language1": "x" * 61}, ["language1"]),
        ({"language1": "a\x00b"}, ["language1"]),
    ],
)
def test_what_is_missing_or_wrong_is_asked_again(
    collection: Study, collection_client: TestClient, changes: dict[str, str], wrong: list[str]
) -> None:
    token = consent(collection_client)
    answer = collection_client.post("/questionnaire", data={**SPEAKERS, **changes, "csrf": token})
    assert answer.status_code == 422
    assert re.findall(r'<li><a href="#(\w+)"', answer.text) == wrong
    # What was right stays.
    assert 'value="no" required checked' in answer.text
    assert visit_of(collection).answers is None


def test_an_answer_without_the_pages_token_is_refused(collection: Study, collection_client: TestClient) -> None:
    token = consent(collection_client)
    for forged in ({}, {"csrf": ""}, {"csrf": token[:-1] + ("A" if token[-1] != "A" else "B")}):
        assert collection_client.post("/questionnaire", data={**SPEAKERS, **forged}).status_code == 403
    assert visit_of(collection).answers is None


@pytest.mark.parametrize(
    ("native1", "native2", "nativeness"),
    [("yes", "yes", "both_native"), ("no", "no", "both_non_native"), ("no", "yes", "one_of_each")],
)
def test_nativeness_follows_from_the_two_speakers(
    collection: Study, collection_client: TestClient, native1: str, native2: str, nativeness: str
) -> None:
    token = consent(collection_client)
    answers = {**SPEAKERS, "native1": native1, "native2": native2, "csrf": token}
    collection_client.post("/questionnaire", data=answers)
    assert answers_of(visit_of(collection))["nativeness"] == nativeness


def test_raters_are_asked_how_they_listen(listening: Study) -> None:
    with TestClient(create_app(listening), follow_redirects=False) as client:
        token = consent(client, "/?language=fr")
        answers: dict[str, Any] = {"hearing": "normal", "device": "headphones", "language1": "swahili", "csrf": token}
        answer = client.post("/questionnaire", data={**answers, "device": "none"})
        assert answer.status_code == 422
        assert "Répondez à cette question" in answer.text
        assert client.post("/questionnaire", data=answers).status_code == 303
        assert client.get("/next").headers["location"] == "/rate"
    assert answers_of(visit_of(listening)) == {
        "hearing": "normal",
        "device": "headphones",
        "native_language": "sw",
    }
