"""Single records on an HTML page: those of `bench misses`, their ECGs as in the files, its size, and a real browser."""

from __future__ import annotations

import base64
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import bench
import bench.cli
from bench.boards.misses import MISSED
from bench.data.datasets import load_records
from bench.data.show import LAYOUT, raw_tracing
from bench.data.tasks import find_task, label_table
from bench.data.waveforms import LEADS
from bench.errors import BenchError
from bench.pages.html_misses import MISSING, RATE, STEP_MM, _steps, misses_section
from bench.verbs import Leaderboard

LABELS = ("CD", "HYP", "MI", "NORM", "STTC")


@pytest.fixture(scope="module")
def runs(demo_set: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made-up scores of two rows, and of one whose scale is not known and that has no fold 9."""
    folder, random = tmp_path_factory.mktemp("runs"), np.random.default_rng(5)
    records = load_records(demo_set)
    table = label_table(records, find_task("superdiag", records))
    table = table.select(table.strat_fold >= 9)
    for name, weight in (("good", 0.4), ("poor", 0.1)):
        scores = 0.02 + 0.95 * (weight * table.y_true + (1 - weight) * random.random(table.y_true.shape))
        frame = pd.DataFrame(scores, table.ecg_id, list(table.labels))
        given: dict[str, Any] = {"data": demo_set, "runs": folder, "log": lambda line: None}
        bench.score(frame, "superdiag", name, scale="probability", **given)
        bench.score(frame[table.strat_fold == 10], "superdiag", f"{name} without scale", **given)
    return folder


@pytest.fixture(scope="module")
def made(demo_set: Path, runs: Path) -> Leaderboard:
    return bench.leaderboard(runs, data=demo_set, log=lambda line: None)


@pytest.fixture(scope="module")
def page(made: Leaderboard, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of the task."""
    return made.write(tmp_path_factory.mktemp("site"), "html", misses=True)[-1]


def data_of(text: str) -> dict[str, Any]:
    (given,) = re.findall(r'id="misses-data">(.*?)</script>', text, flags=re.DOTALL)
    read: dict[str, Any] = json.loads(given)
    return read


@pytest.fixture(scope="module")
def data(page: Path) -> dict[str, Any]:
    return data_of(page.read_text(encoding="utf-8"))


def names_of(made: Leaderboard, data: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Return name and lists of each row that has lists."""
    rows = [row.name for row in made.boards[0].rows if "without" not in row.name]
    return list(zip(rows, data["rows"].values(), strict=True))


def test_lists_are_those_of_bench_misses(made: Leaderboard, data: dict[str, Any], demo_set: Path, runs: Path) -> None:
    assert tuple(data["labels"]) == LABELS
    for name, of in names_of(made, data):
        seen = {column: (num, all_of, entries) for column, num, all_of, entries in of["lists"]}
        for column in (-1, *range(len(LABELS))):
            label = None if column < 0 else LABELS[column]
            frame = bench.misses(name, label, n=1000, data=demo_set, runs=runs)
            if label:
                frame = frame[frame["why"] == MISSED]
            if frame.empty:
                assert column not in seen
                continue
            num, all_of, entries = seen[column]
            assert num == len(frame)
            assert [data["records"][place][0] for place, *_ in entries] == frame["ecg_id"].astype(str).tolist()[:6]
            if label:
                title = frame.attrs["title"]
                assert title.startswith(f"{label}: {num} of {all_of} positives missed")
                assert of["thresholds"][column] == pytest.approx(frame["threshold"].iloc[0], abs=5e-4)
            for (place, loss, scores), row in zip(entries, frame.to_dict("records"), strict=False):
                _, _, statements, truths = data["records"][place]
                assert statements == row["statements"]
                assert "; ".join(LABELS[each] for each in truths) == row["true"]
                assert loss == pytest.approx(row["loss"], abs=6e-3)
                for at, score, _ in scores:
                    assert score == pytest.approx(row[f"score {LABELS[at]}"], abs=5.1e-4)
                assert "; ".join(LABELS[at] for at, _, predicted in scores if predicted) == row["predicted"]


def test_ecgs_are_those_of_the_files(data: dict[str, Any], demo_set: Path) -> None:
    records = load_records(demo_set)
    assert len(data["ecgs"]) == len(data["records"]) > 6, "every record of this small page has its ECG"
    for place, (rate, scale, samples, text) in data["ecgs"].items():
        tracing = raw_tracing(records, int(data["records"][int(place)][0]))
        assert (tracing.rate, rate, samples, scale) == (500, RATE, 1000, tracing.mm_per_unit)
        steps = np.frombuffer(base64.b64decode(text), dtype=np.int8)
        at = 0
        for leads in LAYOUT:
            for part, lead in enumerate(leads):
                start, end = samples * part // len(leads), samples * (part + 1) // len(leads)
                trace = np.cumsum(steps[at : at + end - start].astype(int)) * STEP_MM
                at += end - start
                fine = tracing.signals[LEADS.index(lead)] * tracing.mm_per_unit
                near = np.array([fine[max(0, 5 * i - 5) : 5 * i + 6] for i in range(start + 2, end - 2)])
                assert (trace[2:-2] >= near.min(axis=1) - 0.6).all()
                assert (trace[2:-2] <= near.max(axis=1) + 0.6).all()
        assert at == len(steps)


def test_steps_keep_gaps_and_catch_up_after_a_jump() -> None:
    trace = np.array([0, 1, np.nan, 2, 60, 60, 60, 60], dtype=np.float32)

    steps = np.frombuffer(_steps(trace), dtype=np.int8).astype(int)

    assert steps[2] == MISSING
    heights = np.cumsum(np.where(steps == MISSING, 0, steps)) * STEP_MM
    np.testing.assert_allclose(heights[[0, 1, 3]], [0, 1, 2], atol=STEP_MM / 2)
    assert heights[4] == pytest.approx(2, abs=20)
    np.testing.assert_allclose(heights[7], 60, atol=STEP_MM / 2)


@pytest.mark.parametrize("room", [25_000, 45_000])
def test_a_small_room_is_kept_and_has_the_worst_records(made: Leaderboard, room: int, data: dict[str, Any]) -> None:
    body = misses_section(made.boards, made.truth, room)
    small = data_of(body)

    assert len(body.encode()) < room + 2_000
    assert 0 < len(small["ecgs"]) < len(small["records"])
    worst = {str(of["lists"][0][3][0][0]) for of in small["rows"].values()}
    assert worst <= set(small["ecgs"])


def test_without_signals_the_page_says_so(
    demo_set: Path, runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("ptbxl_database.csv", "scp_statements.csv"):
        (tmp_path / "tables").mkdir(exist_ok=True)
        shutil.copy(demo_set / name, tmp_path / "tables" / name)
    words = ["bench", "leaderboard", "--runs", str(runs), "--data", str(tmp_path / "tables"), "--misses"]
    monkeypatch.setattr("sys.argv", [*words, "--format", "html", "--out", str(tmp_path / "out")])
    with pytest.raises(SystemExit) as end:
        bench.cli.app(standalone_mode=False)
    assert end.value.code == 0
    (page,) = (tmp_path / "out").glob("*/superdiag.html")
    known = data_of(page.read_text(encoding="utf-8"))

    assert set(known["ecgs"]) == {str(place) for place in range(len(known["records"]))}
    assert not any(known["ecgs"].values())


def test_single_records_are_there_only_when_asked_for(made: Leaderboard, tmp_path: Path) -> None:
    plain = made.write(tmp_path, "html")[-1].read_text(encoding="utf-8")

    assert 'id="misses-data"' not in plain
    assert "ecg_id" not in plain.partition('<script type="module">')[0]
    with pytest.raises(BenchError, match="add the format html"):
        made.write(tmp_path, "md", misses=True)


@pytest.mark.slow
@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (1280, "dark"), (375, "light"), (375, "dark")])
def test_a_reader_chooses_row_and_list_by_keyboard(
    browser: Any, page: Path, made: Leaderboard, data: dict[str, Any], width: int, scheme: str
) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe-playwright-python")
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, bypass_csp=True)
    shown, faults = context.new_page(), list[str]()
    shown.on("pageerror", lambda error: faults.append(str(error)))
    shown.goto(page.as_uri())
    shown.wait_for_selector("html.ready")
    (_, first), (name, second) = names_of(made, data)
    heads = lambda: shown.locator("#misses h3").all_inner_texts()
    ids = lambda entries: [f"ecg_id {data['records'][place][0]}" for place, *_ in entries]
    assert heads() == ids(first["lists"][0][3])
    assert shown.locator("#misses svg path.trace").count() == len(heads()) * len(LAYOUT)

    shown.locator(f'#rows tr[data-key="{list(data["rows"])[1]}"] .open').click()
    shown.locator("#rows .to-misses").press("Enter")
    assert shown.evaluate("document.activeElement.id") == "misses-row"
    assert heads() == ids(second["lists"][0][3])
    shown.locator("#misses-what").focus()
    shown.keyboard.press("ArrowDown")
    column, num, all_of, entries = second["lists"][1]
    assert heads() == ids(entries)
    said = shown.locator("#status").inner_text()
    assert f"{LABELS[column]}: missed positives ({num} of {all_of})" in said
    assert name in said
    assert f"{LABELS[column]}, missed" in shown.locator("#misses li").first.inner_text()

    assert axe.Axe().run(shown).response["violations"] == []
    assert shown.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    context.close()
    assert faults == []
