"""The verb ``curate``: unpaired recordings and captions in, a folder of the pairs that a teacher makes of them out."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from auriscope.crossmodal.clap import CrossModal
from auriscope.crossmodal.unpaired import DU_THRESHOLD, Pairs, nearest, pairs_above, thresholds_of
from auriscope.crossmodal.windows import embed_recording
from auriscope.crossmodal.zeroshot import TEMPLATES, checked_labels, checked_templates, prompts_of
from auriscope.data.cache import open_clips
from auriscope.data.captioned import CAPTION_SETS, PHRASES, open_captioned
from auriscope.data.corpora import corpora_root, labelled_clips
from auriscope.data.labelled_sets import SETS, open_labelled
from auriscope.data.pool import ClipPool
from auriscope.data.prepared import is_prepared, kind_of
from auriscope.data.prepared_captioned import CAPTIONED, PreparedCaptioned, PreparedCaptions, write_captioned
from auriscope.data.prepared_labelled import LABELLED, read_labelled
from auriscope.errors import AuriscopeError, CorpusError
from auriscope.pretrained import load
from auriscope.pretrained.addresses import suggest, weights_sha256
from auriscope.signal.files import probe, read
from auriscope.signal.levels import is_silent
from auriscope.signal.outputs import printable, reason
from auriscope.verbs.batch import StrPath, expand_inputs
from auriscope.verbs.defaults import default_crossmodal

Method = Literal["du", "ds", "ads"]
METHODS: tuple[Method, ...] = get_args(Method)
RECORD, PAIRS = "curate.json", "pairs.csv"
"""Beside the manifest: what the pairs were made from and with, and each pair with its cosines."""
LONGEST_SECONDS = 60.0
"""Longer recordings are left out: no caption is of all that is in them."""

_FORMAT_VERSION = 1


@dataclass(frozen=True)
class CurateResult:
    """What was curated into ``folder``.

    ``num_recordings`` and ``num_captions`` were there to be paired, of which ``num_captions_near`` are near a label
    (all, for DU); ``num_pairs`` were made, with ``num_recordings_used`` of the recordings. The thresholds are cosines,
    None where the method has none. ``left_out`` are recordings that could not be used, each with the reason.
    """

    method: str
    teacher: str
    folder: str
    num_recordings: int
    num_captions: int
    num_captions_near: int
    num_pairs: int
    num_recordings_used: int
    audio_threshold: float | None
    caption_threshold: float | None
    labels: tuple[str, ...]
    left_out: tuple[str, ...]


@dataclass(frozen=True)
class Recording:
    """A recording that may be paired: ``group`` names what it shares with others, ``captions`` what is said of it."""

    path: Path
    group: str
    read: Callable[[], NDArray[np.float32]]
    captions: tuple[str, ...] = ()


def curate(
    method: Method,
    out: StrPath,
    *,
    captions: StrPath | Sequence[StrPath],
    audio: StrPath | Sequence[StrPath] = (),
    teacher: StrPath | CrossModal | None = None,
    labels: Sequence[str] | None = None,
    domain: str | None = None,
    templates: Sequence[str] = TEMPLATES,
    audio_threshold: float | None = None,
    caption_threshold: float | None = None,
    most: int | None = None,
    device: Any = "cpu",
    offline: bool | None = None,
    progress: Callable[[str, float], None] | None = None,
) -> CurateResult:
    """Make pairs for training by a teacher's cosines, and write them as ``prepare`` writes captioned sounds.

    ``du`` pairs every recording of ``audio`` with every caption that is near it; ``ds`` keeps the pairs of
    ``captions`` whose caption is near a label; ``ads`` pairs recordings with those captions (Z. Wang et al., arXiv
    2305.01864, sections 2.2 and 2.3). Only train splits are read, where there are splits. The same inputs give the same
    folder. ``data.prepared`` of a recipe takes it.

    Args:
        method: "du", "ds" or "ads".
        out: the folder; one that was written before is replaced.
        captions: captioned sets (:mod:`auriscope.data.captioned`), prepared folders of captioned sounds, or, but for
            "ds", texts with a caption a line.
        audio: of "du" and "ads", unpaired recordings: files, folders, the same sets and folders, or names of corpora.
        teacher: address of a cross-modal model, or the model; by default the shipped one.
        labels: of "ds" and "ads", what the domain's classes are called.
        domain: in the place of ``labels``, a set or prepared folder of labelled sounds that has them; the paper's
            thresholds for it are taken (:func:`~auriscope.crossmodal.unpaired.thresholds_of`).
        templates: prompts of the labels.
        audio_threshold: the least cosine of recording and caption; by default the paper's.
        caption_threshold: the least cosine of caption and label; by default the paper's.
        most: how many captions of a recording are kept at most, the nearest; by default all.
        device: where the teacher runs.
        offline: forbid the network, which only a ``hf://`` address would use.
        progress: told what is being done, and how much of it is, 0 to 1.

    Raises:
        AuriscopeError: the inputs do not go with the method, there is nothing to pair or no pair, or the folder cannot
            be written. A recording that cannot be read is left out and named in the result.
    """
    report = progress or _nothing
    _check(method, audio, labels, domain)
    given = _listed(captions)
    model, address, checksum = _opened(teacher, device, offline)
    left_out: list[str] = []
    known, texts = _captions(given, model.sample_rate, paired=method == "ds")
    texts = _readable(model, texts, left_out)
    names, prompts, of_label = _prompts(labels, domain, templates)
    usual = thresholds_of(_domain_name(domain))
    with torch.inference_mode():
        text_embedding = model.embed_texts(texts, lambda done: report("captions", done))
    # Of each caption, the label that it is nearest to, and how near.
    label_of, label_cosine = torch.full((len(texts),), -1), torch.full((len(texts),), float("nan"))
    chosen = torch.arange(len(texts))
    if method == "du":
        caption_threshold, default = None, DU_THRESHOLD
    else:
        caption_threshold = usual.caption if caption_threshold is None else caption_threshold
        default = usual.audio
        with torch.inference_mode():
            label_cosine, prompt = nearest(text_embedding, model.embed_texts(prompts))
        label_of = torch.tensor(of_label)[prompt]
        chosen = torch.nonzero(label_cosine >= caption_threshold)[:, 0]
        if not len(chosen):
            raise AuriscopeError(
                f"no caption is as near as {caption_threshold:g} to a label, the nearest is {label_cosine.max():.3f}; "
                "lower --caption-threshold, or give others"
            )
    audio_cosine = torch.zeros(0)
    if method == "ds":
        recordings, audio_threshold = known, None
        made = _own_pairs(known, texts, set(chosen.tolist()))
    else:
        audio_threshold = default if audio_threshold is None else audio_threshold
        recordings, embedding = _embedded(model, _recordings(_listed(audio), model.sample_rate), left_out, report)
        audio_cosine, _ = nearest(embedding, text_embedding[chosen])
        found = pairs_above(embedding, text_embedding[chosen], audio_threshold, most=most)
        made = Pairs(found.audio, chosen[found.text], found.cosine)
    if not len(made):
        raise AuriscopeError(
            f"no recording is as near as {audio_threshold:g} to a caption, the nearest is {audio_cosine.max():.3f}; "
            "lower --threshold, or give others"
        )
    result = CurateResult(
        method=method,
        teacher=address,
        folder=os.fspath(out),
        num_recordings=len(recordings),
        num_captions=len(texts),
        num_captions_near=len(chosen),
        num_pairs=len(made),
        num_recordings_used=len(set(made.audio.tolist())),
        audio_threshold=audio_threshold,
        caption_threshold=caption_threshold,
        labels=names,
        left_out=tuple(left_out),
    )
    facts = {
        "format_version": _FORMAT_VERSION,
        **{key: value for key, value in asdict(result).items() if key != "folder"},
        "weights_sha256": checksum,
        "templates": list(checked_templates(templates)) if names else [],
        "most": most,
        "captions": [os.fspath(each) for each in given],
        "audio": [os.fspath(each) for each in _listed(audio)],
        "nearest_label_cosines": _deciles(label_cosine),
        "nearest_caption_cosines": _deciles(audio_cosine),
    }
    labelled = [
        (names[label], cosine) if label >= 0 else ("", None)
        for label, cosine in zip(label_of.tolist(), label_cosine.tolist(), strict=True)
    ]
    _write(Path(out), method, recordings, texts, made, labelled, facts)
    return result


def _readable(model: CrossModal, texts: Sequence[str], left_out: list[str]) -> list[str]:
    """The captions that the teacher can read; the others are named in ``left_out``."""
    readable = []
    for text in texts:
        try:
            model.tokenize([text])
        except AuriscopeError as error:
            left_out.append(str(error))
        else:
            readable.append(text)
    if not readable:
        raise AuriscopeError(f"the teacher can read none of {len(texts)} captions; the first: {left_out[0]}")
    return readable


def _deciles(cosines: Tensor) -> list[float]:
    """The smallest cosine, those that a tenth, two tenths and so on do not reach, and the largest; [] without any."""
    told = cosines[~cosines.isnan()].double()
    return [round(value, 4) for value in np.quantile(told.numpy(), np.linspace(0, 1, 11)).tolist()] if len(told) else []


def _check(method: str, audio: Any, labels: Sequence[str] | None, domain: str | None) -> None:
    if method not in METHODS:
        raise AuriscopeError(f"there is no way {method!r} to curate{suggest(method, METHODS)}")
    if (method != "ds") != bool(_listed(audio)):
        raise AuriscopeError(
            "ds keeps pairs of the captions' own sounds; leave --audio out"
            if method == "ds"
            else f"{method} pairs captions with unpaired recordings; give some with --audio"
        )
    if method == "du" and (labels is not None or domain is not None):
        raise AuriscopeError("du knows no domain; leave --labels and --domain out, or choose ds or ads")
    if method != "du" and (labels is None) == (domain is None):
        raise AuriscopeError(f"{method} is for a domain; give its classes with either --labels or --domain")


def _opened(
    teacher: StrPath | CrossModal | None, device: Any, offline: bool | None
) -> tuple[CrossModal, str, str | None]:
    if isinstance(teacher, CrossModal):
        return teacher.eval(), teacher.name, None
    address = default_crossmodal() if teacher is None else os.fspath(teacher)
    model: Any = load(address, device=device, offline=offline)
    if not isinstance(model, CrossModal):
        raise AuriscopeError(f"{address} does not match sounds with texts; see `auriscope models`")
    return model.eval(), address, weights_sha256(address, offline=offline)


def _captions(given: Sequence[StrPath], sample_rate: int, *, paired: bool) -> tuple[list[Recording], list[str]]:
    """The recordings that the captions are of, as far as they are of any, and every caption once."""
    recordings: list[Recording] = []
    texts: dict[str, None] = {}
    for each in given:
        path = Path(each)
        if os.fspath(each) in CAPTION_SETS or is_prepared(path):
            own = list(_of_captioned(os.fspath(each), sample_rate))
            recordings += own
            texts |= dict.fromkeys(caption for recording in own for caption in recording.captions)
        elif path.is_file() and not paired:
            texts |= dict.fromkeys(_lines(path))
        elif path.is_file():
            raise AuriscopeError(f"{printable(path)}: ds needs captions with their sounds; give a captioned set")
        else:
            raise CorpusError(f"there are no captions {printable(each)!r}{suggest(os.fspath(each), CAPTION_SETS)}")
    if not texts:
        raise AuriscopeError("there are no captions; give some with --captions")
    return recordings, list(texts)


def _lines(path: Path) -> list[str]:
    try:
        return [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise CorpusError(
            f"{printable(path)}: cannot be read ({reason(error)}); give UTF-8, a caption a line"
        ) from error


def _of_captioned(name: str, sample_rate: int) -> Iterator[Recording]:
    clips, stores = open_captioned(name, "train", sample_rate=sample_rate)
    pool = ClipPool(stores)
    for number, clip in enumerate(clips):
        yield Recording(clip.path, clip.group, partial(pool.read, number), clip.captions)


def _recordings(given: Sequence[StrPath], sample_rate: int) -> list[Recording]:
    """Every recording that inputs stand for, each file once."""
    found: dict[Path, Recording] = {}
    for each in given:
        for recording in _of_input(each, sample_rate):
            found.setdefault(recording.path.absolute(), recording)
    return list(found.values())


def _of_input(given: StrPath, sample_rate: int) -> Iterable[Recording]:
    name, path = os.fspath(given), Path(given)
    kind = kind_of(path)
    if kind not in (None, CAPTIONED, LABELLED):
        raise CorpusError(f"{printable(path)}: holds {kind}, no sounds to pair; give another corpus")
    if name in CAPTION_SETS or kind == CAPTIONED:
        return _of_captioned(name, sample_rate)
    if kind == LABELLED:
        _, clips, stores = open_labelled(name, "train", sample_rate=sample_rate)
        pool = ClipPool(stores)
        return [Recording(clip.path, clip.group, partial(pool.read, number)) for number, clip in enumerate(clips)]
    folder = path if path.exists() else corpora_root() / name
    if (folder / "manifest.csv").is_file():
        return _of_corpus(folder, sample_rate)
    return [Recording(file, file.stem, partial(_whole, file, sample_rate)) for file in expand_inputs([path])]


def _whole(file: Path, sample_rate: int) -> NDArray[np.float32]:
    return read(file, sample_rate=sample_rate)[0]


def _of_corpus(folder: Path, sample_rate: int) -> list[Recording]:
    listed = labelled_clips(folder.name, "train", root=folder.absolute().parent)
    if any(clip.start_seconds for clip in listed):
        raise CorpusError(f"{printable(folder)}: has several clips in one file; cut them into files of their own first")
    pool = ClipPool([open_clips(listed, sample_rate=sample_rate, name=f"{folder.name}-train-unpaired")])
    return [Recording(clip.path, clip.group, partial(pool.read, number)) for number, clip in enumerate(listed)]


def _prompts(
    labels: Sequence[str] | None, domain: str | None, templates: Sequence[str]
) -> tuple[tuple[str, ...], list[str], list[int]]:
    """The labels, all their prompts, and the number of the label of each prompt."""
    if domain is not None:
        if is_prepared(domain):
            labels = read_labelled(domain).labels
        elif domain in SETS:
            labels = SETS[domain].labels
        else:
            raise CorpusError(f"there is no domain {domain!r}{suggest(domain, SETS)}")
    if labels is None:
        return (), [], []
    names = checked_labels(labels)
    prompts: list[str] = []
    numbers: list[int] = []
    for number, label in enumerate(names):
        own = prompts_of(label, checked_templates(templates), PHRASES if domain is not None else {})
        prompts += own
        numbers += [number] * len(own)
    return names, prompts, numbers


def _domain_name(domain: str | None) -> str:
    """What a domain is called in the paper's table."""
    if domain is None:
        return ""
    return read_labelled(domain).name if is_prepared(domain) else domain


@torch.inference_mode()
def _embedded(
    model: CrossModal, recordings: Sequence[Recording], left_out: list[str], report: Callable[[str, float], None]
) -> tuple[list[Recording], Tensor]:
    """The recordings that can be used, and their embeddings (recordings, dim)."""
    used, vectors = [], []
    for number, recording in enumerate(recordings):
        try:
            seconds = probe(recording.path).duration_seconds
            if seconds > LONGEST_SECONDS:
                left_out.append(f"{printable(recording.path)}: lasts {seconds:.0f} s; cut it into clips of a minute")
                continue
            waveform = recording.read()
        except AuriscopeError as error:
            left_out.append(str(error))
            continue
        if is_silent(waveform):
            left_out.append(f"{printable(recording.path)}: is silent")
            continue
        used.append(recording)
        vectors.append(embed_recording(model, torch.from_numpy(waveform).to(model.device)).cpu())
        report("recordings", (number + 1) / len(recordings))
    if not used:
        raise AuriscopeError(f"none of {len(recordings)} recordings can be used; the first: {left_out[0]}")
    return used, torch.stack(vectors)


def _own_pairs(recordings: Sequence[Recording], texts: Sequence[str], chosen: set[int]) -> Pairs:
    """The annotated pairs whose caption was chosen; no cosine was asked for."""
    places = {text: number for number, text in enumerate(texts)}
    pairs = [
        (number, places[caption])
        for number, recording in enumerate(recordings)
        for caption in recording.captions
        if places.get(caption) in chosen
    ]
    audio, text = torch.tensor(pairs, dtype=torch.int64).reshape(-1, 2).unbind(1)
    return Pairs(audio, text, torch.full((len(pairs),), float("nan")))


def _write(
    folder: Path,
    method: str,
    recordings: Sequence[Recording],
    texts: Sequence[str],
    made: Pairs,
    labelled: Sequence[tuple[str, float | None]],
    facts: dict[str, Any],
) -> None:
    """Write the folder: the manifest by recording, and beside it every pair with its cosines, and what made them.

    ``labelled`` is what label each text is nearest to, and how near.
    """
    by_recording: dict[int, list[str]] = {}
    paths = {number: recordings[number].path.absolute() for number in sorted(set(made.audio.tolist()))}
    root = Path(os.path.commonpath([path.parent for path in paths.values()]))
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["path", "text", "cosine", "label", "label_cosine"])
    for number, text, cosine in zip(made.audio.tolist(), made.text.tolist(), made.cosine.tolist(), strict=True):
        by_recording.setdefault(number, []).append(texts[text])
        label, near = labelled[text]
        told = ["" if value is None or np.isnan(value) else f"{value:.4f}" for value in (cosine, near)]
        writer.writerow([paths[number].relative_to(root).as_posix(), texts[text], told[0], label, told[1]])
    sounds = []
    for number, captions in by_recording.items():
        info = probe(paths[number])
        sounds.append(
            PreparedCaptions(
                paths[number].relative_to(root).as_posix(),
                "train",
                tuple(captions),
                recordings[number].group,
                info.num_frames,
                info.sample_rate,
            )
        )
    write_captioned(
        PreparedCaptioned(f"curated-{method}", method, root, tuple(sounds)),
        folder,
        {RECORD: json.dumps(facts, indent=2, allow_nan=False) + "\n", PAIRS: table.getvalue()},
    )


def _listed(given: StrPath | Sequence[StrPath]) -> list[StrPath]:
    return [given] if isinstance(given, str | os.PathLike) else list(given)


def _nothing(_: str, __: float) -> None:
    """Tell nobody."""
