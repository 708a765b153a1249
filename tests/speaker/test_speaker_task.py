from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from auriscope.data.cache import AudioStore
from auriscope.data.synthetic import voice
from auriscope.data.voices import TrialSet
from auriscope.errors import RecipeError
from auriscope.metrics.eer import equal_error_rate
from auriscope.speaker import ECAPA
from auriscope.speaker.losses import AAMSoftmax
from auriscope.speaker.scoring import trial_scores
from auriscope.speaker.task import SpeakerOptions, SpeakerTask
from auriscope.training.evaluation import evaluate


def tiny() -> ECAPA:
    torch.manual_seed(0)
    return ECAPA.from_config(ECAPA.Tiny)


def crops(people: int = 3, each: int = 3) -> dict[str, object]:
    """Crops of synthetic voices, in turns."""
    waveforms = [
        voice(person, number, seconds=0.6, sample_rate=16_000)[:9600]
        for number in range(each)
        for person in range(people)
    ]
    return {
        "waveform": torch.from_numpy(np.stack(waveforms)).float(),
        "lengths": torch.full((people * each,), 9600),
        "speaker": torch.arange(people).repeat(each),
        "index": 1000,
    }


def trial_set(people: int = 3, each: int = 3) -> TrialSet:
    waveforms = [
        voice(person, number, seconds=0.6, sample_rate=16_000) for person in range(people) for number in range(each)
    ]
    store = AudioStore.of(waveforms, 16_000)
    stretches = [(store, clip, 0, store.num_frames(clip)) for clip in range(len(store))]
    speakers = [f"made:{person}" for person in range(people) for _ in range(each)]
    pairs = [(one, other) for one in range(len(speakers)) for other in range(one + 1, len(speakers))]
    return TrialSet("made", "valid", stretches, speakers, pairs)


def test_the_loss_is_cross_entropy_with_a_wider_angle() -> None:
    torch.manual_seed(0)
    head = AAMSoftmax(4, 5, scale=20.0)
    embedding, speaker = torch.randn(6, 4), torch.tensor([0, 1, 2, 3, 4, 0])
    embedding[5] = -head.weight[0]  # the angle is pi, and cannot be wider
    loss, cosines = head(embedding, speaker, 0.3)
    total = 0.0
    for row in range(6):
        angles = [
            math.acos(
                max(-1.0, min(1.0, float(torch.cosine_similarity(embedding[row].detach(), weight.detach(), dim=0))))
            )
            for weight in head.weight
        ]
        assert cosines[row].tolist() == pytest.approx([math.cos(angle) for angle in angles], abs=1e-5)
        logits = [20.0 * math.cos(angle) for angle in angles]
        right = angles[int(speaker[row])]
        wider = math.cos(right + 0.3) if right + 0.3 < math.pi else math.cos(right) - 0.3 * math.sin(0.3)
        logits[int(speaker[row])] = 20.0 * wider
        total += math.log(sum(math.exp(value) for value in logits)) - logits[int(speaker[row])]
    assert loss.item() == pytest.approx(total / 6, rel=1e-4)
    plain, _ = head(embedding, speaker, 0.0)
    assert plain.item() == pytest.approx(torch.nn.functional.cross_entropy(20.0 * cosines, speaker).item(), rel=1e-5)
    loss.backward()
    assert head.weight.grad is not None
    assert head.weight.grad.isfinite().all()


def test_the_margin_grows() -> None:
    options = SpeakerOptions(margin=0.2, margin_start_batches=10, margin_warmup_batches=20)
    task = SpeakerTask(tiny(), 3, options)
    assert [task.margin(index) for index in (0, 9, 19, 29, 1000)] == pytest.approx([0.0, 0.0, 0.1, 0.2, 0.2])
    assert SpeakerTask(tiny(), 3, SpeakerOptions(margin=0.2)).margin(0) == 0.2
    with pytest.raises(RecipeError, match="margin must lie between"):
        SpeakerOptions(margin=2.0)


def test_voices_are_learnt_and_then_told_apart() -> None:
    task = SpeakerTask(tiny(), 3, SpeakerOptions(max_mel_width=2, max_time_width=2))
    optimizer = torch.optim.Adam([parameter for each in task.phases().values() for parameter in each], lr=5e-3)
    batch, trials = crops(), trial_set()
    first = task(batch, "main")
    for _ in range(30):
        optimizer.zero_grad()
        losses = task(batch, "main")
        losses["loss"].backward()
        optimizer.step()
    assert losses["loss"] < 0.5 * first["loss"]
    with torch.no_grad():
        # What the norms have seen lags behind such quick learning.
        for _ in range(20):
            task(batch, "main")
    assert losses["accuracy"] == 1.0
    table = evaluate(task, [{"trials": trials, "id": ["made"]}])
    assert task.training
    assert [row["id"] for row in table.rows] == ["made"]
    assert table.means()["eer_percent"] < 30.0  # by chance 50
    assert 0.0 <= table.means()["min_dcf"] <= 1.0


def test_scores_are_cosines_of_whole_recordings() -> None:
    model, trials = tiny().eval(), trial_set(2, 2)
    scores = trial_scores(model, trials)
    with torch.no_grad():
        for number, (one, other) in enumerate(zip(trials.first, trials.second, strict=True)):
            waveforms = [torch.from_numpy(trials[int(index)])[None] for index in (one, other)]
            expected = torch.cosine_similarity(*(model(waveform) for waveform in waveforms))
            assert float(scores[number]) == pytest.approx(float(expected), abs=1e-5)
    assert trials.targets.tolist() == [True, False, False, False, False, True]
    assert 0.0 <= equal_error_rate(scores, trials.targets).value <= 1.0
