"""A linear probe on features that are computed once, against running the frozen backbone in every epoch."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from baselines.net1d import Net1DMini
from bench.data.prepared import PreparedSignals, Scaling
from bench.training.batch import Batch
from bench.training.batches import SignalSource
from bench.training.checkpoint import Checkpoints
from bench.training.distributed import World
from bench.training.loop import train
from bench.training.model import Classifier
from methods.linear_probe import LinearProbe

RECORDS, EPOCHS = 320, 30


class Silent:
    """Watches and says nothing."""

    def phase_begins(self, *facts: object) -> None: ...
    def step_ends(self) -> None: ...
    def predicts(self, *facts: object) -> None: ...
    def epoch_ends(self, facts: object) -> None: ...
    def phase_ends(self) -> None: ...
    def note(self, text: str) -> None: ...


@dataclass(frozen=True)
class EveryEpoch(LinearProbe):
    """The same probe; a loss of its own is not run on features."""

    needs_signals = True

    def loss(self, batch: Batch) -> Tensor:
        return super().loss(batch)


def test_linear_probe(compare: Any, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path))
    random = np.random.default_rng(0)
    labels = random.random((RECORDS, 5)) < 0.3
    values = random.integers(-9000, 9000, (RECORDS, 12, 1000)).astype(np.int16)
    scale = np.full(RECORDS, 1e-3, np.float32)
    spec, entries = Net1DMini().signal_spec, iter(range(1000))
    heads: dict[str, Tensor] = {}

    def probe(method: LinearProbe, entry: str) -> None:
        torch.manual_seed(0)
        model = Classifier(Net1DMini(), 5)
        model.made_by = "benchmark"
        signals = PreparedSignals(spec, 100, Scaling(), {}, np.arange(RECORDS), values, scale, entry)
        whole = SignalSource(signals, np.arange(RECORDS), torch.from_numpy(labels).float(), torch.float32)
        world = World(0, 1, torch.device("cpu"))
        files = Checkpoints(tmp_path, writes=False, note=print)
        facts: dict[str, Any] = {"world": world, "precision": "float32", "watcher": Silent(), "checkpoints": files}
        train(model, method, method.phases(()), whole, whole, seed=0, **facts)
        heads[type(method).__name__] = model.head.weight.detach().clone()

    every, once = EveryEpoch(probe_epochs=EPOCHS), LinearProbe(probe_epochs=EPOCHS)
    compare(
        f"linear probe of {EPOCHS} epochs, net1d_mini, {RECORDS} records",
        lambda: probe(once, f"new {next(entries)}"),
        "the frozen backbone in every epoch",
        lambda: probe(every, ""),
        rounds=1,
        warmup_rounds=0,
        goal="20",
    )
    torch.testing.assert_close(heads["LinearProbe"], heads["EveryEpoch"], rtol=0, atol=1e-5)


def test_next_probe(compare: Any, tmp_path: Path, monkeypatch: Any) -> None:
    """Nothing but the head is trained when the features are on disk."""
    from bench.training.feature_cache import FeatureCache

    monkeypatch.setenv("BENCH_CACHE", str(tmp_path))
    cache = FeatureCache(tmp_path / "features" / "all of PTB-XL by ECGFounder")
    ids = np.arange(21_799)
    cache.save(ids, np.zeros((len(ids), 1024), dtype=np.float32), 1.0)
    compare("opening the features of 21,799 records by ECGFounder", lambda: cache.load(ids))
