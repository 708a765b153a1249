"""A rater from the server's side: the headphone check, one trial after the other, votes taken once, and no leaks."""

from __future__ import annotations

import base64
import io
import json
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from fastapi.testclient import TestClient
from sqlalchemy import func, select, update

from auriscope.study import headphones, items, stamps
from auriscope.study.campaign import Listening
from auriscope.study.ids import now
from auriscope.study.schema import Assignment, Item, Session, Stamp, Vote
from auriscope.study.study import Study
from auriscope.study.web.app import create_app
from auriscope.study.words import words

CAMPAIGN: dict[str, Any] = {
    "kind": "listening",
    "name": "how-good",
    "title": {"en": "How good", "fr": "Est-ce bon"},
    "languages": ["en", "fr"],
    "instructions": "Listen.",
    "contact": "lab@example.org",
    "consent": {"version": "1", "text": "We keep your votes."},
    "prolific": {"completion_code": "C1A2B3", "screen_out_code": "NOPE11"},
    "items_per_session": 4,
    "ratings_per_item": 3,
    "gold_per_session": 1,
    "traps_per_session": 1,
    "training_items": 1,
    "headphone_check": False,
    "complete_listening": False,
}
LISTENER = {"hearing": "normal", "device": "headphones", "language1": "English"}


class Rater:
    """Somebody who rates through the pages' interface, as documented for programs."""

    def __init__(self, client: TestClient, address: str = "/") -> None:
        self.client = client
        client.cookies.clear()
        welcome = client.get(address)
        fields = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', welcome.text))
        self.begun = client.post("/begin", data={**fields, "agree": "yes"})
        page = client.get("/questionnaire").text
        found = re.search(r'data-csrf="([^"]+)"', page)
        self.csrf = found[1] if found else ""
        client.post("/questionnaire", data={**LISTENER, "csrf": self.csrf})
        self.cookie = {"Cookie": "; ".join(f"{name}={value}" for name, value in client.cookies.items())}
        client.cookies.clear()

    def get(self, path: str) -> Any:
        return self.client.get(path, headers=self.cookie)

    def post(self, path: str, body: Any, csrf: str | None = None) -> Any:
        headers = {**self.cookie, "X-CSRF-Token": self.csrf if csrf is None else csrf}
        return self.client.post(path, json=body, headers=headers)

    def trial(self) -> dict[str, Any]:
        answer = self.get("/api/trial")
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def vote(self, trial: dict[str, Any], *scores: float, **more: Any) -> Any:
        return self.post(f"/api/trial/{trial['assignment']}/votes", {"scores": list(scores or (3, 4)), **more})


@pytest.fixture
def make(
    open_study: Callable[..., Study], database_url: str, write_items: Callable[..., Path]
) -> Iterator[Callable[..., tuple[Study, TestClient]]]:
    """A function that serves a study with changes to the campaign."""
    clients: list[TestClient] = []

    def serve(
        num_mixtures: int = 3, seconds: float = 0.05, systems: tuple[str, ...] = ("first", "second"), **changes: Any
    ) -> tuple[Study, TestClient]:
        study = open_study({**CAMPAIGN, **changes}, database=database_url)
        write_items(study, num_mixtures, systems, seconds=seconds)
        items.load_if_empty(study)
        client = TestClient(create_app(study), follow_redirects=False).__enter__()
        clients.append(client)
        return study, client

    yield serve
    for client in clients:
        client.__exit__(None, None, None)


def visit_of(study: Study) -> Session:
    with study.database.read() as session:
        return session.scalars(select(Session).order_by(Session.started_at.desc())).first()  # type: ignore[return-value]


def backdate(study: Study, seconds: float) -> None:
    with study.database.write() as session:
        session.execute(
            update(Assignment)
            .where(Assignment.answered_at.is_(None), Assignment.shown_at.is_not(None))
            .values(shown_at=now() - timedelta(seconds=seconds))
        )


def test_a_rater_goes_from_the_first_trial_to_the_stamp(make: Any) -> None:
    study, client = make()
    rater = Rater(client, "/?PROLIFIC_PID=p1&SESSION_ID=s1")
    given: dict[str, dict[int, int]] = {}
    for number in range(7):
        trial = rater.trial()
        assert (trial["num_answered"], trial["num_trials"], trial["finished"]) == (number, 7, False)
        assert (trial["practice"], trial["number"], trial["total"]) == (
            (True, 1, 1) if number == 0 else (False, number, 6)
        )
        assert [sound["kind"] for sound in trial["sounds"]] == ["mixture", "rated", "rated"]
        scores = (1 + number % 5, 5 - number % 5)
        with study.database.read() as session:
            order = session.get_one(Assignment, trial["assignment"]).part_order
        given[trial["assignment"]] = dict(zip(order, scores, strict=True))
        receipt = rater.vote(trial, *scores).json()
        assert receipt == {
            "assignment": trial["assignment"],
            "num_answered": number + 1,
            "num_trials": 7,
            "finished": number == 6,
            "next": "/done" if number == 6 else "/rate",
        }
    end = rater.trial()
    assert (end["assignment"], end["finished"], end["sounds"]) == (None, True, [])
    with study.database.read() as session:
        kept: dict[str, dict[int, int]] = {}
        for vote in session.scalars(select(Vote)):
            kept.setdefault(vote.assignment_id, {})[vote.part] = vote.score
        assert kept == given
        stamp = stamps.stamp_of(study, session, visit_of(study))
        assert stamp is not None
        assert stamps.verify(study, session, stamp, worker="p1").ok
        assert session.scalars(select(Stamp)).one().subject_id == trial["assignment"]
    done = rater.get("/done")
    assert stamp in done.text
    assert "C1A2B3" in done.text
    assert rater.get("/rate").headers["location"] == "/next"


def test_scores_are_kept_by_part_whatever_the_order_on_the_page(make: Any) -> None:
    study, client = make(gold_per_session=0, traps_per_session=0, training_items=0, items_per_session=6)
    rater = Rater(client)
    while (trial := rater.trial())["assignment"]:
        # A rater who knows the estimates by their sound: what the file of the first sounds like gets a 1.
        with study.database.read() as session:
            item = session.get_one(Assignment, trial["assignment"]).item
        contents = [study.storage.open(part["storage_key"]).read() for part in item.parts]
        scores = [1 + contents.index(rater.get(sound["url"]).content) for sound in trial["sounds"][1:]]
        assert sorted(scores) == [1, 2]
        rater.vote(trial, *scores)
    with study.database.read() as session:
        votes = session.scalars(select(Vote)).all()
        assert len(votes) == 12
        assert all(vote.score == vote.part + 1 for vote in votes)
        orders = {tuple(order) for order in session.scalars(select(Assignment.part_order))}
        assert orders <= {(0, 1), (1, 0)}


def test_the_same_votes_again_are_the_same_and_others_are_refused(make: Any) -> None:
    study, client = make()
    rater = Rater(client)
    first = rater.trial()
    receipt = rater.vote(first, 2, 5)
    second = rater.trial()
    assert second["assignment"] != first["assignment"]
    assert rater.vote(first, 2, 5).json() == receipt.json()
    changed = rater.vote(first, 5, 2)
    assert (changed.status_code, changed.json()["error"]) == (409, "changed")
    with study.database.read() as session:
        assert sorted(session.scalars(select(Vote.score))) == [2, 5]


def test_the_same_votes_many_times_at_once_are_kept_once(make: Any) -> None:
    study, client = make(training_items=0, gold_per_session=0, traps_per_session=0, items_per_session=1)
    rater = Rater(client)
    trial = rater.trial()
    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda _: rater.vote(trial, 4, 1), range(24)))
    assert {answer.status_code for answer in answers} == {200}
    assert all(answer.json() == answers[0].json() and answer.json()["finished"] for answer in answers)
    with study.database.read() as session:
        assert session.scalar(select(func.count()).select_from(Vote)) == 2
        assert session.scalar(select(func.count()).select_from(Stamp)) == 1


def test_trials_are_rated_in_order_and_as_they_are_shown(make: Any) -> None:
    study, client = make()
    rater = Rater(client)
    first = rater.trial()
    with study.database.read() as session:
        mine = session.scalars(select(Assignment).order_by(Assignment.position)).all()
    ahead = rater.vote({"assignment": mine[1].id}, 3, 3)
    assert (ahead.status_code, ahead.json()["error"]) == (409, "order")
    rater.vote(first, 3, 3)
    unseen = rater.vote({"assignment": mine[1].id}, 3, 3)
    assert (unseen.status_code, unseen.json()["error"]) == (409, "order")
    rater.trial()
    assert rater.vote({"assignment": mine[1].id}, 3, 3).status_code == 200


@pytest.mark.parametrize(
    "body",
    [
        {"scores": []},
        {"scores": [0, 4]},
        {"scores": [3, 6]},
        {"scores": [3.5, 4]},
        {"scores": ["3", 4]},
        {"scores": [True, 4]},
        {"scores": [3, None]},
        {"scores": [3, 4], "plays": ["1"]},
        {"scores": [3, 4], "seconds_on_page": -1},
        {"scores": [3, 4], "seconds_on_page": "9"},
        {"scores": [3, 4], "heard": [1e9]},
        {"scores": [3, 4], "role": "trial"},
        [3, 4],
    ],
)
def test_votes_that_are_none_are_refused(make: Any, body: Any) -> None:
    study, client = make()
    rater = Rater(client)
    trial = rater.trial()
    answer = rater.post(f"/api/trial/{trial['assignment']}/votes", body)
    assert answer.status_code == 422
    assert answer.json().keys() == {"error", "message"}
    with study.database.read() as session:
        assert session.scalar(select(func.count()).select_from(Vote)) == 0


def test_as_many_scores_as_sounds_are_taken(make: Any) -> None:
    _, client = make()
    rater = Rater(client)
    trial = rater.trial()
    for scores in ((3,), (3, 4, 5)):
        refused = rater.vote(trial, *scores)
        assert (refused.status_code, refused.json()["error"]) == (409, "scores")
    # A program may write whole numbers with a point.
    assert rater.vote(trial, 3.0, 4).status_code == 200


def test_votes_need_the_session_and_the_pages_token(make: Any) -> None:
    _, client = make()
    one, other = Rater(client), Rater(client)
    trial = one.trial()
    body = {"scores": [3, 3]}
    path = f"/api/trial/{trial['assignment']}/votes"
    assert one.post(path, body, csrf="").status_code == 403
    assert one.post(path, body, csrf=other.csrf).status_code == 403
    assert other.post(path, body).status_code == 404
    assert one.post("/api/trial/asg_none/votes", body).status_code == 404
    assert client.get("/api/trial").status_code == 401
    # The sounds are for this rater alone, too.
    url = trial["sounds"][0]["url"]
    assert one.get(url).status_code == 200
    assert other.get(url).status_code == 404
    # Not the last letter: of base64's last, some bits stand for nothing.
    assert one.get(url[:-9] + ("A" if url[-9] != "A" else "B") + url[-8:]).status_code == 404
    assert client.get(url).status_code == 401


def test_everything_must_be_heard_and_there_must_have_been_time(make: Any) -> None:
    study, client = make(complete_listening=True, seconds=2.0)
    rater = Rater(client)
    trial = rater.trial()
    assert [sound["seconds"] for sound in trial["sounds"]] == [2.0, 2.0, 2.0]
    whole = {"heard": [2.0, 1.98, 2.0], "plays": [1, 2, 1], "seconds_on_page": 9.5}
    too_soon = rater.vote(trial, 3, 4, **whole)
    assert (too_soon.status_code, too_soon.json()["error"]) == (409, "listening")
    assert "short a time" in too_soon.json()["message"]
    backdate(study, 10)
    for wrong in ({"heard": [2.0, 1.2, 2.0]}, {"heard": [2.0, 2.0]}, {"heard": []}, {"seconds_on_page": 3.0}):
        refused = rater.vote(trial, 3, 4, **{**whole, **wrong})
        assert (refused.status_code, refused.json()["error"]) == (409, "listening"), wrong
    assert rater.vote(trial, 3, 4, **whole).status_code == 200
    with study.database.read() as session:
        kept = session.get_one(Assignment, trial["assignment"])
    assert kept.seconds_on_page == 9.5
    by_part = dict(zip(kept.part_order, (1.98, 2.0), strict=True))
    assert kept.listened["heard_seconds"] == {"context": [2.0], "parts": [by_part[0], by_part[1]]}
    assert sorted(kept.listened["plays"]["parts"]) == [1, 2]


def test_time_on_the_page_is_no_more_than_has_passed(make: Any) -> None:
    study, client = make()
    rater = Rater(client)
    trial = rater.trial()
    backdate(study, 5)
    rater.vote(trial, 3, 4, seconds_on_page=500.0)
    with study.database.read() as session:
        seconds = session.get_one(Assignment, trial["assignment"]).seconds_on_page
    assert seconds is not None
    assert 5 <= seconds < 400


def told(rater: Rater) -> Iterator[str]:
    """Everything that a rater is told of each trial, with what is written inside the links' tokens."""
    for _ in range(20):
        page, data = rater.get("/rate"), rater.get("/api/trial")
        trial = data.json()
        if not trial["assignment"]:
            return
        yield page.text + data.text
        for sound in trial["sounds"]:
            answer = rater.get(sound["url"])
            yield json.dumps(dict(answer.headers))
            payload = sound["url"].rpartition("/")[2].partition(".")[0]
            yield base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)).decode()
        yield rater.vote(trial, 3, 3).text


def test_no_system_role_or_expected_score_is_ever_told(make: Any) -> None:
    study, client = make(num_mixtures=4, systems=("dprnn", "sepformer"))
    rater = Rater(client)
    rater.post("/rate/begin", None)
    with study.database.read() as session:
        all_items = session.scalars(select(Item)).all()
    secret = {"dprnn", "sepformer", "concealed", "gold", "trap", "expected", "blind", "sisnr", "itm_", "system"}
    secret |= {item.name for item in all_items} | {part["label"] for item in all_items for part in item.parts}
    secret |= {item.mixture for item in all_items}
    pieces = list(told(rater))
    assert len(pieces) > 20
    for piece in pieces:
        assert [word for word in secret if word in piece] == []


def test_gold_and_traps_look_like_trials(make: Any) -> None:
    _, client = make(items_per_session=3, gold_per_session=2, traps_per_session=2, training_items=0)
    rater = Rater(client)
    rater.post("/rate/begin", None)
    shapes = set()
    while (trial := rater.trial())["assignment"]:
        page = re.search(r"<main.*</main>", rater.get("/rate").text, re.DOTALL)
        assert page is not None
        shape = re.sub(r"asg_\w+|audio/[\w.-]+", "", page[0]).replace(f"Trial {trial['number']} of 7", "")
        shape = re.sub(r'value="\d"( aria-labelledby)', r"\1", shape).replace("Finish", "Next")
        shapes.add(shape)
        rater.vote(trial, 3, 3)
    assert len(shapes) == 1


def test_the_pages_come_in_order_and_a_reload_shows_the_same_trial(make: Any) -> None:
    _, client = make()
    rater = Rater(client)
    intro = rater.get("/rate")
    assert "The scale" in intro.text
    assert "You rate 6 recordings" in intro.text
    assert rater.client.post("/rate/begin", data={"csrf": rater.csrf}, headers=rater.cookie).status_code == 303
    page = rater.get("/rate").text
    assert "Practice 1 of 1" in page
    assignment = re.search(r'data-assignment="(\w+)"', page)
    assert assignment is not None
    assert f'data-assignment="{assignment[1]}"' in rater.get("/rate").text
    assert rater.trial()["assignment"] == assignment[1]
    rater.vote({"assignment": assignment[1]}, 3, 3)
    assert "Trial 1 of 6" in rater.get("/rate").text


def test_a_rest_is_suggested_now_and_then(make: Any) -> None:
    _, client = make(break_every=2)
    rater = Rater(client)
    rater.post("/rate/begin", None)
    rests = []
    while (trial := rater.trial())["assignment"]:
        if "short rest" in rater.get("/rate").text:
            rests.append((trial["practice"], trial["number"]))
        rater.vote(trial, 3, 3)
    assert rests == [(False, 3), (False, 5)]


def test_who_comes_when_all_is_rated_is_told_before_they_begin(make: Any) -> None:
    _, client = make(num_mixtures=1, ratings_per_item=1, items_per_session=2)
    Rater(client).trial()
    late = Rater(client)
    assert late.begun.status_code == 409
    assert "all the participants it needs" in late.begun.text


@pytest.mark.parametrize(
    ("scale", "question"),
    [("naturalness", "natural"), ("similarity", "similar"), ("interpretation", "explain"), ("quality", "quality")],
)
def test_every_scale_has_its_question_and_sounds(
    open_study: Callable[..., Study], tmp_path: Path, scale: str, question: str
) -> None:
    study = open_study({**CAMPAIGN, "scale": scale, "training_items": 0})
    for name in ("a.wav", "c.wav"):
        soundfile.write(study.folder / name, np.zeros(400), 8000)
    column = {"similarity": "reference", "naturalness": "corpus"}.get(scale, "mixture")
    extra = (",class_en,class_fr", ",dog,chien") if scale == "interpretation" else ("", "")
    (study.folder / "items.csv").write_text(f"name,estimates,{column}{extra[0]}\nn,a.wav,c.wav{extra[1]}\n")
    items.load_if_empty(study)
    with TestClient(create_app(study), follow_redirects=False) as client:
        rater = Rater(client, "/?language=en")
        rater.post("/rate/begin", None)
        trial = rater.trial()
        assert question in trial["question"]
        beside = {"similarity": ["reference"], "naturalness": []}.get(scale, ["mixture"])
        assert [sound["kind"] for sound in trial["sounds"]] == [*beside, "rated"]
        page = rater.get("/rate").text
        assert page.count('type="radio"') == 5
        assert ("dog" in page) == (scale == "interpretation")
        assert trial["class_label"] == ("dog" if scale == "interpretation" else None)


def test_a_campaign_may_ask_in_its_own_words_and_in_french(make: Any) -> None:
    _, client = make(question={"en": "Nice?", "fr": "Agréable ?"})
    rater = Rater(client, "/?language=fr")
    rater.post("/rate/begin", None)
    assert rater.trial()["question"] == "Agréable ?"
    page = rater.get("/rate").text
    assert "Agréable ?" in page
    assert "médiocre" in page
    assert "Entraînement 1 sur 1" in page


def test_both_languages_have_the_same_words() -> None:
    english, french = ({key for key in words(code) if key.startswith("rate.")} for code in ("en", "fr"))
    assert english == french
    for key in english:
        holes = [set(re.findall(r"\{(\w+)\}", words(code)[key])) for code in ("en", "fr")]
        assert holes[0] == holes[1], key


def right_answers(study: Study, attempt: int = 0) -> list[int]:
    campaign = study.campaign
    assert isinstance(campaign, Listening)
    orders = headphones.orders(visit_of(study).seed, attempt, campaign.headphone_trials)
    return [order.index("quiet") + 1 for order in orders]


def test_headphones_are_checked_first(make: Any) -> None:
    study, client = make(headphone_check=True)
    rater = Rater(client)
    refused = rater.get("/api/trial")
    assert (refused.status_code, refused.json()["error"]) == (409, "headphones")
    page = rater.get("/rate").text
    assert "Your headphones" in page
    check = rater.get("/api/headphones").json()
    assert (check["due"], check["attempt"], len(check["sounds"])) == (True, 0, 6)
    # Nothing that is told gives the answers away.
    assert "quiet" not in re.sub(r"<(p|h1|h2|li|legend)\b[^>]*>.*?</\1>", "", page, flags=re.DOTALL)
    answers = right_answers(study)
    body = {"attempt": 0, "answers": answers}
    assert rater.post("/api/headphones", body, csrf="").status_code == 403
    assert rater.post("/api/headphones", {**body, "answers": answers[:3]}).status_code == 409
    verdict = rater.post("/api/headphones", body)
    assert verdict.json() == {"passed": True, "attempts_left": 0, "next": "/rate"}
    assert rater.post("/api/headphones", body).json() == verdict.json()
    assert rater.post("/api/headphones", {**body, "answers": [1] * 6}).status_code == 409
    kept = visit_of(study).equipment["headphones"]
    assert (kept["passed"], kept["num_trials"], len(kept["attempts"])) == (True, 6, 1)
    assert kept["attempts"][0]["correct"] == 6
    assert rater.trial()["assignment"]
    assert rater.get("/api/headphones").json()["due"] is False


def test_one_mistake_in_six_is_forgiven_and_none_in_three(make: Any) -> None:
    for num_trials, passes in ((6, True), (3, False)):
        study, client = make(headphone_check=True, headphone_trials=num_trials)
        rater = Rater(client)
        answers = right_answers(study)
        answers[1] = answers[1] % 3 + 1
        verdict = rater.post("/api/headphones", {"attempt": 0, "answers": answers}).json()
        assert (verdict["passed"], verdict["attempts_left"]) == (passes, 0 if passes else 1)


def wrong_answers(study: Study, attempt: int) -> list[int]:
    return [answer % 3 + 1 for answer in right_answers(study, attempt)]


@pytest.mark.parametrize("required", [False, True])
def test_who_fails_twice_goes_on_unless_headphones_are_required(make: Any, required: bool) -> None:
    study, client = make(headphone_check=True, headphones_required=required)
    rater = Rater(client, f"/?PROLIFIC_PID=p{required}&SESSION_ID=s")
    rater.get("/rate")
    for attempt in (0, 1):
        body = {"attempt": attempt, "answers": wrong_answers(study, attempt)}
        verdict = rater.post("/api/headphones", body).json()
        assert (verdict["passed"], verdict["attempts_left"]) == (False, 1 - attempt)
    assert rater.post("/api/headphones", {**body, "answers": [1] * 6}).status_code == 409
    assert visit_of(study).equipment["headphones"]["passed"] is False
    page = rater.get("/rate").text
    with study.database.read() as session:
        listed = session.scalar(select(func.count()).select_from(Assignment))
    if required:
        assert "You cannot go on" in page
        assert "cc=NOPE11" in page
        assert rater.get("/api/trial").status_code == 409
        # Others get what was set aside for them.
        assert listed == 0
    else:
        assert "The scale" in page
        assert listed == 7


def test_the_tones_are_what_the_paper_says(make: Any) -> None:
    study, client = make(headphone_check=True)
    rater = Rater(client)
    sounds = rater.get("/api/headphones").json()["sounds"]
    quietest = []
    for url in sounds:
        samples, rate = soundfile.read(io.BytesIO(rater.get(url).content))
        assert samples.shape == (4 * rate, 2)
        tones = [samples[round(start * rate) : round((start + 1) * rate)] for start in (0, 1.5, 3)]
        levels = [20 * np.log10(np.sqrt(np.mean(tone[:, 0] ** 2))) for tone in tones]
        # What reaches an ear between two loudspeakers.
        mixed = [np.abs(tone.sum(axis=1)).max() for tone in tones]
        quiet = int(np.argmin(levels))
        opposite = int(np.argmin(mixed))
        assert quiet != opposite
        assert mixed[opposite] < 1e-3
        assert sorted(np.round(np.array(levels) - max(levels), 1)) == [-6.0, 0.0, 0.0]
        spectrum = np.abs(np.fft.rfft(tones[0][:, 0]))
        assert np.argmax(spectrum) == 200
        quietest.append(quiet + 1)
    assert quietest == right_answers(study)
    assert sorted(quietest) == [1, 1, 2, 2, 3, 3]
    noise, _ = soundfile.read(io.BytesIO(rater.get("/api/headphones/level").content))
    assert 0.05 < np.sqrt(np.mean(noise**2)) < 0.1
    assert rater.get("/api/headphones/0/6").status_code == 404
    assert rater.get("/api/headphones/2/0").status_code == 404


def test_a_collection_has_no_raters(collection_client: TestClient) -> None:
    fields = dict(re.findall(r'name="(\w+)" value="([^"]*)">', collection_client.get("/").text))
    collection_client.post("/begin", data={**fields, "agree": "yes"})
    for path in ("/rate", "/api/trial", "/api/headphones", "/api/headphones/level", "/api/headphones/0/0"):
        assert collection_client.get(path).status_code == 404
