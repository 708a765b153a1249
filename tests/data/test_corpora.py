from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from auriscope.data import corpora_root, impulse_responses, noise_clips, utterances, write_manifest
from auriscope.data.cache import open_clips
from auriscope.data.corpora import LEAKED_RESPONSES, QUIRKS, Clip, labelled_clips
from auriscope.data.manifest import Entry
from auriscope.data.mixing import DEFAULT_CORPORA
from auriscope.errors import CorpusError


def test_an_unset_or_wrong_root_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("AURISCOPE_CORPORA", raising=False)
    with pytest.raises(CorpusError, match="set AURISCOPE_CORPORA"):
        corpora_root()
    monkeypatch.setenv("AURISCOPE_CORPORA", str(tmp_path / "nowhere"))
    with pytest.raises(CorpusError, match="not a folder"):
        utterances("libri_251spk", "train")


def test_utterances_carry_the_manifest(corpora: Path) -> None:
    listed = utterances("libri_251spk", "train")
    assert len(listed) == 6
    first = listed[0]
    assert first.path == corpora / "libri_251spk" / "audio" / "10-0.wav"
    assert (first.speaker, first.sex, first.text) == ("librispeech:10", "M", "ANYTHING, REALLY")
    assert first.duration_seconds == 3.0
    assert utterances("libri_251spk", "train", min_seconds=3.5) == []


def test_corpora_of_one_collection_share_their_speakers(corpora: Path) -> None:
    readers = {utterance.speaker for utterance in utterances("libri_readers_3spk", "train")}
    assert readers <= {utterance.speaker for utterance in utterances("libri_251spk", "train")}


def test_unknown_speakers_are_one_that_stands_for_many(corpora: Path) -> None:
    listed = utterances("coffee_commands", "train")
    assert {(utterance.speaker, utterance.num_speakers) for utterance in listed} == {("picovoice:unknown", 50)}


def test_evaluation_corpora_are_refused_for_training(corpora: Path) -> None:
    with pytest.raises(CorpusError, match="must not be trained on"):
        utterances("libri_eval50_flac", "test", for_training=True)
    assert len(utterances("libri_eval50_flac", "test")) == 7


def test_missing_corpora_and_splits_are_named(corpora: Path) -> None:
    with pytest.raises(CorpusError, match=r"no corpus 'wsj0'.*coffee_commands, libri_251spk"):
        utterances("wsj0", "train")
    with pytest.raises(CorpusError, match="no entry in the split 'test'"):
        utterances("libri_251spk", "test")
    with pytest.raises(CorpusError, match="split 'dev'"):
        utterances("libri_251spk", "dev")


def test_offsets_and_clean_recordings(tmp_path: Path) -> None:
    (tmp_path / "fsdd_digits").mkdir()
    entry = Entry("audio/g.wav", "train", 0.5, speaker="george", start_frame=8000, end_frame=16000)
    write_manifest(tmp_path / "fsdd_digits" / "manifest.csv", [entry])
    (utterance,) = utterances("fsdd_digits", "train", root=tmp_path)
    assert (utterance.start_seconds, utterance.duration_seconds) == (0.5, 0.5)
    (tmp_path / "voicebank_demand_pairs").mkdir()
    entry = Entry("audio/noisy.wav", "test", 1.0, speaker="p1", more={"clean_path": "audio/clean.wav"})
    write_manifest(tmp_path / "voicebank_demand_pairs" / "manifest.csv", [entry])
    (utterance,) = utterances("voicebank_demand_pairs", "test", root=tmp_path)
    assert utterance.path.name == "clean.wav"


def test_responses_and_noise(corpora: Path) -> None:
    responses = impulse_responses("test")
    assert len(responses) == 8
    assert (responses[0].room, responses[0].position, responses[0].direct_frame) == ("house", "test0", 100)
    assert responses[0].rt60_seconds == 0.22
    assert [clip.label for clip in noise_clips("valid")] == ["rain"]


def test_the_room_imports_no_torch_until_it_mixes() -> None:
    code = "import sys, auriscope.data as d; d.utterances; d.read_manifest; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_noise_that_is_speech_or_shares_alike_is_not_trained_on(tmp_path: Path) -> None:
    folder = tmp_path / "sound_events"
    folder.mkdir()
    rows = [
        ("a.opus", "vehicle", "CC BY 3.0", "train"),
        ("b.opus", "human_voice", "CC BY 3.0", "train"),
        ("c.opus", "water", "CC BY-SA 3.0", "train"),
        ("d.opus", "water", "CC BY-SA 3.0", "test"),
    ]
    entries = [Entry(name, split, 1.0, label=label, more={"licence": licence}) for name, label, licence, split in rows]
    write_manifest(folder / "manifest.csv", entries)
    assert [clip.name for clip in noise_clips("train", corpus="sound_events", root=tmp_path)] == ["a.opus"]
    assert [clip.name for clip in noise_clips("test", corpus="sound_events", root=tmp_path)] == ["d.opus"]


@pytest.mark.corpora
def test_no_training_voice_is_in_an_evaluation_split(real_corpora: Path) -> None:
    trained = {
        utterance.speaker for corpus in DEFAULT_CORPORA for utterance in utterances(corpus, "train", for_training=True)
    }
    assert len(trained) == 335
    for corpus in ("libri_eval50_flac", "libri_other_10spk", "commonvoice_en"):
        for split in ("valid", "test"):
            assert not trained & {utterance.speaker for utterance in utterances(corpus, split)}


@pytest.mark.corpora
def test_the_corpora_with_quirks_are_as_described(real_corpora: Path) -> None:
    for corpus, quirks in QUIRKS.items():
        split = "test" if quirks.evaluation_only else "train"
        listed: Sequence[Clip]
        if quirks.recording or corpus == "real_vs_synth":
            listed = labelled_clips(corpus, split)
        else:
            listed = noise_clips(split, corpus=corpus) if quirks.not_noise else utterances(corpus, split)
        assert listed
        assert all(clip.path.is_file() for clip in listed)
    digits = utterances("fsdd_digits", "test")
    assert len(digits) == 500
    assert max(digit.start_seconds for digit in digits) > 100


@pytest.mark.corpora
def test_no_training_response_is_a_held_out_one(real_corpora: Path) -> None:
    """Compare 0.25 s from the direct sound on: equal responses correlate fully, different ones at most 0.92."""

    def shapes(split: str) -> np.ndarray:
        responses = impulse_responses(split)
        store = open_clips(responses, sample_rate=16_000, name=f"rir-{split}")
        rows = np.stack([store.read(clip, response.direct_frame, 4000) for clip, response in enumerate(responses)])
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    train = shapes("train")
    assert len(train) == 58 - len(LEAKED_RESPONSES)
    for split in ("valid", "test"):
        assert (train @ shapes(split).T).max() < 0.95
