"""Audio files: formats, streaming, and one clear line for everything that can be wrong with a file."""

from __future__ import annotations

import os
import resource
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr

from auriscope.errors import AudioFileError
from auriscope.signal import make_folder, written_aside
from auriscope.signal.files import AudioReader, AudioWriter, find_audio, probe, read, write


def tone(num_frames: int, sample_rate: int = 16000) -> np.ndarray:
    time = np.arange(num_frames) / sample_rate
    return (0.3 * np.sin(2 * np.pi * 440 * time) + 0.1 * np.sin(2 * np.pi * 1111 * time)).astype(np.float32)


def noise(num_frames: int, seed: int = 0) -> np.ndarray:
    return (0.1 * np.random.default_rng(seed).standard_normal(num_frames)).astype(np.float32)


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def message(error: pytest.ExceptionInfo[AudioFileError], path: Path) -> str:
    """The error's text, after checking that it is one line that names the file and tells a cure after a semicolon."""
    text = str(error.value)
    assert "\n" not in text
    assert text.startswith(str(path))
    return text


@pytest.fixture
def as_nobody():
    """Act without the rights of root, which no permission stops."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


# Reading


@pytest.mark.parametrize(
    ("name", "subtype", "tolerance"),
    [
        ("a.wav", "PCM_16", 1e-4),
        ("a.wav", "PCM_24", 1e-6),
        ("a.wav", "FLOAT", 0.0),
        ("a.wav", "DOUBLE", 0.0),
        ("a.flac", "PCM_24", 1e-6),
        ("a.aiff", "PCM_16", 1e-4),
        ("a.ogg", "VORBIS", 0.05),
        ("a.ogg", "OPUS", 0.05),
        ("a.mp3", "MPEG_LAYER_III", 0.05),
    ],
)
def test_reads_every_format(tmp_path, name, subtype, tolerance):
    waveform = tone(48000, 48000)
    soundfile.write(tmp_path / name, waveform, 48000, subtype=subtype)
    info = probe(tmp_path / name)
    assert (info.path, info.sample_rate, info.num_channels) == (tmp_path / name, 48000, 1)
    assert (info.num_frames, info.duration_seconds) == (48000, 1.0)
    assert info.format.endswith(subtype)
    got, sample_rate = read(tmp_path / name)
    assert (got.dtype, got.shape, sample_rate) == (np.float32, (48000,), 48000)
    assert np.abs(got - waveform)[2000:-2000].max() <= tolerance


def test_mixes_eight_channels_down_or_takes_one(tmp_path):
    channels = np.stack([noise(1000, seed) for seed in range(8)], axis=1)
    soundfile.write(tmp_path / "a.wav", channels, 192000, subtype="FLOAT")
    mixed, sample_rate = read(tmp_path / "a.wav")
    assert sample_rate == 192000
    np.testing.assert_allclose(mixed, channels.mean(axis=1), atol=1e-7)
    np.testing.assert_array_equal(read(tmp_path / "a.wav", channel=5)[0], channels[:, 5])
    with pytest.raises(AudioFileError) as error:
        read(tmp_path / "a.wav", channel=8)
    assert "give 0 to 7" in message(error, tmp_path / "a.wav")


@pytest.mark.parametrize(("orig_rate", "new_rate"), [(48000, 16000), (44100, 16000), (8000, 16000), (192000, 8000)])
def test_resamples_as_soxr(tmp_path, orig_rate, new_rate):
    waveform = noise(30011)
    soundfile.write(tmp_path / "a.wav", waveform, orig_rate, subtype="FLOAT")
    got, sample_rate = read(tmp_path / "a.wav", sample_rate=new_rate)
    expected = soxr.resample(waveform, orig_rate, new_rate)
    assert sample_rate == new_rate
    assert len(got) == -(-30011 * new_rate // orig_rate)
    assert abs(len(got) - len(expected)) <= 1
    np.testing.assert_allclose(got[: len(expected)], expected[: len(got)], atol=1e-6)


def test_ten_samples_stay_a_signal_at_any_rate(tmp_path):
    soundfile.write(tmp_path / "a.wav", noise(10), 192000, subtype="FLOAT")
    assert read(tmp_path / "a.wav", sample_rate=8000)[0].shape == (1,)


def test_reads_a_stretch(tmp_path):
    waveform = noise(16000)
    soundfile.write(tmp_path / "a.flac", waveform, 16000, subtype="PCM_24")
    got, _ = read(tmp_path / "a.flac", start_seconds=0.25, duration_seconds=0.5)
    np.testing.assert_allclose(got, waveform[4000:12000], atol=1e-6)
    assert len(read(tmp_path / "a.flac", start_seconds=0.9, duration_seconds=5.0)[0]) == 1600
    with pytest.raises(AudioFileError, match=r"ends at 1\.000 s"):
        read(tmp_path / "a.flac", start_seconds=1.0)
    with pytest.raises(ValueError, match="start_seconds"):
        read(tmp_path / "a.flac", start_seconds=-1.0)


@pytest.mark.parametrize("sample_rate", [None, 16000, 11025])
@pytest.mark.parametrize("block_frames", [1, 999, 65536])
def test_blocks_join_to_the_whole(tmp_path, sample_rate, block_frames):
    soundfile.write(tmp_path / "a.wav", np.stack([noise(4001), noise(4001, 1)], axis=1), 22050, subtype="FLOAT")
    whole, _ = read(tmp_path / "a.wav", sample_rate=sample_rate)
    with AudioReader(tmp_path / "a.wav", sample_rate=sample_rate) as reader:
        for _ in range(2):
            blocks = list(reader.blocks(block_frames))
            assert {len(block) for block in blocks[:-1]} <= {block_frames}
            assert 1 <= len(blocks[-1]) <= block_frames
            np.testing.assert_array_equal(np.concatenate(blocks), whole)


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.ogg", "a.opus", "a.mp3"])
def test_many_reads_decode_as_one(tmp_path, name, monkeypatch):
    write(tmp_path / name, tone(480000, 48000) + noise(480000), 48000)
    monkeypatch.setattr("auriscope.signal.files._BLOCK_SAMPLES", 10007)
    with soundfile.SoundFile(tmp_path / name) as file:
        expected = file.read(dtype="float32")
    with AudioReader(tmp_path / name) as reader:
        for _ in range(2):
            np.testing.assert_allclose(np.concatenate(list(reader.blocks(4096))), expected, atol=1e-5)
    np.testing.assert_allclose(read(tmp_path / name, start_seconds=3.3)[0], expected[158400:], atol=1e-5)


def test_streams_twenty_minutes_in_bounded_reads(tmp_path, monkeypatch):
    with AudioWriter(tmp_path / "long.wav", 48000, 2, subtype="PCM_16") as writer:
        for seed in range(20):
            writer.write(np.tile(noise(48000, seed), (2, 60)))
    largest = 0
    decode = soundfile.SoundFile.read

    def watched(self, frames=-1, *args, **kwargs):
        nonlocal largest
        data = decode(self, frames, *args, **kwargs)
        largest = max(largest, data.size)
        return data

    monkeypatch.setattr(soundfile.SoundFile, "read", watched)
    total = 0
    with AudioReader(tmp_path / "long.wav", sample_rate=16000) as reader:
        assert reader.info.duration_seconds == 1200
        for block in reader.blocks(16000):
            assert len(block) == 16000
            # A view of a longer array would keep that array alive.
            assert block.base is None or block.base.size < 300_000
            total += len(block)
    assert total == 1200 * 16000
    assert 0 < largest <= 1 << 18


# What can be wrong with a file


def cut(path: Path, num_bytes: int) -> None:
    path.write_bytes(path.read_bytes()[:num_bytes])


def test_missing_file(tmp_path):
    with pytest.raises(AudioFileError) as error:
        probe(tmp_path / "none.wav")
    assert message(error, tmp_path / "none.wav").endswith("no such file; check the path")


def test_folder_given_as_a_file(tmp_path):
    with pytest.raises(AudioFileError) as error:
        read(tmp_path)
    assert "is a folder" in message(error, tmp_path)


def test_empty_file(tmp_path):
    (tmp_path / "a.wav").touch()
    with pytest.raises(AudioFileError) as error:
        read(tmp_path / "a.wav")
    assert "empty (0 bytes)" in message(error, tmp_path / "a.wav")


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.ogg", "a.opus", "a.mp3"])
@pytest.mark.parametrize("num_bytes", [4, 44, 70, 94])
def test_truncated_to_a_header(tmp_path, name, num_bytes, capfd):
    write(tmp_path / name, tone(48000, 48000), 48000)
    if name == "a.wav":
        # Ours is longer than the usual one by room for 64-bit sizes and by the fact chunk.
        num_bytes = min(num_bytes, 94)
    cut(tmp_path / name, num_bytes)
    with pytest.raises(AudioFileError) as error:
        read(tmp_path / name)
    assert ";" in message(error, tmp_path / name)


def test_flac_that_breaks_off(tmp_path):
    write(tmp_path / "a.flac", noise(480000), 48000)
    cut(tmp_path / "a.flac", (tmp_path / "a.flac").stat().st_size // 2)
    with pytest.raises(AudioFileError, match=r"breaks off at \d+\.\d+ s"):
        read(tmp_path / "a.flac")


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.mp3", "a.raw", "a"])
@pytest.mark.parametrize("content", [b"This is a letter, not a sound.\n" * 50, b"\x89PNG\r\n\x1a\n" + bytes(500)])
def test_not_audio(tmp_path, name, content, capfd):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(AudioFileError) as error:
        probe(tmp_path / name)
    assert "not audio" in message(error, tmp_path / name)


def test_formats_recognised_by_too_little_are_refused(tmp_path):
    soundfile.write(tmp_path / "a.mat", noise(100), 16000, format="MAT5", subtype="FLOAT")
    with pytest.raises(AudioFileError, match="not audio"):
        probe(tmp_path / "a.mat")


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".ogg"])
def test_zero_samples(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    soundfile.write(path, np.zeros(0, dtype=np.float32), 16000)
    with pytest.raises(AudioFileError) as error:
        read(path)
    assert ";" in message(error, path)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity(tmp_path, value):
    waveform = noise(16000)
    waveform[8000] = value
    soundfile.write(tmp_path / "a.wav", np.stack([noise(16000), waveform], axis=1), 16000, subtype="FLOAT")
    with pytest.raises(AudioFileError) as error:
        read(tmp_path / "a.wav")
    assert "at 0.500 s" in message(error, tmp_path / "a.wav")
    assert read(tmp_path / "a.wav", channel=0)[0].shape == (16000,)


def test_unreadable_file(tmp_path, as_nobody):
    # As root we have become nobody, to whom pytest's folder is closed; otherwise the file itself is closed to us.
    if os.geteuid() != 65534:
        (tmp_path / "a.wav").touch(mode=0)
    with pytest.raises(AudioFileError) as error:
        probe(tmp_path / "a.wav")
    assert "permissions" in message(error, tmp_path / "a.wav")


def test_pipe_is_refused_without_waiting(tmp_path):
    os.mkfifo(tmp_path / "pipe.wav")
    with pytest.raises(AudioFileError, match="not a regular file"):
        probe(tmp_path / "pipe.wav")


@pytest.mark.parametrize("name", ["two\nlines.wav", "null\0byte.wav", "long" * 100 + ".wav", "latin-\udcff.wav"])
def test_strange_names_stay_on_one_printable_line(tmp_path, name):
    with pytest.raises(AudioFileError) as error:
        probe(tmp_path / name)
    assert str(error.value).isprintable()
    str(error.value).encode()


def test_name_that_is_not_utf8(tmp_path):
    path = tmp_path / "latin-\udcff.wav"
    write(path, noise(100), 16000)
    np.testing.assert_array_equal(read(path)[0], noise(100))


# Writing


@pytest.mark.parametrize(("subtype", "step"), [(None, 0.0), ("FLOAT", 0.0), ("PCM_16", 2.0**-16), ("PCM_24", 2.0**-24)])
@pytest.mark.parametrize("num_channels", [1, 3])
def test_wav_as_soundfile_reads_it(tmp_path, subtype, step, num_channels):
    # An odd number of frames, so that 24 bit needs a byte of padding.
    channels = np.stack([noise(1001, seed) for seed in range(num_channels)])
    waveform = channels[0] if num_channels == 1 else channels
    write(tmp_path / "a.wav", waveform, 44100, num_channels=num_channels, subtype=subtype)
    got, sample_rate = soundfile.read(tmp_path / "a.wav", always_2d=True, dtype="float64")
    info = soundfile.info(tmp_path / "a.wav")
    assert (sample_rate, info.format, info.subtype) == (44100, "WAV", subtype or "FLOAT")
    assert got.shape == (1001, num_channels)
    assert np.abs(got.T - channels).max() <= step
    raw = (tmp_path / "a.wav").read_bytes()
    assert struct.unpack("<I", raw[4:8])[0] == len(raw) - 8


def test_float_keeps_what_pcm_saturates(tmp_path):
    waveform = np.array([0.5, 1.5, -2.0, 1.0], dtype=np.float32)
    write(tmp_path / "a.wav", waveform, 8000)
    np.testing.assert_array_equal(read(tmp_path / "a.wav")[0], waveform)
    write(tmp_path / "a.wav", waveform, 8000, subtype="PCM_16")
    np.testing.assert_allclose(read(tmp_path / "a.wav")[0], [0.5, 1.0, -1.0, 1.0], atol=2.0**-15)


def test_sixteen_bit_comes_back_exactly(tmp_path):
    steps = np.arange(-32768, 32768, 7).astype(np.int16)
    soundfile.write(tmp_path / "a.wav", steps, 16000)
    write(tmp_path / "b.wav", read(tmp_path / "a.wav")[0], 16000, subtype="PCM_16")
    np.testing.assert_array_equal(soundfile.read(tmp_path / "b.wav", dtype="int16")[0], steps)


@pytest.mark.parametrize("subtype", ["FLOAT", "PCM_16", "PCM_24"])
def test_large_wav_becomes_rf64(tmp_path, monkeypatch, subtype):
    monkeypatch.setattr("auriscope.signal.wave._LARGEST_RIFF", 4000)
    waveform = noise(5000)
    write(tmp_path / "a.wav", waveform, 16000, subtype=subtype)
    info = soundfile.info(tmp_path / "a.wav")
    assert (info.format, info.frames, info.subtype) == ("RF64", 5000, subtype)
    np.testing.assert_allclose(read(tmp_path / "a.wav")[0], waveform, atol=2.0**-15)


@pytest.mark.parametrize("name", ["a.flac", "a.ogg", "a.opus", "a.mp3"])
def test_writes_other_formats_by_suffix(tmp_path, name):
    write(tmp_path / name, tone(480000, 48000), 48000)
    got, sample_rate = read(tmp_path / name)
    assert (len(got), sample_rate) == (480000, 48000)
    assert np.abs(got - tone(480000, 48000))[2000:-2000].max() < 0.05
    assert names_in(tmp_path) == [name]


def test_blocks_and_whole_give_the_same_file(tmp_path):
    waveform = noise(5000)
    write(tmp_path / "a.flac", waveform, 16000)
    with AudioWriter(tmp_path / "b.flac", 16000) as writer:
        assert not (tmp_path / "b.flac").exists()
        assert (tmp_path / "b.flac.part").exists()
        for begin in range(0, 5000, 777):
            writer.write(waveform[begin : begin + 777])
    np.testing.assert_array_equal(read(tmp_path / "a.flac")[0], read(tmp_path / "b.flac")[0])
    assert names_in(tmp_path) == ["a.flac", "b.flac"]


@pytest.mark.parametrize("name", ["a.wav", "a.flac"])
def test_failure_keeps_the_old_file_and_leaves_nothing_aside(tmp_path, name):
    write(tmp_path / name, noise(100), 16000)

    def fail() -> None:
        with AudioWriter(tmp_path / name, 16000) as writer:
            writer.write(noise(100, 1))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert names_in(tmp_path) == [name]
    np.testing.assert_allclose(read(tmp_path / name)[0], noise(100), atol=2.0**-15)


@pytest.mark.parametrize("bad", [np.array([0.0, np.nan], np.float32), np.array([np.inf], np.float32), np.zeros(0)])
@pytest.mark.parametrize("name", ["a.wav", "a.flac"])
def test_nothing_is_written_of_nan_infinity_or_no_samples(tmp_path, bad, name):
    with pytest.raises(AudioFileError) as error:
        write(tmp_path / name, bad, 16000)
    assert "not written" in message(error, tmp_path / name)
    assert names_in(tmp_path) == []


def test_wrong_shape_is_the_callers_mistake(tmp_path):
    for waveform, num_channels in [(np.zeros((2, 5)), 1), (np.zeros(5), 2), (np.zeros((3, 5)), 2)]:
        with pytest.raises(ValueError, match="shape"):
            write(tmp_path / "a.wav", waveform.astype(np.float32), 16000, num_channels=num_channels)
    assert names_in(tmp_path) == []


@pytest.mark.parametrize(
    ("name", "sample_rate", "subtype"),
    [("a.xyz", 16000, None), ("a", 16000, None), ("a.opus", 44100, None), ("a.wav", 16000, "OPUS")],
)
def test_formats_that_cannot_be_written(tmp_path, name, sample_rate, subtype):
    with pytest.raises(AudioFileError) as error:
        write(tmp_path / name, noise(100), sample_rate, subtype=subtype)
    assert ";" in message(error, tmp_path / name)
    assert names_in(tmp_path) == []


def test_unwritable_places(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "folder.wav").mkdir()
    for path in (tmp_path / "none" / "a.wav", tmp_path / "file" / "a.wav", tmp_path / "folder.wav"):
        with pytest.raises(AudioFileError) as error:
            write(path, noise(100), 16000)
        assert ";" in message(error, path)
    with pytest.raises(AudioFileError, match="in the place of this folder"):
        make_folder(tmp_path / "file")
    assert make_folder(tmp_path / "x" / "y").is_dir()


def test_folder_without_permission(tmp_path):
    folder = tmp_path / "closed"
    folder.mkdir()
    code = (
        "import os, sys, numpy as np\n"
        "from auriscope.errors import AudioFileError\n"
        "from auriscope.signal import files, make_folder\n"
        "folder = sys.argv[1]\n"
        "os.chdir(folder)\n"
        "os.chmod('.', 0o555)\n"
        "if os.geteuid() == 0: os.seteuid(65534)\n"
        "for act in (lambda: files.write('a.wav', np.ones(9, np.float32), 8000), lambda: make_folder('.'),\n"
        "            lambda: make_folder('deeper')):\n"
        "    try: act()\n"
        "    except AudioFileError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert len(lines) == 3
    assert all("permission" in line.lower() for line in lines)
    folder.chmod(0o755)
    assert names_in(folder) == []


@pytest.mark.parametrize("name", ["a.wav", "a.flac"])
def test_full_disk(tmp_path, name):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(AudioFileError) as error:
            write(tmp_path / name, noise(400_000), 16000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "cannot be written" in message(error, tmp_path / name)
    assert names_in(tmp_path) == []


def test_any_file_is_written_whole_or_not_at_all(tmp_path):
    with written_aside(tmp_path / "report.html") as aside:
        aside.write_text("first")

    def fail(error: Exception) -> None:
        with written_aside(tmp_path / "report.html") as aside:
            aside.write_text("second")
            raise error

    with pytest.raises(AudioFileError, match="No space left on device"):
        fail(OSError(28, "No space left on device"))
    with pytest.raises(RuntimeError, match="stop"):
        fail(RuntimeError("stop"))
    assert (tmp_path / "report.html").read_text() == "first"
    assert names_in(tmp_path) == ["report.html"]


# Finding


def test_finds_audio_in_folders_and_leaves_files_as_given(tmp_path):
    for name in ("b.wav", "a.FLAC", "notes.txt", "sub/c.opus", "sub/.hidden.wav", ".cache/d.wav", "e.wav.part"):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).touch()
    given = tmp_path / "in" / "notes.txt"
    found = find_audio([given, tmp_path / "none.wav", tmp_path / "in", tmp_path / "in" / "b.wav"])
    expected = [given, tmp_path / "none.wav"] + [tmp_path / "in" / name for name in ("a.FLAC", "b.wav", "sub/c.opus")]
    assert found == expected
    (tmp_path / "empty").mkdir()
    with pytest.raises(AudioFileError, match="no audio file in this folder"):
        find_audio([tmp_path / "empty"])


def test_files_and_levels_load_no_torch():
    code = (
        "import sys, auriscope.signal, auriscope.signal.files, auriscope.signal.levels, auriscope.signal.rates\n"
        "from auriscope.signal import read, rms_dbfs, resample_array\n"
        "sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_public_name_of_the_room_exists():
    import auriscope.signal as room

    for name in room.__all__:
        assert getattr(room, name) is not None
    assert set(dir(room)) == set(room.__all__)
    with pytest.raises(AttributeError, match="no attribute"):
        room.nothing  # noqa: B018


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".ogg", ".opus", ".mp3"])
@pytest.mark.parametrize("comment", ['{"synthetic": true, "voice": "a b"}', "odd", ""])
def test_a_comment_is_kept(tmp_path: Path, suffix: str, comment: str) -> None:
    path = tmp_path / f"a{suffix}"
    with AudioWriter(path, 16_000, comment=comment) as writer:
        writer.write(np.full(8_001, 0.25, dtype=np.float32))
    assert probe(path).comment == comment
    if suffix in (".wav", ".flac"):
        np.testing.assert_array_equal(read(path)[0], np.full(8_001, 0.25, dtype=np.float32))
