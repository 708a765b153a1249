"""Which two sentences come next, and who reads which: fixed by the session's seed and the position in the session.

Orders come from digests and not from a random generator, so that a session can be retraced with any version of Python.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import and_, case, func, or_, select
from sqlalchemy.orm import Session as OrmSession

from auriscope.study.campaign import Collection, Sentence
from auriscope.study.ids import now, sha256_of
from auriscope.study.schema import Session, Submission, Task


@dataclass(frozen=True)
class Pair:
    """Two sentences: the first speaker reads ``sentences[0]``, the second ``sentences[1]``.

    ``pair_id`` names the two without regard to who reads which.
    """

    pair_id: str
    sentences: tuple[Sentence, Sentence]


def draw_pair(sentences: list[Sentence], seed: int, position: int) -> Pair:
    """Draw the pair of a position (from 0) out of all sentences; none comes again before all have been read.

    Where their number is odd, the last of every round stays out. There must be two sentences at least.

    >>> sentences = [Sentence(id=name, text="…") for name in "abcd"]
    >>> sorted(s.id for position in (0, 1) for s in draw_pair(sentences, 7, position).sentences)
    ['a', 'b', 'c', 'd']
    """
    turn, place = divmod(position, len(sentences) // 2)
    shuffled = sorted(sentences, key=lambda sentence: sha256_of(f"{seed}|{turn}|{sentence.id}"))
    return _pair(shuffled[2 * place], shuffled[2 * place + 1])


def next_pair(campaign: Collection, session: OrmSession, visit: Session, position: int) -> Pair:
    """Choose the pair of a position (from 0) for a session.

    Where the campaign lists pairs, those come first that the session has seen least, then those that were recorded
    least in all, then the session's seed decides. A pair that somebody is reading just now counts as recorded.
    """
    sentences = {
        sentence.id: sentence for sentence in campaign.sentences if sentence.language in (None, visit.language)
    }
    if campaign.pairs is None:
        return draw_pair(list(sentences.values()), visit.seed, position)
    is_mine = Task.session_id == visit.id
    is_recent = Task.shown_at > now() - timedelta(hours=campaign.limits.session_hours)
    counts = session.execute(
        select(Task.pair_id, func.sum(case((is_mine, 1), else_=0)), func.count())
        .join(Session, Session.id == Task.session_id)
        .outerjoin(Submission, Submission.task_id == Task.id)
        .where(
            or_(
                is_mine,
                and_(Submission.id.is_not(None), Session.state.in_(("open", "finished"))),
                and_(Session.state == "open", is_recent),
            )
        )
        .group_by(Task.pair_id)
    )
    used = {pair_id: (mine, everybody) for pair_id, mine, everybody in counts}

    def rank(pair: tuple[str, str]) -> tuple[int, int, str]:
        mine, everybody = used.get(_pair_id(*pair), (0, 0))
        return mine, everybody, sha256_of(f"{visit.seed}|{position}|{_pair_id(*pair)}")

    first, second = min((pair for pair in campaign.pairs if sentences.keys() >= {*pair}), key=rank)
    if int(sha256_of(f"{visit.seed}|{position}|order"), 16) % 2:
        first, second = second, first
    return _pair(sentences[first], sentences[second])


def _pair(first: Sentence, second: Sentence) -> Pair:
    return Pair(_pair_id(first.id, second.id), (first, second))


def _pair_id(first: str, second: str) -> str:
    return "+".join(sorted((first, second)))
