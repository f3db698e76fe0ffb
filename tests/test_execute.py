"""The spine keeps fold 10 locked: nothing that is trained or selected knows it."""

import contextlib
import http.server
import io
import shutil
import sys
import threading
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import pytest
import torch
from rich.console import Console
from torch import Tensor

from baselines.fcn import FCNWang
from bench.cell import Cell
from bench.console.tracking import Tracker
from bench.data.datasets.ptbxl import STATEMENTS, TABLE, load_records
from bench.data.prepared import PreparedSignals, prepare_signals
from bench.data.splits import TEST_FOLD
from bench.errors import DataError, PluginError
from bench.execute import Options, execute
from bench.plugin import Batch, register_method
from bench.registry.reference import Reference
from bench.registry.registry import _REGISTRY, make
from bench.results.result import Result
from bench.training.distributed import World
from bench.training.published import PublishedCheckpoint
from bench.training.weights import WEIGHTS
from methods.full_finetune import FullFinetune


def run(data: Path, runs: Path, epochs: int = 1) -> Result:
    """A backbone whose signals are standardised by statistics of the dataset, trained for an epoch."""
    cell = Cell(
        data=data,
        task="superdiag",
        arch=Reference("fcn_wang"),
        method=Reference.parse(f"scratch(epochs={epochs})"),
        precision="float32",
    )
    return execute(cell, Options(runs=runs))


def with_another_fold_10(data: Path, copy: Path) -> Path:
    """The dataset with fold 10's labels and signals exchanged among its records."""
    copy.mkdir()
    shutil.copy(data / "scp_statements.csv", copy)
    shutil.copytree(data / "records100", copy / "records100")
    table = pd.read_csv(data / "ptbxl_database.csv")
    held_out = table.strat_fold == TEST_FOLD
    table.loc[held_out, "scp_codes"] = table.loc[held_out, "scp_codes"].to_numpy()[::-1]
    table.to_csv(copy / "ptbxl_database.csv", index=False)
    names = list(table.loc[held_out, "filename_lr"])
    for name, other in zip(names, names[::-1], strict=True):
        shutil.copy(data / f"{other}.dat", copy / f"{name}.dat")
        header = (data / f"{other}.hea").read_text().replace(Path(other).name, Path(name).name)
        (copy / f"{name}.hea").write_text(header)
    return copy


def test_training_does_not_depend_on_fold_10(demo_set: Path, tmp_path: Path) -> None:
    one = run(demo_set, tmp_path / "one")
    other = run(with_another_fold_10(demo_set, tmp_path / "data"), tmp_path / "other")

    assert one.fingerprint != other.fingerprint
    assert not np.array_equal(one.predictions[10].logits, other.predictions[10].logits)
    assert one.document["weights_sha256"] == other.document["weights_sha256"]
    assert one.document["training"][0]["val_macro_auroc"] == other.document["training"][0]["val_macro_auroc"]
    assert np.array_equal(one.predictions[9].logits, other.predictions[9].logits)


def test_fold_10_is_read_once_after_training(demo_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    records = load_records(demo_set)
    reads: list[tuple[set[int], bool]] = []
    read = PreparedSignals.read

    def watched(self: PreparedSignals, rows: Any, *crop: Any) -> Any:
        trained = any((tmp_path / "runs").rglob(WEIGHTS))
        reads.append((set(records.table.strat_fold.loc[self.ecg_id[rows]]), trained))
        return read(self, rows, *crop)

    monkeypatch.setattr(PreparedSignals, "read", watched)
    result = run(demo_set, tmp_path / "runs")

    of_test = [trained for folds, trained in reads if TEST_FOLD in folds]
    assert of_test == [True], "one batch, after the weights were saved"
    assert len(reads) > 3
    (noted,) = result.document["reads_of_fold_10"]
    assert noted["records"] == len(result.predictions[10].ecg_id)


def test_a_data_set_without_fold_10_is_refused_before_training(demo_set: Path, tmp_path: Path) -> None:
    shutil.copytree(demo_set, data := tmp_path / "data")
    table = pd.read_csv(data / TABLE)
    table.loc[table.strat_fold == TEST_FOLD, "strat_fold"] = 8
    table.to_csv(data / TABLE, index=False)

    with pytest.raises(DataError, match="superdiag has no record in fold 10; use --stage val"):
        run(data, tmp_path / "runs")
    assert not list((tmp_path / "runs").rglob("*.unfinished"))
    assert not list((tmp_path / "runs").rglob("log.jsonl"))


def test_the_cost_is_that_of_all_attempts_without_preparing_signals(
    demo_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, ahead = time.monotonic, 0.0
    epoch_ends = Tracker.epoch_ends

    def prepare(*given: Any) -> PreparedSignals:
        nonlocal ahead
        ahead += 10_000
        return prepare_signals(*given)

    def train(self: Tracker, facts: dict[str, Any]) -> None:
        nonlocal ahead
        ahead += 1_000
        epoch_ends(self, facts)
        if facts["epoch"] == kill:
            raise KeyboardInterrupt

    monkeypatch.setattr("time.monotonic", lambda: clock() + ahead)
    monkeypatch.setattr("bench.data.opened.prepare_signals", prepare)
    monkeypatch.setattr(Tracker, "epoch_ends", train)
    kill = 2
    with pytest.raises(KeyboardInterrupt):
        run(demo_set, tmp_path, epochs=3)
    kill = 0

    result = run(demo_set, tmp_path, epochs=3)

    assert 3_000 < result.document["cost"]["seconds"] < 3_900, "an epoch, and two that followed from its checkpoint"


def test_the_main_rank_alone_tests_a_finished_cell_elsewhere(
    demo_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else all ranks load the weights and write into one folder at the same time."""
    finished = run(demo_set, tmp_path)
    cell = Cell(
        data=demo_set,
        task="superdiag",
        arch=Reference("fcn_wang"),
        method=Reference.parse("scratch(epochs=1)"),
        precision="float32",
    )
    tested: list[int] = []
    for rank in (1, 0):
        world = World(rank, 2, torch.device("cpu"))
        monkeypatch.setattr("bench.execute.join", lambda world=world: contextlib.nullcontext(world))
        monkeypatch.setattr("bench.execute.check_same_cell", lambda *given: None)  # no other rank answers
        monkeypatch.setattr("bench.execute.evaluate_also", lambda *given, rank=rank: tested.append(rank))
        assert execute(cell, Options(runs=tmp_path, also_on=(demo_set,))).folder == finished.folder

    assert tested == [0]


class SlowHub(http.server.BaseHTTPRequestHandler):
    """Sends a file after three seconds."""

    content: ClassVar[bytes] = b""

    def do_GET(self) -> None:
        time.sleep(3)
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.content)))
        self.end_headers()
        self.wfile.write(self.content)

    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing."""


def test_the_cost_leaves_out_the_download_of_weights(
    demo_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone = make("backbone", Reference("prevalence"))
    torch.save(backbone.state_dict(), tmp_path / "published.pt")
    SlowHub.content = (tmp_path / "published.pt").read_bytes()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), SlowHub)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()

    def fetch(*_: object) -> tuple[Path, dict[str, Any]]:
        with urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}/published.pt") as answer:
            (tmp_path / "fetched.pt").write_bytes(answer.read())
        return tmp_path / "fetched.pt", {}

    monkeypatch.setattr(type(backbone), "checkpoint", PublishedCheckpoint("repo", "published.pt", "main"))
    monkeypatch.setattr("bench.training.weights.fetch_checkpoint", fetch)
    method = Reference.parse("lp(probe_epochs=1)")
    cell = Cell(data=demo_set, task="superdiag", arch=Reference("prevalence"), method=method)
    began = time.monotonic()
    try:
        result = execute(cell, Options(runs=tmp_path / "runs"))
    finally:
        server.shutdown()
        thread.join()
        server.server_close()

    assert (tmp_path / "fetched.pt").is_file()
    assert 0 < result.document["cost"]["seconds"] < time.monotonic() - began - 3


def test_a_model_that_looks_at_other_records_is_not_trained(
    demo_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a board its scores of fold 10 would depend on what else is in that fold."""
    forward = FCNWang.forward

    def centred(backbone: FCNWang, signals: Tensor) -> Tensor:
        features = forward(backbone, signals)
        return features - features.mean(0)

    monkeypatch.setattr(FCNWang, "forward", centred)
    with pytest.raises(PluginError, match=r"outputs for a record change by .* with the other records of its batch"):
        run(demo_set, tmp_path)


def test_odd_records_are_told(demo_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def odd(*words: Any) -> PreparedSignals:
        return replace(prepare_signals(*words), findings={"records of zeros": [3, 6]})

    monkeypatch.setattr("bench.data.opened.prepare_signals", odd)
    console = Console(file=io.StringIO(), width=200)
    cell = Cell(data=demo_set, task="superdiag", arch=Reference("prevalence"), method=Reference("lp"))
    execute(cell, Options(runs=tmp_path, console=console))

    assert "records of zeros: 2, the first 3\n" in console.file.getvalue()  # type: ignore[attr-defined]


def test_only_the_main_rank_scores(demo_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(World, "is_main", False)
    monkeypatch.setattr("bench.execute.load_classifier", lambda model, path: None)
    monkeypatch.setattr("bench.execute.outcome", lambda *_: pytest.fail("it takes seconds, and nobody sees it"))

    result = run(demo_set, tmp_path)

    assert result.document["digest"] and not result.folder.exists()


def test_missing_signals_are_told_before_weights_are_fetched(
    copy_first: Callable[[int, Path], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy_first(100, tmp_path / "data")
    cell = Cell(data=tmp_path / "data", task="superdiag", arch=Reference("ecgfounder"), method=Reference("lp"))
    monkeypatch.setattr("bench.training.weights.fetch_checkpoint", lambda *_: pytest.fail("120 MB for nothing"))

    with pytest.raises(DataError, match=r"lacks 200 of the 200 files at 500 Hz .* --source-rate 100 takes"):
        execute(cell, Options(runs=tmp_path / "runs"))


@dataclass(frozen=True)
class EndsInLoss(FullFinetune):
    """Ends the program in its first step."""

    def loss(self, batch: Batch) -> Tensor:
        """End the program."""
        sys.exit(0)


def test_a_method_that_ends_the_program_is_an_error_that_names_it(
    demo_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a script that calls bench.run would end in the middle, with exit code 0."""
    monkeypatch.setattr(_REGISTRY, "plugins", dict(_REGISTRY.plugins))
    register_method("ends-in-loss")(EndsInLoss)
    method = Reference("ends-in-loss")
    cell = Cell(data=demo_set, task="superdiag", arch=Reference("prevalence"), method=method, precision="float32")

    with pytest.raises(PluginError, match=rf"{__file__}, line \d+, ended the program by exit\(0\)"):
        execute(cell, Options(runs=tmp_path))


def test_a_finished_run_from_published_weights_is_told_without_signals(
    demo_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone = make("backbone", Reference("prevalence"))
    torch.save(backbone.state_dict(), tmp_path / "published.pt")
    monkeypatch.setattr(type(backbone), "checkpoint", PublishedCheckpoint("repo", "published.pt", "main"))
    monkeypatch.setattr("bench.training.weights.fetch_checkpoint", lambda *_: (tmp_path / "published.pt", {}))
    (tmp_path / "tables").mkdir()
    for table in (TABLE, STATEMENTS):
        shutil.copy(demo_set / table, tmp_path / "tables")
    method = Reference.parse("lp(probe_epochs=1)")
    cell = Cell(data=demo_set, task="superdiag", arch=Reference("prevalence"), method=method)
    options = Options(runs=tmp_path / "runs")
    done = execute(cell, options)
    cell = replace(cell, data=tmp_path / "tables")

    assert execute(cell, options).document["weights_sha256"] == done.document["weights_sha256"]
    with pytest.raises(DataError, match="lacks 480 of the 480 files"):
        execute(cell, replace(options, overwrite=True))
