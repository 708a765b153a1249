"""The comparison: counts against formulas, costs with their limits, and a leaderboard that remembers."""

from __future__ import annotations

import csv
import gzip
import importlib.util
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from auriscope.errors import AuriscopeError
from auriscope.pretrained import load
from auriscope.separation import DPRNN, ConvTasNet
from auriscope.verbs.compare import CompareOptions, CompareResult, Cost, compare, comparing
from auriscope.verbs.compare.cost import cost, macs_per_second
from auriscope.verbs.evaluate import Figure

CHROMIUM = Path("/usr/bin/chromium")
AXE = gzip.decompress((Path(__file__).parents[1] / "vendor" / "axe-core" / "axe.min.js.gz").read_bytes()).decode()


class Layers(nn.Module):
    """What is counted, one of each: a convolution, an LSTM, a GRU, a linear layer and attention."""

    def __init__(self) -> None:
        super().__init__()
        self.config = SimpleNamespace(sample_rate=8000)
        self.encoder = nn.Conv1d(1, 16, 16, stride=8)
        self.lstm = nn.LSTM(16, 12, num_layers=2, bidirectional=True, batch_first=True)
        self.gru = nn.GRU(24, 10, batch_first=True)
        self.linear = nn.Linear(10, 8)

    def forward(self, mixture: torch.Tensor) -> torch.Tensor:
        features = self.encoder(mixture[:, None]).transpose(1, 2)
        x: torch.Tensor = self.linear(self.gru(self.lstm(features)[0])[0])[:, None]
        return F.scaled_dot_product_attention(x, x, x)


def test_operations_are_those_of_the_formulas() -> None:
    frames = 999  # of 16 samples every 8, in one second
    convolution = frames * 16 * 16
    # Four gates in an LSTM and three in a GRU, each a product with the input and one with the state.
    lstm = frames * 2 * (4 * 12 * (16 + 12) + 4 * 12 * (24 + 12))
    gru = frames * 3 * 10 * (24 + 10)
    attention = 2 * frames * frames * 8
    expected = convolution + lstm + gru + frames * 10 * 8 + attention
    assert macs_per_second(Layers().eval(), seconds=1.0) == expected  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs, as ``train`` leaves them: a model and its validation curve."""
    folder = tmp_path_factory.mktemp("runs")
    for name, architecture in (("better", DPRNN), ("worse", ConvTasNet)):
        torch.manual_seed(0)
        architecture.from_config(architecture.Tiny).save_pretrained(folder / name / "model")
        (folder / name / "valid.csv").write_text(
            "step,minutes,hours_of_audio,si_snri_db\n900,5,1.0,0.5\n1800,10,2.0,1.25\n"
        )
    return folder


@pytest.fixture
def evaluations(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """Stand-ins for ``evaluate`` and ``cost``, which have tests of their own, and the list of what was asked for."""
    asked: list[tuple[str, str]] = []

    def evaluate(address: str, name: str, **_: Any) -> Any:
        asked.append((address, name))
        if name == "three":
            raise AuriscopeError("the set has 3 talkers")
        value = 7.0 if "better" in address else 2.0
        figures = {key: Figure(value, value - 1, value + 1) for key in ("si_snr_db", "si_snri_db", "sdri_db")}
        return SimpleNamespace(figures=figures)

    monkeypatch.setattr(comparing, "evaluate", evaluate)
    monkeypatch.setattr(comparing, "cost", lambda address, duration, **_: Cost(duration, 0.1 * duration, 10 * duration))
    return asked


QUICK = CompareOptions(durations_seconds=(0.5, 1.0), speed_seconds=1.0, threads=1)


def run(runs: Path, out: Path, *sets: str) -> CompareResult:
    return compare([str(runs / "worse" / "model"), f"mine={runs / 'better' / 'model'}"], sets or ("two",), out, QUICK)


def test_a_leaderboard_ranks_and_holds_every_figure(
    runs: Path, tmp_path: Path, evaluations: list[tuple[str, str]]
) -> None:
    result = run(runs, tmp_path)
    assert [model.label for model in result.models] == ["mine", "worse"]
    with (tmp_path / "leaderboard.csv").open(encoding="utf-8") as file:
        first, second = csv.DictReader(file)
    assert (first["model"], first["architecture"]) == ("mine", "separation/dprnn")
    assert [first[f"two si_snri_db{end}"] for end in ("", "_low", "_high")] == ["7.00", "6.00", "8.00"]
    assert second["two sdri_db"] == "2.00"
    assert int(second["num_parameters"]) == load(str(runs / "worse" / "model")).num_parameters
    assert float(first["macs_per_second_of_audio"]) > 0
    assert first["audio_seconds_per_second_at_1_s"] == "10.00"
    assert (first["hours_of_audio_seen"], first["published_wsj0_2mix_si_snri_db"]) == ("2.00", "18.8")
    row = (tmp_path / "leaderboard.md").read_text(encoding="utf-8").splitlines()[2]
    assert row.startswith("| mine | 7.00 [6.00, 8.00] | 7.00 [6.00, 8.00] | 0.0")
    assert row.endswith("| 10.0 | 2.0 | 18.8 | 2.6 |")
    with (tmp_path / "cost.csv").open(encoding="utf-8") as file:
        costs = list(csv.DictReader(file))
    assert [(row["model"], row["duration_seconds"]) for row in costs] == [
        ("mine", "0.5"),
        ("mine", "1"),
        ("worse", "0.5"),
        ("worse", "1"),
    ]
    assert [(row["seconds"], row["peak_mib"]) for row in costs[:2]] == [("0.0500", "5.0"), ("0.1000", "10.0")]
    assert (tmp_path / "curves.csv").read_text().splitlines()[1] == "mine,1.00,0.50"
    page = (tmp_path / "leaderboard.html").read_text(encoding="utf-8")
    assert all(text in page for text in ("7.00", "[6.00, 8.00]", "18.8", "mine", "worse"))
    assert page.count('class="chart" src="data:image/png') == 4


def test_what_is_measured_is_not_measured_again(
    runs: Path, tmp_path: Path, evaluations: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    run(runs, tmp_path)
    before = (tmp_path / "leaderboard.csv").read_bytes()
    for name in ("cost", "macs_per_second"):
        monkeypatch.setattr(comparing, name, lambda *_, **__: pytest.fail("measured again"))
    evaluations.clear()
    # A line that was being written when the process was killed.
    with (tmp_path / "measured.jsonl").open("a") as file:
        file.write('{"key": ["figures", "abc"')
    run(runs, tmp_path)
    assert (tmp_path / "leaderboard.csv").read_bytes() == before
    assert evaluations == []


def test_other_weights_are_measured_anew(runs: Path, tmp_path: Path, evaluations: list[tuple[str, str]]) -> None:
    options = CompareOptions(durations_seconds=())
    torch.manual_seed(1)
    folder = tmp_path / "model-1"
    for _ in range(2):
        DPRNN.from_config(DPRNN.Tiny).save_pretrained(folder)
        compare([str(folder)], ["two"], tmp_path / "out", options)
    assert len(evaluations) == 2


def test_a_set_that_does_not_fit_is_said_and_stops_nothing(
    runs: Path, tmp_path: Path, evaluations: list[tuple[str, str]]
) -> None:
    result = run(runs, tmp_path, "three", "two")
    assert [model.errors for model in result.models] == [{"three": "the set has 3 talkers"}] * 2
    assert result.models[0].figures["two"]["si_snri_db"].value == 7.0
    assert "mine: the set has 3 talkers" in (tmp_path / "leaderboard.html").read_text(encoding="utf-8")


def test_a_pass_beyond_its_limits_says_which(runs: Path) -> None:
    address = str(runs / "better" / "model")
    short = cost(address, 1.0, threads=1, memory_mib=4096, limit_seconds=60, offline=True)
    assert short.seconds is not None
    assert short.peak_mib is not None
    large = cost(address, 2000.0, threads=1, memory_mib=256, limit_seconds=60, offline=True)
    assert (large.seconds, large.peak_mib, large.reason) == (None, None, "more than 0.25 GiB")
    slow = cost(address, 1.0, threads=1, memory_mib=4096, limit_seconds=0.01, offline=True)
    assert slow.reason == "more than 0.01 s"


@pytest.mark.parametrize(
    ("models", "message"),
    [
        (["a=separation/dprnn.mini", "a=separation/bandsplit.mini"], "two models are called 'a'"),
        (["quality/sisnr.pooled"], "is not a separation model"),
        (["separation/missing.mini"], "separation/missing.mini"),
    ],
)
def test_what_cannot_be_compared_is_said(models: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(AuriscopeError, match=message):
        compare(models, ["libri2mix-mini-clean"], tmp_path, CompareOptions(durations_seconds=()))


@pytest.mark.skipif(
    not CHROMIUM.exists() or importlib.util.find_spec("playwright") is None,
    reason="needs /usr/bin/chromium and playwright",
)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_is_accessible_and_sorts(
    runs: Path, tmp_path: Path, evaluations: list[tuple[str, str]], scheme: Any
) -> None:
    from playwright.sync_api import sync_playwright

    result = run(runs, tmp_path)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        page = browser.new_page(color_scheme=scheme)
        complaints: list[str] = []
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(Path(result.page).resolve().as_uri())

        def order() -> list[str]:
            return [text.splitlines()[0] for text in page.locator("tbody th").all_inner_texts()[:2]]

        assert order() == ["mine", "worse"]
        page.get_by_role("button", name="Model").click()
        page.get_by_role("button", name="Model").click()
        assert order() == ["worse", "mine"]
        assert page.locator("th[aria-sort=descending]").count() == 1
        page.evaluate(AXE)
        found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
        browser.close()
    assert [(each["id"], each["nodes"][0]["html"]) for each in found["violations"]] == []
    assert complaints == []
