"""SpeechBrain's ``hyperparams.yaml``, read as data: HyperPyYAML without making anything that it describes.

HyperPyYAML is YAML with tags that name Python to run: ``!new:package.Class`` makes an object, ``!name:`` and
``!apply:`` take and call functions, ``!ref <name>`` refers to another entry. Here a tag is only a word beside plain
data, and all that is followed are references.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import yaml

from auriscope.errors import CheckpointError

FILE_NAME = "hyperparams.yaml"
_MAXIMUM_BYTES = 1 << 20
_MAXIMUM_STEPS = 100
_REFERENCE = re.compile(r"<([^<>\[\]]+)((?:\[[^<>\[\]]+\])*)>")
_TUPLE = re.compile(r"\(([^()]*)\)")
_KINDS: dict[type, str] = {int: "a whole number", float: "a number", str: "a word", bool: "true or false"}
_REQUIRED: Any = object()


@dataclass(frozen=True)
class Tagged:
    """A value with a tag: ``!new:torch.nn.ReLU`` has the tag ``new:torch.nn.ReLU``."""

    tag: str
    value: Any


class HyperPyYaml:
    """The entries of a file, by name, with their references followed on demand."""

    def __init__(self, path: Path, entries: dict[str, Any]) -> None:
        self.path, self.entries = path, entries

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a file; raises ``CheckpointError`` when it is missing, too large, or not a YAML mapping."""
        try:
            with path.open("rb") as file:
                text = file.read(_MAXIMUM_BYTES + 1)
        except OSError as error:
            raise CheckpointError(f"{path}: cannot be read: {error.strerror}") from error
        if len(text) > _MAXIMUM_BYTES:
            raise CheckpointError(f"{path}: is larger than any file of settings; it was not read")
        try:
            entries = yaml.load(text, Loader=_Loader)
        except (yaml.YAMLError, UnicodeError) as error:
            mark = getattr(error, "problem_mark", None)
            where = "" if mark is None else f" in line {mark.line + 1}"
            raise CheckpointError(f"{path}: not valid YAML{where}; copy or download it again") from error
        # Thousands of nested brackets, and dates or numbers that are none, which only a made-up file has.
        except (RecursionError, ValueError) as error:
            raise CheckpointError(f"{path}: not valid YAML; copy or download it again") from error
        if not isinstance(entries, dict):
            raise CheckpointError(f"{path}: not a file of settings: it does not hold names and values")
        return cls(path, entries)

    def resolve(self, value: Any) -> Any:
        """Follow ``!ref <name>``, ``!ref <name[key]>`` and ``!copy`` to what they stand for; the rest is given back.

        References within text or arithmetic are given back, too: they are no plain values. One that leads nowhere,
        or in a circle, raises ``CheckpointError``.
        """
        for _ in range(_MAXIMUM_STEPS):
            if not isinstance(value, Tagged) or value.tag not in ("ref", "copy"):
                return value
            match = _REFERENCE.fullmatch(str(value.value).strip())
            if match is None:
                return value
            names = [match[1], *re.findall(r"\[([^\]]+)\]", match[2])]
            value = self.entries
            for name in names:
                value = self.resolve(value) if isinstance(value, Tagged) else value
                if not isinstance(value, dict) or name not in value:
                    raise CheckpointError(f"{self.path}: refers to <{match[1]}{match[2]}>, which it does not have")
                value = value[name]
        raise CheckpointError(f"{self.path}: has references that lead in a circle")

    def get(self, name: str) -> Any:
        """Give the entry of a name, references followed; None where there is none."""
        return self.resolve(self.entries.get(name))

    def take(self, name: str, kind: type) -> Any:
        """Give the entry of a name, which must be there and of ``kind`` (int, float, str or bool)."""
        if name not in self.entries:
            raise CheckpointError(f"{self.path}: has no {name}; add the line {name}: with its value")
        return self._checked(name, self.entries[name], kind)

    def part(self, group: str, name: str) -> Part:
        """Give the object that the mapping ``group`` (``modules``, say) describes under ``name``."""
        members = self.get(group)
        value = self.resolve(members.get(name)) if isinstance(members, dict) else None
        return Part(self, f"{group}.{name}", value)

    def _checked(self, name: str, value: Any, kind: type) -> Any:
        value = self.resolve(value)
        allowed = (int, float) if kind is float else kind
        if not isinstance(value, allowed) or (isinstance(value, bool) and kind is not bool):
            shown = f"!{value.tag} {value.value}" if isinstance(value, Tagged) else repr(value)
            raise CheckpointError(f"{self.path}: {name} is {shown[:80]}, not {_KINDS[kind]}; write it as a plain value")
        return value


class Part:
    """An object that the file describes by ``!new:``: its class's name, and arguments that are taken one by one.

    An argument that nobody took is one that nobody understood: :meth:`finish` refuses it.
    """

    def __init__(self, file: HyperPyYaml, where: str, value: Any) -> None:
        # What `!new:torch.nn.ReLU` stands for has no arguments, and an empty text in their place.
        if not isinstance(value, Tagged) or not value.tag.startswith("new:") or not isinstance(value.value or {}, dict):
            raise CheckpointError(f"{file.path}: {where} is not described as a module: !new: and arguments by name")
        self.file, self.where = file, where
        self.path = value.tag.removeprefix("new:")
        self.arguments = dict(value.value or {})

    @property
    def kind(self) -> str:
        """The class's own name, without its package."""
        return self.path.rsplit(".", 1)[-1]

    def take(self, name: str, kind: type, default: Any = _REQUIRED) -> Any:
        """Give an argument of ``kind`` (int, float, str or bool); ``default`` is the value that the class gives it."""
        if name not in self.arguments:
            if default is _REQUIRED:
                raise CheckpointError(f"{self.file.path}: the {self.kind} of {self.where} has no {name}")
            return default
        return self.file._checked(f"the {name} of {self.kind}", self.arguments.pop(name), kind)

    def require(self, name: str, allowed: Any, default: Any) -> None:
        """Take an argument that must have the value ``allowed``; ``default`` is what the class gives it."""
        value = self.file.resolve(self.arguments.pop(name, default))
        if value != allowed or isinstance(value, bool) != isinstance(allowed, bool):
            raise self.refused(f"{name}: {value}" if not isinstance(value, Tagged) else f"{name}: !{value.tag}")

    def require_kind(self, kind: str) -> None:
        """Refuse another class than ``kind``."""
        if self.kind != kind:
            raise CheckpointError(f"{self.file.path}: {self.where} is a {self.kind}, and must be a {kind} to be loaded")

    def take_any(self, name: str) -> None:
        """Take an argument that says nothing that the weights do not say."""
        self.arguments.pop(name, None)

    def take_class(self, name: str, default: str) -> str:
        """Take an argument that names a class, as ``!name:torch.nn.GELU`` does: the class's own name."""
        value = self.file.resolve(self.arguments.pop(name, None))
        if value is None:
            return default
        return value.tag.rsplit(".", 1)[-1] if isinstance(value, Tagged) else str(value)

    def take_numbers(self, name: str, default: list[Any]) -> list[Any]:
        """Take an argument of several whole numbers or truth values: a YAML list, or Python's tuple as a text."""
        value = self.file.resolve(self.arguments.pop(name, default))
        if isinstance(value, str) and (match := _TUPLE.fullmatch(value.strip())):
            words = [word.strip() for word in match[1].split(",") if word.strip()]
            known = {"True": True, "False": False}
            value = [known[word] if word in known else int(word) if word.isdigit() else word for word in words]
        if not isinstance(value, list) or not all(isinstance(entry, int) for entry in value):
            raise self.refused(f"{name}: {str(value)[:80]}")
        return value

    def take_fbank(self) -> dict[str, int]:
        """Take all of a ``Fbank``, whose features are our "speechbrain" ones: its ``sample_rate`` and ``num_mels``."""
        self.require_kind("Fbank")
        sample_rate = self.take("sample_rate", int, 16_000)
        if not 1000 <= sample_rate <= 384_000 or sample_rate % 200:
            raise CheckpointError(f"{self.file.path}: sample_rate is {sample_rate}, which cannot be; give it in hertz")
        self.require("n_fft", max(400, sample_rate // 40), 400)
        self.require("hop_length", 10, 10)
        self.require("win_length", 25, 25)
        for name in ("deltas", "context", "requires_grad"):
            self.require(name, False, False)
        self.require("f_min", 0, 0)
        self.require("f_max", sample_rate // 2 if "f_max" in self.arguments else None, None)
        num_mels = self.take("n_mels", int, 40)
        self.finish()
        return {"sample_rate": sample_rate, "num_mels": num_mels}

    def part(self, name: str) -> Part:
        """Give an argument that is an object itself."""
        return Part(self.file, f"{self.kind}'s {name}", self.file.resolve(self.arguments.pop(name, None)))

    def refused(self, setting: str) -> CheckpointError:
        """The error for a setting that no model here has."""
        return CheckpointError(
            f"{self.file.path}: a {self.kind} with {setting} cannot be loaded: auriscope has none such"
        )

    def finish(self) -> None:
        """Refuse what was not taken."""
        if self.arguments:
            name = sorted(map(str, self.arguments))[0]
            raise self.refused(f"the argument {name}")


class _Loader(yaml.SafeLoader):  # type: ignore[misc]
    """YAML's safe loader, for which every tag with one ``!`` is a word; tags that would make objects stay errors."""


def _tagged(loader: yaml.SafeLoader, suffix: str, node: yaml.Node) -> Tagged:
    if isinstance(node, yaml.MappingNode):
        return Tagged(suffix, loader.construct_mapping(node, deep=True))
    if isinstance(node, yaml.SequenceNode):
        return Tagged(suffix, loader.construct_sequence(node, deep=True))
    return Tagged(suffix, loader.construct_scalar(node))


_Loader.add_multi_constructor("!", _tagged)
