from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub.errors import (
    HfHubHTTPError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from auriscope.errors import CheckpointError
from auriscope.pretrained import (
    Model,
    ModelCard,
    addresses,
    import_room,
    list_architectures,
    list_shipped,
    load,
    model_class,
    resolve,
)


@pytest.fixture
def shipped(model: Model, card: ModelCard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A weights folder with one shipped model, in the place of the package's own."""
    weights = tmp_path / "weights"
    model.save_pretrained(weights / "separation" / "scale.libri-mini", card=card)
    monkeypatch.setattr(addresses, "WEIGHTS", weights)
    monkeypatch.setattr(addresses, "list_architectures", lambda: [*list_architectures(), "separation/scale"])
    return weights


def test_a_shipped_name_loads(shipped: Path, model: Model) -> None:
    loaded = load("separation/scale.libri-mini")
    assert loaded.config == model.config
    assert resolve("separation/scale.libri-mini") == shipped / "separation" / "scale.libri-mini"


def test_a_folder_loads(shipped: Path, model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    assert load(shipped / "separation" / "scale.libri-mini").config == model.config
    monkeypatch.chdir(shipped)
    assert load("./separation/scale.libri-mini").config == model.config


def test_a_shipped_name_wins_over_a_folder_of_the_same_spelling(
    shipped: Path, model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model.first.bias.data.fill_(9.0)
    model.save_pretrained(tmp_path / "cwd" / "separation" / "scale.libri-mini")
    monkeypatch.chdir(tmp_path / "cwd")
    assert load("separation/scale.libri-mini").first.bias[0] != 9.0
    assert load("./separation/scale.libri-mini").first.bias[0] == 9.0


def test_list_shipped_reads_the_cards(shipped: Path, model: Model) -> None:
    (entry,) = list_shipped()
    assert entry.address == "separation/scale.libri-mini"
    assert entry.room == "separation"
    assert entry.num_parameters == model.num_parameters
    assert entry.sample_rate == 8000
    assert entry.licence == "CC-BY-4.0"
    assert entry.metrics == {"si_snri_db libri_eval50 test": 8.25}


def test_what_the_package_ships_is_whole() -> None:
    for entry in list_shipped():
        loaded = load(entry.address)
        assert loaded.num_parameters == entry.num_parameters
        assert entry.licence


def test_list_architectures_is_what_the_rooms_register() -> None:
    names = list_architectures()
    assert names == sorted(names)
    assert {"separation/convtasnet", "separation/dprnn", "separation/sepformer", "quality/sisnr"} <= set(names)
    assert all(model_class(name).name == name for name in names)


def test_random_weights_must_be_asked_for(shipped: Path, scale_class: type[Model]) -> None:
    with pytest.raises(
        CheckpointError, match=r"is an architecture, not weights: shipped are separation/scale\.libri-mini"
    ):
        load("separation/scale")
    with pytest.raises(CheckpointError, match="is an architecture, not weights: none are shipped"):
        load("separation/dprnn")
    loaded = load("separation/scale", random_weights=True)
    assert isinstance(loaded, scale_class)
    assert loaded.config == scale_class.Config()
    assert not loaded.training
    with pytest.raises(CheckpointError, match=r"there is no model 'separation/scale\.libri-mini'"):
        load("separation/scale.libri-mini", random_weights=True)


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("separation/scale.libri-min", "did you mean 'separation/scale.libri-mini'"),
        ("separation/dprnn.libri-mini", "there are no weights 'separation/dprnn.libri-mini': none are shipped"),
        ("separation/convtasent", "did you mean 'separation/convtasnet'"),
        ("seperation/dprnn", "did you mean 'separation/dprnn'"),
        ("quality/whatever.x", "there is no model"),
        ("zzz", "known are"),
        ("./zzz/model", "there is no such folder"),
        ("/zzz/model", "there is no such folder"),
        ("../separation/scale.libri-mini", "there is no such folder"),
        ("", "there is no model ''"),
        ("hf:owner/name", "not an address of the hub"),
        ("hf://owner", "not an address of the hub"),
        ("hf://owner/name@", "not an address of the hub"),
        ("hf://owner/../name", "not an address of the hub"),
    ],
)
def test_a_wrong_address_ends_in_one_clear_line(shipped: Path, address: str, message: str) -> None:
    with pytest.raises(CheckpointError, match=message) as caught:
        load(address, offline=True)
    assert "\n" not in str(caught.value)


def test_a_file_is_not_a_model(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"x")
    with pytest.raises(CheckpointError, match="a model is a folder"):
        load(tmp_path / "model.safetensors")


def test_unknown_rooms_are_refused() -> None:
    with pytest.raises(CheckpointError, match="did you mean 'separation'"):
        import_room("seperation")
    # Only rooms: nothing else can be imported by naming it.
    for name in ("cli", "training", "os", "..os", ""):
        with pytest.raises(CheckpointError, match="there is no room"):
            import_room(name)


class Hub:
    """Stands in for the network: records the calls, and gives a folder or raises."""

    def __init__(self, answer: Path | Exception) -> None:
        self.answer = answer
        self.calls: list[tuple[str, dict[str, object]]] = []

    def __call__(self, repo_id: str, **options: object) -> str:
        self.calls.append((repo_id, options))
        if isinstance(self.answer, Exception):
            raise self.answer
        return str(self.answer)


def test_a_hub_address_downloads_our_files_only(shipped: Path, model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    hub = Hub(shipped / "separation" / "scale.libri-mini")
    monkeypatch.setattr(huggingface_hub, "snapshot_download", hub)
    monkeypatch.delenv("AURISCOPE_OFFLINE", raising=False)
    assert load("hf://owner/name").config == model.config
    assert load("hf://owner/na.me-2@v1.0", offline=True).config == model.config
    files = ["config.json", "model.safetensors", "README.md", "card.json", "calibration.json"]
    assert hub.calls == [
        ("owner/name", {"revision": None, "allow_patterns": files, "local_files_only": False}),
        ("owner/na.me-2", {"revision": "v1.0", "allow_patterns": files, "local_files_only": True}),
    ]


@pytest.mark.parametrize(("value", "offline"), [("1", True), ("true", True), ("0", False), ("", False), ("no", False)])
def test_the_environment_forbids_the_network(
    shipped: Path, monkeypatch: pytest.MonkeyPatch, value: str, offline: bool
) -> None:
    hub = Hub(shipped / "separation" / "scale.libri-mini")
    monkeypatch.setattr(huggingface_hub, "snapshot_download", hub)
    monkeypatch.setenv("AURISCOPE_OFFLINE", value)
    load("hf://owner/name")
    load("hf://owner/name", offline=not offline)
    assert [options["local_files_only"] for _, options in hub.calls] == [offline, not offline]


def test_offline_without_a_download_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(CheckpointError, match="forbids the network, and it was not downloaded before"):
        load("hf://owner/name", offline=True)


# The hub's errors read these of a response, whichever HTTP library made it.
RESPONSE: Any = SimpleNamespace(headers={}, request=None, status_code=404)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (RepositoryNotFoundError("404", response=RESPONSE), "no such repository"),
        (RevisionNotFoundError("404", response=RESPONSE), "no revision 'v9'"),
        (HfHubHTTPError("500\nserver error", response=RESPONSE), "cannot be downloaded: 500$"),
        (LocalEntryNotFoundError("no network"), "cannot be reached"),
        (OSError(28, "No space left on device"), "No space left"),
    ],
)
def test_a_failed_download_ends_in_one_clear_line(
    monkeypatch: pytest.MonkeyPatch, error: Exception, message: str
) -> None:
    monkeypatch.setattr(huggingface_hub, "snapshot_download", Hub(error))
    with pytest.raises(CheckpointError, match=message) as caught:
        load("hf://owner/name@v9", offline=False)
    assert "\n" not in str(caught.value)


def test_listing_shipped_models_needs_no_torch() -> None:
    code = (
        "import sys; import auriscope.pretrained; from auriscope.pretrained import list_shipped; list_shipped(); "
        "assert 'torch' not in sys.modules, 'torch was imported'"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
