"""The verb ``verify``: are two recordings of one speaker; and how well a list of such trials is told apart."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from auriscope.data.trial_lists import Trial, read_trials, speakers_of, write_scores
from auriscope.errors import AuriscopeError
from auriscope.metrics.eer import VerificationRates, verification_rates
from auriscope.pretrained import load
from auriscope.pretrained.addresses import weights_sha256
from auriscope.signal.outputs import printable
from auriscope.speaker.calibration import COSINE, Calibration, calibrate
from auriscope.speaker.embedder import Embedder
from auriscope.speaker.normalisation import ScoreNormaliser
from auriscope.speaker.plda import Plda
from auriscope.verbs.batch import StrPath, each, expand_inputs
from auriscope.verbs.voice import Voice, VoiceReader

FloatArray = NDArray[np.float32]
OnProgress = Callable[[str, float], None]


@dataclass(frozen=True)
class VerifyResult:
    """Whether two recordings, ``input`` and ``other``, are of one speaker.

    ``score`` is higher the more alike they are: the cosine of the embeddings unless ``scoring`` says otherwise.
    ``same`` is the decision, ``score`` above ``threshold``. ``probability`` is that of one speaker, and
    ``expected_error`` the share of wrong decisions, where one speaker is as frequent as two. What is not known without
    a calibration is None.
    """

    input: str
    other: str
    model: str
    score: float
    threshold: float | None
    same: bool | None
    probability: float | None = None
    expected_error: float | None = None
    scoring: str = COSINE
    warnings: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Give what ``--json`` prints."""
        return dataclasses.asdict(self)


@dataclass(frozen=True)
class TrialsResult:
    """How well the trials of a list, ``input``, are told apart.

    ``rates`` are None where the list does not say the answers; ``miss`` and ``false_alarm`` are the errors at
    ``threshold``. ``num_failed`` trials have a recording that could not be embedded, for the reasons in ``errors``.
    ``files`` are what was written.
    """

    input: str
    model: str
    num_trials: int
    num_failed: int
    scoring: str = COSINE
    rates: VerificationRates | None = None
    threshold: float | None = None
    miss: float | None = None
    false_alarm: float | None = None
    files: tuple[str, ...] = ()
    errors: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Give what ``--json`` prints: rates in per cent, with their intervals."""
        values = {key: value for key, value in dataclasses.asdict(self).items() if key != "rates"}
        if self.rates is not None:
            for name, figure, factor in (("eer_percent", self.rates.eer, 100.0), ("min_dcf", self.rates.min_dcf, 1.0)):
                for suffix, value in (("", figure.value), ("_low", figure.low), ("_high", figure.high)):
                    values[name + suffix] = None if value is None else factor * value
            values["num_speakers"] = self.rates.num_speakers
        return values


class Verifier:
    """A speaker model with all that scoring and deciding take, loaded once for many pairs.

    Args:
        reader: the speaker model.
        threshold: the score above which two recordings are taken for one speaker; by default the calibration's.
        calibration: file that ``calibrate_to`` wrote; by default what the model ships with.
        cohort: recordings of other people, one of each, for score normalisation.
        plda: address of a fitted ``speaker/plda``, to score in the place of cosines.

    Raises ``AuriscopeError`` when something cannot be loaded, or does not go together.
    """

    def __init__(
        self,
        reader: VoiceReader,
        *,
        threshold: float | None = None,
        calibration: StrPath | None = None,
        cohort: StrPath | Iterable[StrPath] | None = None,
        plda: StrPath | None = None,
    ) -> None:
        if cohort is not None and plda is not None:
            raise AuriscopeError("a cohort normalises cosines: give a cohort or a PLDA, not both")
        self.reader = reader
        self.scoring = COSINE
        self._score: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] = torch.nn.CosineSimilarity(dim=-1)
        if cohort is not None:
            voices = np.stack([reader.read(path).embedding for path in expand_inputs(cohort)])
            self._score = ScoreNormaliser(torch.from_numpy(voices))
            # Of these recordings in any order: a calibration is of one cohort.
            digest = hashlib.sha256(np.sort(voices.round(3), axis=0).tobytes()).hexdigest()
            self.scoring = f"as-norm, cohort {digest[:8]}"
        elif plda is not None:
            self._score = self._plda(os.fspath(plda))
            self.scoring = f"plda {weights_sha256(os.fspath(plda), offline=reader.offline)[:8]}"
        self.calibration = self._calibration(calibration)
        self.threshold = threshold
        if threshold is None and self.calibration is not None:
            self.threshold = self.calibration.threshold
        self._calibrated = threshold is None

    def _plda(self, address: str) -> Plda:
        model = load(address, offline=self.reader.offline)
        if not isinstance(model, Plda):
            raise AuriscopeError(f"{address} is no PLDA; fit one with auriscope.speaker.Plda")
        if model.config.embedding_dim != self.reader.embedder.dim:
            raise AuriscopeError(
                f"{address} is for embeddings of {model.config.embedding_dim} numbers, and those of "
                f"{self.reader.address} have {self.reader.embedder.dim}; fit one for this model"
            )
        return model

    def _calibration(self, path: StrPath | None) -> Calibration | None:
        if path is None:
            found = self.reader.calibration
            return found if found is not None and found.scoring == self.scoring else None
        found = Calibration.read(Path(path))
        if found.weights_sha256 != self.reader.weights_sha256:
            raise AuriscopeError(f"{printable(path)}: is the calibration of another model than {self.reader.address}")
        if found.scoring != self.scoring:
            raise AuriscopeError(f"{printable(path)}: is for scoring by {found.scoring}, not by {self.scoring}")
        return found

    @torch.no_grad()
    def scores(self, first: FloatArray, second: FloatArray) -> NDArray[np.float64]:
        """Score pairs of embeddings, (pairs, dim) each: (pairs,)."""
        found: NDArray[np.float64] = self._score(torch.from_numpy(first), torch.from_numpy(second)).double().numpy()
        return found

    def decide(self, first: StrPath, second: StrPath, one: Voice, other: Voice) -> VerifyResult:
        """Decide on two recordings by their voices."""
        score = float(self.scores(one.embedding[None], other.embedding[None])[0])
        calibration = self.calibration if self._calibrated else None
        warnings = [
            f"{printable(path)}: {warning}"
            for path, voice in ((first, one), (second, other))
            for warning in voice.warnings
        ]
        if self.threshold is None:
            how = "" if self.scoring == COSINE else f" for {self.scoring.partition(' ')[0].rstrip(',')}"
            warnings.append(
                f"{self.reader.address} has no calibrated threshold{how}: there is a score and no decision; "
                "give a threshold or a calibration"
            )
        return VerifyResult(
            os.fspath(first),
            os.fspath(second),
            self.reader.address,
            round(score, 6),
            None if self.threshold is None else round(self.threshold, 6),
            None if self.threshold is None else score > self.threshold,
            None if calibration is None else round(calibration.probability(score), 4),
            None if calibration is None else round(calibration.expected_error, 4),
            self.scoring,
            tuple(warnings),
        )


def verify(
    first: StrPath,
    second: StrPath,
    *,
    model: StrPath | Embedder | None = None,
    threshold: float | None = None,
    calibration: StrPath | None = None,
    cohort: StrPath | Iterable[StrPath] | None = None,
    plda: StrPath | None = None,
    channel: int | None = None,
    device: Any = "cpu",
    offline: bool | None = None,
) -> VerifyResult:
    """Tell whether two recordings are of one speaker, with the expected error of the decision.

    Each recording is taken to hold one voice; they may be of any rate and length.

    Args:
        first: a recording.
        second: another one.
        model: address of a speaker model, or the model; by default the shipped one.
        threshold: the score above which they are taken for one speaker; by default the calibration's.
        calibration: file that :func:`verify_trials` wrote; by default what the model ships with.
        cohort: recordings of other people, one of each, for score normalisation.
        plda: address of a fitted ``speaker/plda``, to score in the place of cosines.
        channel: the channel to take, counted from 0; by default all are mixed down.
        device: where the model runs.
        offline: forbid the network, which only a ``hf://`` address would use.

    Raises:
        AuriscopeError: a recording cannot be read, is silent or too short, or a model or a calibration cannot be used.
    """
    reader = VoiceReader(model, channel=channel, device=device, offline=offline)
    verifier = Verifier(reader, threshold=threshold, calibration=calibration, cohort=cohort, plda=plda)
    return verifier.decide(first, second, reader.read(first), reader.read(second))


def verify_trials(
    trials: StrPath,
    *,
    root: StrPath | None = None,
    out: StrPath | None = None,
    calibrate_to: StrPath | None = None,
    model: StrPath | Embedder | None = None,
    threshold: float | None = None,
    calibration: StrPath | None = None,
    cohort: StrPath | Iterable[StrPath] | None = None,
    plda: StrPath | None = None,
    channel: int | None = None,
    device: Any = "cpu",
    offline: bool | None = None,
    on_progress: OnProgress | None = None,
) -> TrialsResult:
    """Score the trials of a list (:mod:`auriscope.data.trial_lists`); each recording is embedded once.

    Where the list says the answers, equal error rate and minimal detection cost come with 95 % intervals over speakers:
    recordings that target trials join are taken for one speaker's.

    Args:
        trials: the list.
        root: folder that its paths are relative to; by default the list's own.
        out: CSV file for the trials with their scores; None: none is written.
        calibrate_to: file for a calibration fitted to the trials, for ``calibration`` of later calls.
        model: as of :func:`verify`, as are all that follow.
        threshold: likewise.
        calibration: likewise.
        cohort: likewise.
        plda: likewise.
        channel: likewise.
        device: likewise.
        offline: likewise.
        on_progress: told the file at work and the done fraction.

    Raises:
        AuriscopeError: the list cannot be read, nothing of it can be scored, or as :func:`verify`.
    """
    listed = read_trials(trials)
    folder = Path(trials).parent if root is None else Path(root)
    known = listed[0].target is not None
    if calibrate_to is not None and not known:
        raise AuriscopeError(f"{printable(trials)}: does not say which trials are of one speaker: nothing to calibrate")
    reader = VoiceReader(model, channel=channel, device=device, offline=offline)
    if calibrate_to is not None and reader.nameless:
        raise AuriscopeError("a calibration needs the address of its model; save the model in a folder first")
    verifier = Verifier(reader, threshold=threshold, calibration=calibration, cohort=cohort, plda=plda)
    voices, errors = _embed_all(listed, folder, reader, on_progress)
    scored = [trial for trial in listed if trial.first in voices and trial.second in voices]
    if not scored:
        raise AuriscopeError(f"{printable(trials)}: no trial can be scored: {errors[0]}")
    scores = _scores(scored, voices, verifier)
    files = []
    if out is not None:
        score_of = iter(scores.tolist())
        write_scores(
            Path(out),
            listed,
            [next(score_of) if trial.first in voices and trial.second in voices else None for trial in listed],
        )
        files.append(os.fspath(out))
    rates = None
    miss = false_alarm = None
    if known:
        targets = np.array([bool(trial.target) for trial in scored])
        first, second = speakers_of(scored)
        if targets.any() and not targets.all():
            rates = verification_rates(scores, targets, first, second)
        if verifier.threshold is not None:
            accepted = scores > verifier.threshold
            miss = float(np.mean(~accepted[targets])) if targets.any() else None
            false_alarm = float(np.mean(accepted[~targets])) if not targets.all() else None
        if calibrate_to is not None:
            calibrate(
                scores,
                targets,
                first,
                second,
                scoring=verifier.scoring,
                trials=Path(trials).name,
                weights_sha256=reader.weights_sha256,
            ).write(Path(calibrate_to))
            files.append(os.fspath(calibrate_to))
    return TrialsResult(
        os.fspath(trials),
        reader.address,
        len(listed),
        len(listed) - len(scored),
        verifier.scoring,
        rates,
        verifier.threshold,
        miss,
        false_alarm,
        tuple(files),
        tuple(errors),
    )


def _embed_all(
    trials: Sequence[Trial], folder: Path, reader: VoiceReader, on_progress: OnProgress | None
) -> tuple[dict[str, FloatArray], list[str]]:
    """Embed every recording of a list once: embeddings by path as written, and a line for each that failed."""
    names = list(dict.fromkeys(name for trial in trials for name in (trial.first, trial.second)))
    errors: list[str] = []

    def work(path: Path, index: int) -> FloatArray | None:
        if on_progress is not None:
            on_progress(path.name, index / len(names))
        return reader.read(path).embedding

    def failed(_: Path, line: str) -> FloatArray | None:
        errors.append(line)
        return None

    found = zip(names, each([folder / name for name in names], work, failed), strict=True)
    return {name: embedding for name, embedding in found if embedding is not None}, errors


def _scores(trials: Sequence[Trial], voices: dict[str, FloatArray], verifier: Verifier) -> NDArray[np.float64]:
    place = {name: row for row, name in enumerate(voices)}
    table = np.stack(list(voices.values()))
    first, second = (np.array([place[getattr(trial, side)] for trial in trials]) for side in ("first", "second"))
    # In parts: a list of VoxCeleb has half a million trials.
    parts = [
        verifier.scores(table[first[begin : begin + 4096]], table[second[begin : begin + 4096]])
        for begin in range(0, len(trials), 4096)
    ]
    return np.concatenate(parts)
