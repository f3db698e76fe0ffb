"""Published weights are checked step by step: the file, its hash, its keys, its outputs."""

import subprocess
import sys
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import torch

from bench.data.signals import SignalSpec
from bench.errors import CheckpointError
from bench.registry.findings import Finding
from bench.registry.published_weights import check_all, check_published, reference_signals
from bench.registry.reference import Reference
from bench.registry.registry import make
from bench.training.model import Classifier

FOUNDER = Reference("ecgfounder")


@pytest.fixture(scope="module")
def founder(tmp_path_factory: pytest.TempPathFactory) -> tuple[Classifier, Path]:
    """ECGFounder with random weights, and its file as published."""
    torch.manual_seed(0)
    model = Classifier(make("backbone", FOUNDER), 150).eval()
    weights = {("dense." + k[5:] if k.startswith("head.") else k[9:]): v for k, v in model.state_dict().items()}
    path = tmp_path_factory.mktemp("weights") / "12_lead.pth"
    torch.save({"state_dict": weights}, path)
    return model, path


def declare(model: Classifier, monkeypatch: pytest.MonkeyPatch, **facts: Any) -> None:
    """Publish the weights with other facts."""
    kind = type(model.backbone)
    assert kind.checkpoint is not None
    monkeypatch.setattr(kind, "checkpoint", replace(kind.checkpoint, **facts))


def findings(path: Path | str) -> dict[str, Finding]:
    return dict(check_published(FOUNDER, str(path)))


def test_other_weights_give_other_outputs(founder: tuple[Classifier, Path]) -> None:
    found = findings(founder[1])

    assert [finding.verdict for finding in found.values()] == ["ok", "FAULT", "ok", "FAULT"]
    assert str(found["hash"].fault).endswith(
        ", expected ee199f3781f4ae1f732973267f003da0a759ea12bddb0dd28a77faa60aca7997"
    )
    assert list(found) == ["file", "hash", "keys", "outputs"]
    assert "published: 8.3751" in str(found["outputs"].fault)
    assert found["keys"].check.endswith("; left out: dense.weight, dense.bias")
    assert sha256(founder[1].read_bytes()).hexdigest() in found["hash"].check


def test_its_own_outputs_are_met_with_and_without_a_head(
    founder: tuple[Classifier, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, path = founder
    signals = reference_signals(model.backbone.signal_spec)
    assert torch.equal(signals, torch.linspace(-1, 1, 60_000).view(1, 12, 5000))
    with torch.no_grad():
        logits, features = model(signals)[0, :10].tolist(), model.backbone(signals)[0, :4].tolist()

    declare(model, monkeypatch, first_logits=tuple(logits), sha256=sha256(path.read_bytes()).hexdigest())
    assert {finding.verdict for finding in findings(path).values()} == {"ok"}
    declare(model, monkeypatch, first_logits=(), first_features=tuple(features))
    assert findings(path)["outputs"].verdict == "ok"
    declare(model, monkeypatch, first_features=(features[0] + 2e-4, *features[1:]))
    assert "published: " in str(findings(path)["outputs"].fault)


def test_without_published_outputs_there_are_some_to_report(
    founder: tuple[Classifier, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, path = founder
    declare(model, monkeypatch, first_logits=(), sha256="")
    with torch.no_grad():
        features = model.backbone(reference_signals(model.backbone.signal_spec))[0]
    found = findings(path)["outputs"]
    assert findings(path)["hash"].verdict == "n/a"

    assert found.verdict == "n/a" and "please report these" in str(found.does_not_apply)
    values = ", ".join(f"{value:.6f}" for value in features[:5].tolist())
    assert f"as [1, 12, 5000]: 1024 values, {values}, ..., norm {features.norm():.5f}" in found.check


def test_the_first_fault_is_the_last_step(
    founder: tuple[Classifier, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    model, path = founder
    declare(model, monkeypatch, sha256="0" * 64)
    assert str(findings(path)["hash"].fault).endswith(f", expected {'0' * 64}")

    weights = torch.load(path)["state_dict"]
    torch.save({**weights, "dense.bias": torch.full((150,), torch.nan)}, tmp_path / "nan.pth")
    assert "150 of 150 values of head.bias are NaN or infinite" in str(findings(tmp_path / "nan.pth")["outputs"].fault)
    removed = next(iter(weights))
    torch.save({key: value for key, value in weights.items() if key != removed}, tmp_path / "less.pth")
    found = findings(tmp_path / "less.pth")
    assert list(found)[-1] == "keys" and f"lacks 1 of its keys: {removed}" in str(found["keys"].fault)
    found = findings(tmp_path / "no.pth")
    assert list(found) == ["file"] and "No such file" in str(found["file"].fault)


def test_the_input_has_the_length_of_the_backbone() -> None:
    assert reference_signals(SignalSpec(250, "none", leads=("I", "II"), window_s=9)).shape == (1, 2, 2250)


def test_a_backbone_without_published_weights_is_an_answer() -> None:
    with pytest.raises(CheckpointError, match="net1d_mini has no published checkpoint; there is nothing to check"):
        list(check_published(Reference("net1d_mini"), "pretrained"))


def test_all_are_checked_and_each_has_a_row(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without a network each file is a fault; the others are still tried."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    shown: list[str] = []

    rows = check_all(["ecgfounder", "ecgfounder_1lead"], lambda name, finding: shown.append(f"{name}: {finding.fault}"))

    assert [row["name"] for row in rows] == ["ecgfounder", "ecgfounder_1lead"]
    assert all(row == {**row, "file": "FAULT", "hash": "-", "keys": "-", "outputs": "-"} for row in rows)
    assert [line.partition(":")[0] for line in shown] == ["ecgfounder", "ecgfounder_1lead"]


def test_the_command_prints_lines_and_a_table(tmp_path: Path, founder: tuple[Classifier, Path]) -> None:
    environment = {"HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": str(tmp_path), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
    for words, code, line in [
        (["check", "all-foundation"], 1, "FAULT ecgfounder: file of 12_lead_ECGFounder.pth"),
        (["check", "ecgfounder", "--init", str(founder[1])], 1, "ok    12_lead.pth is at hand, "),
    ]:
        run = subprocess.run([sys.executable, "-m", "bench", *words], capture_output=True, text=True, env=environment)
        assert (run.returncode, line in run.stdout) == (code, True), run
        assert "Traceback" not in run.stderr
