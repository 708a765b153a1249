"""Preparing the corpora of the field: miniature trees of their layouts, and everything that can be wrong with them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import ModuleType

import pytest
import soundfile

from auriscope.data.manifest import read_manifest
from auriscope.data.prepare import LAYOUTS
from auriscope.data.prepare.musdb import VALID_SONGS
from auriscope.data.prepared import read_prepared, write_prepared
from auriscope.errors import CorpusError
from auriscope.verbs.prepare import PrepareResult, prepare


def prepared(corpus: str, root: Path, tmp_path: Path, **asked: object) -> PrepareResult:
    return prepare(corpus, root, out=tmp_path / "out", **asked)  # type: ignore[arg-type]


@pytest.fixture
def wsj0(tmp_path: Path, trees: ModuleType) -> Path:
    root: Path = trees.build_wsj0mix(tmp_path / "wsj0-mix")
    return root


def test_wsj0_2mix(wsj0: Path, tmp_path: Path) -> None:
    result = prepared("wsj0-2mix", wsj0, tmp_path)
    assert {name: split.num_mixtures for name, split in result.splits.items()} == {"train": 6, "valid": 2, "test": 3}
    assert result.splits["train"].num_speakers == 12
    # The whole corpus has 20,000: whoever has fewer is told.
    assert len(result.warnings) == 3
    corpus = read_prepared(tmp_path / "out")
    assert (corpus.sample_rate, corpus.sources, corpus.order) == (8000, ("s1", "s2"), "any")
    first = corpus.split("train")[0]
    assert first.path == "2speakers/wav8k/min/tr/mix/00aa0000_0.5_10ba0000_0.5.wav"
    assert first.sources[1] == "2speakers/wav8k/min/tr/s2/00aa0000_0.5_10ba0000_0.5.wav"
    assert first.speakers == ("00a", "10b")
    assert first.noise is None
    for mixture in corpus.mixtures:
        assert mixture.num_frames == soundfile.info(corpus.root / mixture.path).frames


def test_wsj0_3mix_at_16_khz(tmp_path: Path, trees: ModuleType) -> None:
    root = trees.build_wsj0mix(tmp_path / "3", 3, 16000)
    with pytest.raises(CorpusError, match=r"3speakers/wav8k/min: is not there.*--sample-rate"):
        prepared("wsj0-3mix", root, tmp_path)
    assert prepared("wsj0-3mix", root, tmp_path, sample_rate=16000).num_sources == 3


def test_a_folder_in_the_corpus_is_a_root_too(wsj0: Path, tmp_path: Path) -> None:
    prepared("wsj0-2mix", wsj0 / "2speakers", tmp_path)
    assert read_prepared(tmp_path / "out").mixtures[0].path.startswith("wav8k/")


@pytest.mark.parametrize(
    ("condition", "mixture", "num_sources", "has_noise"),
    [(None, "mix_both", 2, True), ("clean", "mix_clean", 2, False), ("single", "mix_single", 1, True)],
)
def test_wham(
    condition: str | None, mixture: str, num_sources: int, has_noise: bool, tmp_path: Path, trees: ModuleType
) -> None:
    root = trees.build_wham(tmp_path / "wham", mixture)
    assert prepared("wham", root, tmp_path, condition=condition).num_sources == num_sources
    first = read_prepared(tmp_path / "out").mixtures[0]
    assert f"/{mixture}/" in first.path
    assert (first.noise is not None) == has_noise


def test_whamr_asks_for_the_dry_talkers_of_reverberant_mixtures(tmp_path: Path, trees: ModuleType) -> None:
    root = trees.build_wham(tmp_path / "whamr", "mix_both_reverb", "_anechoic")
    assert prepared("whamr", root, tmp_path).condition == "noisy-reverb"
    corpus = read_prepared(tmp_path / "out")
    assert "/s1_anechoic/" in corpus.mixtures[0].sources[0]
    assert not corpus.remixable


def test_librimix_takes_the_training_set_that_is_asked_for(tmp_path: Path, trees: ModuleType) -> None:
    root = trees.build_librimix(tmp_path / "libri", 3, "mix_both")
    for name in ("train-360", "train-100"):
        prepared("libri3mix", root, tmp_path, condition="noisy", train_set=name)
        corpus = read_prepared(tmp_path / "out")
        assert f"/{name}/mix_both/" in corpus.split("train")[0].path
        assert corpus.split("train")[0].speakers == ("0", "10", "20")


def test_librimix_misses_what_its_own_list_has(tmp_path: Path, trees: ModuleType) -> None:
    root = trees.build_librimix(tmp_path / "libri")
    gone = sorted((root / "Libri2Mix/wav8k/min/dev/mix_clean").glob("*.wav"))[0].name
    for kind in ("mix_clean", "s1", "s2"):
        (root / "Libri2Mix/wav8k/min/dev" / kind / gone).unlink()
    with pytest.raises(CorpusError, match=rf"{gone[:-4]}.wav: is in mixture_dev_mix_clean.csv but missing"):
        prepared("libri2mix", root, tmp_path)


def test_voicebank_demand_keeps_two_speakers_for_validation(tmp_path: Path, trees: ModuleType) -> None:
    prepared("voicebank-demand", trees.build_voicebank(tmp_path / "vb"), tmp_path)
    corpus = read_prepared(tmp_path / "out")
    speakers = {name: {mixture.speakers[0] for mixture in corpus.split(name)} for name in ("train", "valid", "test")}
    assert speakers == {"train": {"p228"}, "valid": {"p226", "p287"}, "test": {"p232", "p257"}}
    assert corpus.split("train")[0].sources[0] == "clean_trainset_28spk_wav/p228_001.wav"
    assert corpus.sample_rate == 48000


def test_musdb18_has_fixed_stems_of_two_channels(tmp_path: Path, trees: ModuleType) -> None:
    prepared("musdb18", trees.build_musdb(tmp_path / "musdb", 0.1), tmp_path)
    corpus = read_prepared(tmp_path / "out")
    assert (corpus.order, corpus.num_channels, corpus.sample_rate) == ("fixed", 2, 44100)
    assert corpus.sources == ("bass", "drums", "other", "vocals")
    assert {mixture.path.split("/")[1] for mixture in corpus.split("valid")} <= VALID_SONGS
    assert len(VALID_SONGS) == 14


def test_compressed_stems_are_told_what_to_do_with(tmp_path: Path) -> None:
    for part in ("train", "test"):
        (tmp_path / "musdb" / part).mkdir(parents=True)
        (tmp_path / "musdb" / part / "Song.stem.mp4").touch()
    with pytest.raises(CorpusError, match=r"\.stem\.mp4 files; get MUSDB18-HQ"):
        prepared("musdb18", tmp_path / "musdb", tmp_path)


def damage_rate(path: Path) -> None:
    waveform, _ = soundfile.read(path)
    soundfile.write(path, waveform, 16000)


def damage_length(path: Path) -> None:
    waveform, rate = soundfile.read(path)
    soundfile.write(path, waveform[:-5], rate)


def damage_channels(path: Path) -> None:
    waveform, rate = soundfile.read(path)
    soundfile.write(path, waveform[:, None].repeat(2, 1), rate)


@pytest.mark.parametrize(
    ("damage", "line"),
    [
        (Path.unlink, "is missing; copy or generate the corpus again"),
        (damage_rate, "has a rate of 16000 Hz instead of 8000 Hz.*--sample-rate 16000"),
        (damage_length, r"has \d+ samples and its mixture .*tr/mix/.* \d+; generate or copy both again"),
        (damage_channels, "has 2 channels instead of 1"),
        (lambda path: path.write_bytes(b"no audio"), "cannot be read as audio"),
        (lambda path: soundfile.write(path, [], 8000), "holds no samples"),
    ],
)
def test_what_is_wrong_with_a_file_is_one_line_that_names_it(damage, line, wsj0: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    victim = sorted((wsj0 / "2speakers/wav8k/min/tr/s2").iterdir())[3]
    damage(victim)
    with pytest.raises(CorpusError, match=f"{victim.name}: {line}") as caught:
        prepared("wsj0-2mix", wsj0, tmp_path)
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["wsj0-mix"], "nothing half-written stays"


def test_a_missing_mixture_an_empty_split_and_a_missing_folder_are_named(wsj0: Path, tmp_path: Path) -> None:
    base = wsj0 / "2speakers/wav8k/min"
    gone = sorted((base / "cv/mix").iterdir())[0]
    gone.unlink()
    with pytest.raises(CorpusError, match=f"cv/mix/{gone.name}: is missing, though its sources are there"):
        prepared("wsj0-2mix", wsj0, tmp_path)
    for path in (base / "cv").rglob("*.wav"):
        path.unlink()
    with pytest.raises(CorpusError, match="no mixture for the split valid; get the whole corpus"):
        prepared("wsj0-2mix", wsj0, tmp_path)
    shutil.rmtree(base / "tt/mix")
    with pytest.raises(CorpusError, match="tt/mix: cannot be read"):
        prepared("wsj0-2mix", wsj0, tmp_path)
    with pytest.raises(CorpusError, match="nowhere: is not a folder"):
        prepared("wsj0-2mix", tmp_path / "nowhere", tmp_path)


def test_names_that_do_not_tell_the_talkers(wsj0: Path, tmp_path: Path) -> None:
    for kind in ("mix", "s1", "s2"):
        folder = wsj0 / "2speakers/wav8k/min/tr" / kind
        sorted(folder.iterdir())[0].rename(folder / "0001.wav")
    with pytest.raises(CorpusError, match=r"0001\.wav: its name does not tell the talkers"):
        prepared("wsj0-2mix", wsj0, tmp_path)


@pytest.mark.parametrize(
    ("asked", "line"),
    [
        ({"sample_rate": 44100}, "wsj0-2mix has no --sample-rate 44100; it has: 8000, 16000"),
        ({"condition": "noisy"}, "wsj0-2mix has no --condition noisy; it has: clean"),
        ({"train_set": "train-100"}, "no --train-set train-100; it has: nothing to choose; leave it out"),
    ],
)
def test_versions_that_a_corpus_does_not_come_in(asked: dict[str, object], line: str, tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=line):
        prepared("wsj0-2mix", tmp_path, tmp_path, **asked)
    with pytest.raises(CorpusError, match="no corpus 'wsj' to prepare; there are: wsj0-2mix, wsj0-3mix, wham"):
        prepare("wsj", tmp_path)


def test_the_folder_is_named_after_corpus_and_condition(
    tmp_path: Path, trees: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = trees.build_wham(tmp_path / "wham", "mix_clean")
    monkeypatch.chdir(tmp_path)
    assert prepare("wham", "wham", condition="clean").out == Path("manifests/wham-clean")
    # Absolute, so that a run from another folder finds it.
    assert read_prepared("manifests/wham-clean").root == root.resolve()
    assert set(LAYOUTS) == {
        "wsj0-2mix", "wsj0-3mix", "wham", "whamr", "libri2mix", "libri3mix", "voicebank-demand", "musdb18",
        "librispeech", "commonvoice", "ljspeech", "libritts", "vctk", "voxceleb1", "voxceleb2", "cryceleb",
        "ami", "espeak", "esc50", "urbansound8k", "tut17", "speech-commands", "audiomnist", "mnist", "fashion-mnist",
        "quickdraw", "class-folders", "audiocaps", "clotho", "debian-sounds", "debian-sounds-captions",
    }  # fmt: skip


def test_preparing_again_replaces_and_other_folders_are_left_alone(wsj0: Path, tmp_path: Path) -> None:
    prepared("wsj0-2mix", wsj0, tmp_path)
    for kind in ("mix", "s1", "s2"):
        sorted((wsj0 / "2speakers/wav8k/min/tr" / kind).iterdir())[0].unlink()
    prepared("wsj0-2mix", wsj0, tmp_path)
    assert len(read_prepared(tmp_path / "out").split("train")) == 5
    assert len(read_manifest(tmp_path / "out" / "manifest.csv")) == 10
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "wsj0-mix"]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").touch()
    with pytest.raises(CorpusError, match="was not written by prepare; choose another with --out"):
        write_prepared(read_prepared(tmp_path / "out"), tmp_path / "mine")


def test_a_prepared_folder_that_is_not_as_it_was(wsj0: Path, tmp_path: Path) -> None:
    prepared("wsj0-2mix", wsj0, tmp_path)
    place = tmp_path / "out" / "corpus.json"
    values = json.loads(place.read_text())
    with pytest.raises(CorpusError, match=r"holds no corpus\.json; write it with: auriscope prepare"):
        read_prepared(tmp_path)
    for change, line in (
        ({"format_version": 9}, "is of format 9"),
        ({"root": str(tmp_path / "moved")}, "its root .*moved is not there; prepare the corpus again"),
        ({"sources": ["s1", "s2", "s3"]}, "line 2: lacks or has a wrong 'source_3'"),
        ({"colour": 1}, r"corpus\.json: cannot be read"),
    ):
        place.write_text(json.dumps({**values, **change}))
        with pytest.raises(CorpusError, match=line):
            read_prepared(tmp_path / "out")
    place.write_text("[")
    with pytest.raises(CorpusError, match="cannot be read"):
        read_prepared(tmp_path / "out")
