"""A collection from the server's side: the questionnaire, the pairs, the equipment, the end, and withdrawal."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import soundfile
import yaml
from fastapi.testclient import TestClient
from sqlalchemy import select

from auriscope.errors import AuriscopeError
from auriscope.study.campaign import LANGUAGES, Collection, Sentence, parse_campaign
from auriscope.study.ids import new_id
from auriscope.study.participants import Arrival, answers_of, begin
from auriscope.study.prompts import draw_pair, next_pair
from auriscope.study.schema import AuditEntry, Contributor, Removal, Session, Stamp, Submission, Task
from auriscope.study.stamps import finish_if_complete, verify
from auriscope.study.storage import put
from auriscope.study.study import Study
from auriscope.study.web.app import create_app
from auriscope.study.web.questionnaire import language_names, read_answers
from auriscope.study.words import words

from .conftest import COLLECTION

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
        ({"language1": "Ada, ada@example.org", "language2": "0044 1632"}, ["language1", "language2"]),
        ({"language1": "=1+1"}, ["language1"]),
        ({"language1": "English\u202e"}, ["language1"]),
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


@pytest.mark.parametrize(
    ("answer", "kept"),
    [
        ("langue d\u2019oc", "langue d'oc"),
        ("Bas-Allemand (Basse-Saxe)", "Bas-Allemand (Basse-Saxe)"),
        ("भोजपुरी", "भोजपुरी"),
    ],
)
def test_languages_that_we_do_not_know_are_kept_as_they_are_written(
    collection: Study, collection_client: TestClient, answer: str, kept: str
) -> None:
    token = consent(collection_client)
    sent = collection_client.post("/questionnaire", data={**SPEAKERS, "language2": answer, "csrf": token})
    assert sent.status_code == 303
    assert answers_of(visit_of(collection))["speakers"][1]["native_language"] == kept


def test_every_language_of_the_list_can_be_chosen(collection: Study) -> None:
    for language in LANGUAGES:
        for name in language_names(language):
            answers = read_answers(collection.campaign, {**SPEAKERS, "language1": name})
            assert len(answers["speakers"][0]["native_language"]) == 2, name


def test_an_answer_without_the_pages_token_is_refused(collection: Study, collection_client: TestClient) -> None:
    token = consent(collection_client)
    for forged in ({}, {"csrf": ""}, {"csrf": token[:-9] + ("A" if token[-9] != "A" else "B") + token[-8:]}):
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


@pytest.mark.parametrize("area", ["collect.", "entry.", "languages."])
def test_both_languages_say_everything(area: str) -> None:
    def said(language: str) -> dict[str, list[str]]:
        texts = words(language).items()
        return {key: sorted(re.findall(r"{(\w+)}", text)) for key, text in texts if key.startswith(area) and text}

    first, *others = (said(language) for language in LANGUAGES)
    assert len(first) > 30
    assert all(other == first for other in others)


def register(client: TestClient, address: str = "/") -> str:
    """Consent and answer; give the token."""
    token = consent(client, address)
    client.post("/questionnaire", data={**SPEAKERS, "csrf": token})
    return token


def keep_recording(study: Study, task_id: str) -> None:
    """Store a recording of a task as an upload does, but for the audio."""
    with study.database.write() as session:
        task = session.get_one(Task, task_id)
        submission = Submission(
            id=new_id("sub"),
            session_id=task.session_id,
            task_id=task.id,
            key=task.id,
            sha256="0" * 64,
            num_bytes=4,
            storage_key="",
            sample_rate=48_000,
            num_channels=1,
            num_frames=96_000,
        )
        submission.storage_key = f"recordings/{submission.id}.wav"
        session.add(submission)
        session.flush()
        finish_if_complete(study, session, session.get_one(Session, task.session_id), submission.id)
    put(study.storage, submission.storage_key, b"RIFF")


def test_tasks_come_one_after_the_other(collection: Study, collection_client: TestClient) -> None:
    client = collection_client
    headers = {"x-csrf-token": register(client)}
    nothing = {"task": None, "num_submissions": 0, "required": 2, "finished": False}
    assert client.get("/api/task").json() == nothing
    assert client.post("/api/task").status_code == 403
    assert client.get("/api/task").json() == nothing
    first = client.post("/api/task", headers=headers).json()
    assert first["task"]["position"] == 0
    assert len({sentence["id"] for sentence in first["task"]["sentences"]}) == 2
    # The same one, until its recording has arrived.
    assert client.post("/api/task", headers=headers).json() == client.get("/api/task").json() == first
    keep_recording(collection, first["task"]["id"])
    assert client.get("/api/task").json() == {**nothing, "num_submissions": 1}
    second = client.post("/api/task", headers=headers).json()
    assert second["task"]["position"] == 1
    read = [sentence["id"] for task in (first, second) for sentence in task["task"]["sentences"]]
    assert sorted(read) == ["s0", "s1", "s2", "s3"]
    assert client.get("/done").headers["location"] == "/next"
    keep_recording(collection, second["task"]["id"])
    finished = {"task": None, "num_submissions": 2, "required": 2, "finished": True}
    assert client.post("/api/task", headers=headers).json() == finished
    assert client.get("/record").headers["location"] == "/next"
    assert client.get("/next").headers["location"] == "/done"


def test_two_windows_at_once_get_the_same_task(collection: Study, collection_client: TestClient) -> None:
    headers = {"x-csrf-token": register(collection_client)}
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: collection_client.post("/api/task", headers=headers), range(16)))
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.json()["task"]["id"] for answer in answers}) == 1


def test_no_sentences_before_the_questionnaire(collection_client: TestClient) -> None:
    token = consent(collection_client)
    assert collection_client.get("/record").headers["location"] == "/next"
    assert collection_client.post("/api/task", headers={"x-csrf-token": token}).status_code == 403


def test_a_stranger_gets_nothing(collection_client: TestClient, listening: Study) -> None:
    for path in ("/api/task", "/record", "/example", "/questionnaire", "/done", "/withdraw"):
        assert collection_client.get(path).status_code == 401
    for path in ("/api/task", "/api/equipment", "/questionnaire", "/withdraw"):
        assert collection_client.post(path, json={"sample_rate": 8000}).status_code in (401, 403)
    with TestClient(create_app(listening), follow_redirects=False) as client:
        consent(client)
        # A listening study has no recordings.
        assert [client.get(path).status_code for path in ("/record", "/example", "/api/task")] == [404, 404, 404]


def test_the_equipment_is_kept_as_the_browser_tells_it(collection: Study, collection_client: TestClient) -> None:
    headers = {"x-csrf-token": register(collection_client)}
    told = {
        "echo_cancellation": False,
        "noise_suppression": False,
        "auto_gain_control": False,
        "channel_count": 1,
        "track_sample_rate": 44100,
        "sample_rate": 48000,
        "peak_dbfs": -12.5,
    }
    assert collection_client.post("/api/equipment", json=told).status_code == 403
    assert visit_of(collection).equipment is None
    assert collection_client.post("/api/equipment", json=told, headers=headers).status_code == 204
    kept = visit_of(collection).equipment
    assert kept is not None
    assert {key: kept[key] for key in told} == told
    assert kept["unprocessed"] is True
    # What the browser does not tell is not taken for off.
    collection_client.post("/api/equipment", json={**told, "auto_gain_control": None}, headers=headers)
    kept = visit_of(collection).equipment
    assert kept is not None
    assert kept["unprocessed"] is False


@pytest.mark.parametrize(
    "wrong", [{}, {"sample_rate": "48000"}, {"sample_rate": 0}, {"sample_rate": 48000, "label": "Anna's microphone"}]
)
def test_other_equipment_is_refused(collection: Study, collection_client: TestClient, wrong: dict[str, Any]) -> None:
    headers = {"x-csrf-token": register(collection_client)}
    assert collection_client.post("/api/equipment", json=wrong, headers=headers).status_code == 422
    assert visit_of(collection).equipment is None


def test_the_example_is_played(open_study: Callable[..., Study], small: dict[str, Any]) -> None:
    study = open_study({**small, "example_clip": "example.wav"})
    soundfile.write(study.folder / "example.wav", [0.0, 0.5, -0.5] * 1000, 16000)
    with TestClient(create_app(study), follow_redirects=False) as client:
        register(client)
        assert 'src="/example"' in client.get("/record").text
        answer = client.get("/example", headers={"range": "bytes=0-3"})
        assert (answer.status_code, answer.content) == (206, b"RIFF")
        assert answer.headers["content-type"] in ("audio/x-wav", "audio/wav", "audio/vnd.wave")
        (study.folder / "example.wav").unlink()
        assert client.get("/example").status_code == 404


@pytest.mark.parametrize(
    ("address", "tells", "link"),
    [
        ("/?PROLIFIC_PID=p&STUDY_ID=s&SESSION_ID=e", "Back to Prolific", True),
        ("/?workerId=w&assignmentId=a&hitId=h", "go back to Mechanical Turk", False),
        ("/", "give it to those who invited you", False),
    ],
)
def test_the_end_gives_the_stamp_the_way_back_and_the_code(
    collection: Study, collection_client: TestClient, address: str, tells: str, link: bool
) -> None:
    headers = {"x-csrf-token": register(collection_client, address)}
    for _ in range(2):
        task = collection_client.post("/api/task", headers=headers).json()["task"]
        keep_recording(collection, task["id"])
    html = collection_client.get("/done").text
    assert tells in html
    assert ("https://app.prolific.com/submissions/complete?cc=C1A2B3" in html) is link
    stamp = re.search(r'id="stamp">([^<]+)<', html)
    assert stamp is not None
    with collection.database.read() as session:
        assert verify(collection, session, stamp[1]).ok
        contributor = session.scalars(select(Contributor)).one()
    assert f'id="code">{contributor.id}<' in html
    assert "Recordings that have arrived here: 2." in html


def test_withdrawal_deletes_everything(collection: Study, collection_client: TestClient) -> None:
    client = collection_client
    token = register(client, "/?PROLIFIC_PID=p&STUDY_ID=s&SESSION_ID=e")
    task = client.post("/api/task", headers={"x-csrf-token": token}).json()["task"]
    keep_recording(collection, task["id"])
    assert len(list(collection.storage.keys())) == 1
    assert "Stop and delete?" in client.get("/withdraw").text
    assert client.post("/withdraw").status_code == 403
    answer = client.post("/withdraw", data={"csrf": token})
    assert answer.status_code == 200
    assert "Everything has been deleted" in answer.text
    assert client.get("/record").status_code == 401
    assert list(collection.storage.keys()) == []
    with collection.database.read() as session:
        for table in (Contributor, Session, Task, Submission, Stamp):
            assert session.scalars(select(table)).all() == []
        removal = session.scalars(select(Removal)).one()
        assert (removal.actor, removal.num_submissions) == ("participant", 1)
        assert all(entry.subject != "p" for entry in session.scalars(select(AuditEntry)))


def test_a_name_in_the_address_does_not_delete_what_its_owner_has_sent(
    open_study: Callable[..., Study], database_url: str, take_part: Callable[..., str]
) -> None:
    study = open_study({**COLLECTION, "limits": {"sessions_per_contributor": 2}}, database=database_url)
    theirs = take_part(study, "p")
    with TestClient(create_app(study), follow_redirects=False) as client:
        token = register(client, "/?PROLIFIC_PID=p")
        assert client.post("/withdraw", data={"csrf": token}).status_code == 200
    assert len(list(study.storage.keys())) == 2
    with study.database.read() as session:
        assert session.scalars(select(Session.id)).all() == [theirs]
        assert len(session.scalars(select(Stamp)).all()) == 1


def test_after_the_end_nobody_withdraws_by_accident(collection: Study, collection_client: TestClient) -> None:
    token = register(collection_client)
    for _ in range(2):
        task = collection_client.post("/api/task", headers={"x-csrf-token": token}).json()["task"]
        keep_recording(collection, task["id"])
    assert collection_client.get("/withdraw").headers["location"] == "/done"
    assert collection_client.post("/withdraw", data={"csrf": token}).status_code == 409
    assert len(list(collection.storage.keys())) == 2


def test_the_welcome_says_what_is_asked_and_paid(open_study: Callable[..., Study], small: dict[str, Any]) -> None:
    study = open_study({**small, "payment": {"amount": 3.5, "currency": "EUR", "bonus": 1}})
    with TestClient(create_app(study)) as client:
        html = client.get("/").text
    assert "Recordings to make: 10." in html
    assert "Payment when everything has arrived: 3.50 EUR." in html
    assert "Bonus for good work: up to 1.00 EUR." in html


def test_nobody_begins_once_there_are_enough_recordings(
    open_study: Callable[..., Study], database_url: str, small: dict[str, Any]
) -> None:
    limited = {**small, "limits": {"max_submissions": 1}, "submissions_per_session": 2}
    study = open_study(limited, database=database_url)
    with TestClient(create_app(study), follow_redirects=False) as client:
        headers = {"x-csrf-token": register(client)}
        keep_recording(study, client.post("/api/task", headers=headers).json()["task"]["id"])
        with TestClient(client.app, follow_redirects=False) as other:
            answer = other.post("/begin", data={**fields_of(other.get("/").text), "agree": "yes"})
            assert answer.status_code == 409
            assert "all the participants it needs" in answer.text
        # Whoever has begun may finish.
        assert client.post("/api/task", headers=headers).json()["task"]["position"] == 1


# ---- Pairs ----


def sentences(number: int) -> list[Sentence]:
    return [Sentence(id=f"s{index}", text="…") for index in range(number)]


@pytest.mark.parametrize("number", [2, 3, 8, 9])
def test_every_sentence_is_read_before_one_comes_again(number: int) -> None:
    for seed in range(20):
        for turn in range(3):
            positions = range(turn * (number // 2), (turn + 1) * (number // 2))
            read = [s.id for p in positions for s in draw_pair(sentences(number), seed, p).sentences]
            assert len(set(read)) == len(read) == number - number % 2


def test_seeds_draw_all_pairs_and_both_orders_alike() -> None:
    drawn = Counter(
        tuple(sentence.id for sentence in draw_pair(sentences(4), seed, 0).sentences) for seed in range(2400)
    )
    assert len(drawn) == 12
    # 200 each are expected; five standard deviations are 68.
    assert min(drawn.values()) > 130
    assert max(drawn.values()) < 270
    # Fixed for good: sessions of the past can be retraced.
    assert [draw_pair(sentences(6), 11, position).pair_id for position in range(3)] == ["s1+s5", "s0+s3", "s2+s4"]


def paired(small: dict[str, Any], **changes: Any) -> dict[str, Any]:
    listed = [["s0", "s1"], ["s2", "s3"], ["s0", "s3"]]
    return {**small, "pairs": listed, "submissions_per_session": 2, **changes}


def test_listed_pairs_are_used_alike(
    open_study: Callable[..., Study], database_url: str, small: dict[str, Any]
) -> None:
    study = open_study(paired(small), database=database_url)
    campaign = study.campaign
    assert isinstance(campaign, Collection)
    orders = set()
    for seed in range(12):
        with study.database.write() as session:
            visit, _token = begin(study, session, Arrival(), "en")
            visit.seed = seed
        mine = []
        for position in range(2):
            with study.database.write() as session:
                pair = next_pair(campaign, session, visit, position)
                assert pair == next_pair(campaign, session, visit, position)
                task = Task(
                    session_id=visit.id,
                    position=position,
                    pair_id=pair.pair_id,
                    sentences=[{"id": sentence.id} for sentence in pair.sentences],
                )
                session.add(task)
            mine.append(pair.pair_id)
            orders.add(tuple(sentence.id for sentence in pair.sentences))
            keep_recording(study, task.id)
        assert len(set(mine)) == 2
    with study.database.read() as session:
        used = Counter(session.scalars(select(Task.pair_id)))
    assert used == {"s0+s1": 8, "s2+s3": 8, "s0+s3": 8}
    assert len(orders) == 6


def test_pairs_of_those_who_left_are_asked_again(
    open_study: Callable[..., Study], database_url: str, small: dict[str, Any]
) -> None:
    study = open_study(paired(small), database=database_url)
    campaign = study.campaign
    assert isinstance(campaign, Collection)
    for state, pair_id in (("removed", "s0+s1"), ("open", "s2+s3"), ("open", "s0+s3")):
        with study.database.write() as session:
            visit, _token = begin(study, session, Arrival(), "en")
            visit.state = state
            session.add(Task(session_id=visit.id, position=0, pair_id=pair_id, sentences=[]))
    with study.database.write() as session:
        visit, _token = begin(study, session, Arrival(), "en")
        assert next_pair(campaign, session, visit, 0).pair_id == "s0+s1"


def test_pairs_are_in_the_visitors_language(
    open_study: Callable[..., Study], database_url: str, small: dict[str, Any]
) -> None:
    spoken = [{"id": f"{language}{n}", "text": "…", "language": language} for language in LANGUAGES for n in range(4)]
    pairs = [["en0", "en1"], ["fr0", "fr1"]]
    for changes in ({"pairs": pairs}, {}):
        campaign = {**small, "languages": ["en", "fr"], "sentences": spoken, **changes}
        study = open_study(campaign, database=database_url)
        assert isinstance(study.campaign, Collection)
        for language in LANGUAGES:
            with study.database.write() as session:
                visit, _token = begin(study, session, Arrival(), language)
                for position in range(3):
                    pair = next_pair(study.campaign, session, visit, position)
                    assert {sentence.language for sentence in pair.sentences} == {language}


def test_a_campaign_without_pairs_in_a_language_is_refused(small: dict[str, Any]) -> None:
    spoken = [{"id": f"{language}{n}", "text": "…", "language": language} for language in LANGUAGES for n in range(2)]
    campaign = {**small, "languages": ["en", "fr"], "sentences": spoken, "pairs": [["en0", "en1"]]}
    with pytest.raises(AuriscopeError, match="there is no pair of sentences in fr"):
        parse_campaign(yaml.safe_dump(campaign), "campaign.yaml")


@pytest.fixture
def small() -> dict[str, Any]:
    """A collection of four sentences."""
    return {
        "kind": "collection",
        "name": "small",
        "title": "Small",
        "instructions": "Read.",
        "contact": "lab@example.org",
        "consent": {"version": "1", "text": "Yes."},
        "sentences": [{"id": f"s{number}", "text": f"This is sentence {number}."} for number in range(4)],
    }
