"""How a run is watched: a bar that leaves nothing, a line of log.jsonl an event, and Weights & Biases offline."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, ClassVar

import pytest
from rich.console import Console

from bench.console.tracking import Silent, Tracker, watch

PLAN = {"cell": {"command": "bench run"}, "dataset": {"name": "mine-1a2b3c4d"}}
EPOCH = {
    "phase": "probe",
    "epoch": 1,
    "train_loss": 0.5,
    "val_macro_auroc": 0.75,
    "best_epoch": 1,
    "learning_rate": 0.1,
    "seconds": 0.25,
}


def run_through(folder: Path, console: Console) -> None:
    """The events of a run of one phase with two epochs of three steps."""
    with watch(folder, console, "off", PLAN, is_main=True, data=folder / "set") as watcher:
        watcher.prepared(1, 2)
        watcher.prepared(2, 2)
        watcher.note("a note with [brackets]")
        watcher.phase_begins("probe {x}", 2, 3, 0)
        for epoch in (1, 2):
            for _ in range(3):
                watcher.step_ends()
            watcher.epoch_ends({**EPOCH, "phase": "probe {x}", "epoch": epoch})
        watcher.phase_ends()
        watcher.finish({"fold_10": {"auroc": 0.9}})


def test_every_event_is_a_line_of_the_log(tmp_path: Path) -> None:
    run_through(tmp_path, Console(file=io.StringIO()))
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]

    assert [line["event"] for line in lines] == ["begins", "note", "epoch", "epoch", "note", "finished"]
    assert (lines[0]["command"], lines[0]["data"]) == ("bench run", "mine-1a2b3c4d")
    assert lines[0]["folder"] == str(tmp_path / "set")
    assert lines[2]["val_macro_auroc"] == 0.75
    assert lines[2]["phase"] == "probe {x}"
    assert lines[-1]["fold_10"] == {"auroc": 0.9}
    seconds = [line["seconds_since_start"] for line in lines]
    assert seconds == sorted(seconds)


def test_the_console_keeps_a_line_a_phase(tmp_path: Path) -> None:
    shown = io.StringIO()
    run_through(tmp_path, Console(file=shown, width=200))

    assert "a note with [brackets]" in shown.getvalue()
    assert "probe {x}: epoch 2/2  loss 0.5000  fold-9 AUROC 0.7500, weights of epoch 1" in shown.getvalue()


def test_a_phase_that_ends_before_its_last_epoch_has_a_line_too(tmp_path: Path) -> None:
    """Patience ended a phase in silence, and its bar stayed."""
    shown = io.StringIO()
    with watch(tmp_path, Console(file=shown, width=200), "off", PLAN, is_main=True) as watcher:
        watcher.phase_begins("finetune", 9, 3, 0)
        for epoch in (1, 2, 3):
            watcher.epoch_ends({**EPOCH, "epoch": epoch})
        watcher.phase_ends()
        watcher.phase_begins("fitted", 1, 0, 0)
        watcher.phase_ends()

    lines = [line for line in shown.getvalue().splitlines() if line]
    assert len(lines) == 1
    assert lines[0].startswith("finetune: epoch 3/9  loss 0.5000  fold-9 AUROC 0.7500, weights of epoch 1, ")


def test_the_bar_shows_counts_loss_and_time_left(tmp_path: Path) -> None:
    shown = io.StringIO()
    run_through(tmp_path, Console(file=shown, width=200, force_terminal=True))

    assert "preparing signals" in shown.getvalue()
    assert "fold-9 AUROC 0.7500" in shown.getvalue()
    assert "0:00:0" in shown.getvalue()


def test_the_bar_of_a_resumed_phase_begins_where_it_was(tmp_path: Path) -> None:
    shown = io.StringIO()
    console = Console(file=shown, width=200, force_terminal=True)
    with watch(tmp_path, console, "off", PLAN, is_main=True) as watcher:
        watcher.phase_begins("finetune", 3, 100, 150)
        watcher.step_ends()

    assert "151/300" in shown.getvalue()


def test_predictions_are_counted_in_a_bar_of_their_own_or_beside_the_steps(tmp_path: Path) -> None:
    shown = io.StringIO()
    with watch(tmp_path, Console(file=shown, width=200, force_terminal=True), "off", PLAN, is_main=True) as watcher:
        watcher.predicts("features", 64, 1709)
        assert "features" in shown.getvalue() and "/1709" in shown.getvalue()
        watcher.predicts("features", 1709, 1709)
        watcher.phase_begins("finetune", 3, 100, 0)
        watcher.step_ends()
        watcher.step_ends()
        watcher.predicts("fold 9", 704, 2146)

    assert "fold 9: 704 of 2,146 records" in shown.getvalue()
    assert "2/300" in shown.getvalue()


def test_a_file_gets_a_line_a_minute_of_predictions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr("bench.console.tracking.time.monotonic", lambda: now)
    shown = io.StringIO()
    with watch(tmp_path, Console(file=shown, width=40), "off", PLAN, is_main=True) as watcher:
        watcher.phase_begins("finetune", 1, 1, 0)
        for done in range(64, 641, 64):
            now += 31.0
            watcher.predicts("fold 9", done, 2146)

    assert shown.getvalue().splitlines() == [f"fold 9: {done} of 2,146 records" for done in (128, 256, 384, 512, 640)]


def test_what_is_no_number_is_null_in_the_log(tmp_path: Path) -> None:
    tracker = Tracker(tmp_path, Console(file=io.StringIO()), "off", PLAN)
    tracker.phase_begins("probe", 1, 1, 0)
    tracker.epoch_ends({**EPOCH, "val_macro_auroc": -float("inf")})
    tracker.close()
    first = (tmp_path / "log.jsonl").read_text().splitlines()[1]

    assert json.loads(first, parse_constant=pytest.fail)["val_macro_auroc"] is None


def test_a_resumed_run_goes_on_in_the_same_log(tmp_path: Path) -> None:
    for _ in range(2):
        with watch(tmp_path, Console(file=io.StringIO()), "off", PLAN, is_main=True) as watcher:
            watcher.note("here")

    assert [json.loads(line)["event"] for line in (tmp_path / "log.jsonl").read_text().splitlines()] == [
        "begins",
        "note",
    ] * 2


def test_other_ranks_neither_show_nor_write(tmp_path: Path) -> None:
    shown = io.StringIO()
    with watch(tmp_path, Console(file=shown), "online", PLAN, is_main=False) as watcher:
        assert type(watcher) is Silent
        watcher.note("hidden")

    assert not shown.getvalue()
    assert not list(tmp_path.iterdir())


def test_a_failing_run_closes_its_log(tmp_path: Path) -> None:
    with (
        pytest.raises(ZeroDivisionError),
        watch(tmp_path, Console(file=io.StringIO()), "off", PLAN, is_main=True) as watcher,
    ):
        raise ZeroDivisionError
    assert isinstance(watcher, Tracker)
    assert watcher._log.closed


@pytest.mark.slow
def test_wandb_offline_writes_config_curves_and_metrics_into_the_run(demo_set: Path, tmp_path: Path) -> None:
    words = ["run", "--task", "superdiag", "--arch", "prevalence", "--method", "lp(probe_epochs=2)"]
    clean = {key: value for key, value in os.environ.items() if not key.startswith("WANDB")}
    done = subprocess.run(
        [sys.executable, "-m", "bench", *words, "--data", str(demo_set), "--wandb", "offline", "--json"],
        cwd=tmp_path,
        env={**clean, "HOME": str(tmp_path), "WANDB_CACHE_DIR": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
    )
    if "did not start" in done.stderr:
        pytest.skip(f"wandb cannot start here: {done.stderr}")
    assert done.returncode == 0, done.stderr

    result = json.loads(done.stdout)
    (folder,) = (path for path in (tmp_path / "runs" / "superdiag").iterdir() if path.is_dir())
    (offline,) = (path for path in (folder / "wandb").iterdir() if path.name.startswith("offline-run-"))
    (log,) = offline.glob("*.wandb")
    stored = log.read_bytes()
    # its format is wandb's own: what must be in it are the names and values of ours
    words = ["lp(probe_epochs=2)", "probe/val_macro_auroc", "probe/train_loss", "probe/epoch", "fold_10"]
    for word in (result["digest"], *words):
        assert word.encode() in stored, word


def test_a_resumed_run_goes_on_as_the_same_run_of_wandb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[dict[str, Any]] = []
    monkeypatch.setattr("wandb.init", lambda **words: given.append(words))
    Tracker(tmp_path, Console(file=io.StringIO()), "online", PLAN)._log.close()
    for name in ("run-20261130_071500-abcd1234", "offline-run-20261129_071500-efgh5678"):
        (tmp_path / "wandb" / name).mkdir(parents=True)
    Tracker(tmp_path, Console(file=io.StringIO()), "online", PLAN)._log.close()

    assert [(words["id"], words["resume"]) for words in given] == [(None, "allow"), ("abcd1234", "allow")]


def test_after_its_last_words_nothing_is_open_so_that_the_folder_can_be_renamed(tmp_path: Path) -> None:
    ended: list[int] = []

    class Run:
        summary: ClassVar[dict[str, object]] = {}

        def finish(self, exit_code: int) -> None:
            ended.append(exit_code)

    for last_words in (True, False):
        tracker = Tracker(tmp_path, Console(file=io.StringIO()), "off", PLAN)
        tracker._run = Run()
        if last_words:
            tracker.finish({"fold_10": 0.5})
            assert tracker._log.closed
            assert Run.summary == {"fold_10": 0.5}
        tracker.close()

    assert ended == [0, 1]


def test_a_file_gets_a_line_a_minute_and_a_terminal_its_bar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr("bench.console.tracking.time.monotonic", lambda: now)
    shown = io.StringIO()
    tracker = Tracker(tmp_path, Console(file=shown, width=40), "off", PLAN)
    for done in range(1, 301):
        now += 1.0
        tracker.prepared(done, 1000)
    tracker.close()

    lines = [line for line in shown.getvalue().splitlines() if line.strip()]
    assert lines[0] == "preparing signals: 60 of 1,000 records"
    assert [line.split()[2] for line in lines if line.startswith("preparing signals: ")] == [
        "60",
        "120",
        "180",
        "240",
        "300",
    ]
