"""A contact sheet has every record with its statements, bars and leads; as a picture, and as pages of two."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import bench
from bench.data.datasets import load_records
from bench.data.tasks import find_task, label_table
from bench.errors import BenchError

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def runs(demo_set: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made-up scores of folds 9 and 10 for few and for many labels."""
    folder = tmp_path_factory.mktemp("runs")
    for task in ("superdiag", "all"):
        records = load_records(demo_set)
        table = label_table(records, find_task(task, records))
        table = table.select(table.strat_fold >= 9)
        scores = 0.3 * table.y_true + 0.7 * np.random.default_rng(0).random(table.y_true.shape)
        frame = pd.DataFrame(scores, index=table.ecg_id, columns=list(table.labels))
        bench.score(frame, task, "random", scale="probability", data=demo_set, runs=folder, log=lambda line: None)
    return folder


def texts(path: Path) -> list[str]:
    return ["".join(node.itertext()).strip() for node in ElementTree.parse(path).getroot().iter(f"{SVG}text")]


def test_an_svg_has_each_record_its_labels_and_leads(demo_set: Path, runs: Path, tmp_path: Path) -> None:
    path = tmp_path / "sheet.svg"
    frame = bench.misses("random", n=3, task="superdiag", data=demo_set, runs=runs, out=path)

    words = texts(path)
    for row in frame.to_dict("records"):
        (head,) = [word for word in words if f"ecg_id {row['ecg_id']} " in word]
        assert head.startswith(f"{row['place']} ") and row["sex"] in head
        assert f"loss {row['loss']:.2f}" in words
        assert any(word.startswith(row["statements"][:60]) for word in words)
    assert words.count("aVR") == words.count("V6") == 3
    assert words.count("II") == 6  # and the rhythm strip
    labels = [word for word in words if re.match(r"(CD|HYP|MI|NORM|STTC)\b(?!,)(: (missed|false alarm|true))?$", word)]
    assert len(labels) == 15
    wrong = sum(word.endswith((": missed", ": false alarm")) for word in labels)
    sets = [({*row["true"].split("; ")}, {*row["predicted"].split("; ")} - {""}) for row in frame.to_dict("records")]
    assert wrong == sum(len(true ^ predicted) for true, predicted in sets)
    assert any("largest loss, 3 of" in word for word in words)
    assert sum("a large square is 0.2 s and 0.5 mV" in word for word in words) == 3


def test_of_many_labels_the_asked_and_the_true_ones_come_first(demo_set: Path, runs: Path, tmp_path: Path) -> None:
    path = tmp_path / "sheet.svg"
    options = {"n": 1, "task": "all", "data": demo_set, "runs": runs}
    records = load_records(demo_set)
    y = label_table(records, find_task("all", records))
    positives = y.y_true[y.strat_fold == 9].sum(axis=0)
    asked = np.array(y.labels)[np.argsort(-positives)][:8]
    both = [label for label in asked if len(bench.misses("random", label, **options)) == 2]  # type: ignore[arg-type]
    asked = both[-1]
    frame = bench.misses("random", asked, out=path, **options)  # type: ignore[arg-type]

    words, (missed, alarm) = texts(path), frame.to_dict("records")
    assert words.count(f"{asked}: missed") == 1 and words.count(f"{asked}: false alarm") == 1
    assert f"{asked}: missed, {round(missed['score'], 3):g} < {round(missed['threshold'], 3):g}" in words
    true = sorted(alarm["true"].split("; "), key=lambda label: -alarm[f"score {label}"])
    for label in true[:5]:
        assert any(word.startswith(label) and word.endswith((": true", ": missed")) for word in words)


def test_a_picture_has_two_columns_and_a_pdf_two_records_a_page(demo_set: Path, runs: Path, tmp_path: Path) -> None:
    one, five, pdf = tmp_path / "one.png", tmp_path / "five.png", tmp_path / "five.pdf"
    options = {"task": "superdiag", "data": demo_set, "runs": runs}
    bench.misses("random", n=1, out=one, **options)  # type: ignore[arg-type]
    bench.misses("random", n=5, out=[five, pdf], **options)  # type: ignore[arg-type]

    with Image.open(one) as small, Image.open(five) as large:
        assert large.width / small.width == pytest.approx(2, rel=0.05)
        assert 2.5 < large.height / small.height < 3
    pages = re.findall(rb"/Type /Page\b", pdf.read_bytes())
    assert len(pages) == 3
    assert b"/MediaBox [ 0 0 595." in pdf.read_bytes()  # A4


def test_signals_that_are_missing_are_named(demo_set: Path, runs: Path, tmp_path: Path) -> None:
    tables = tmp_path / "tables"
    tables.mkdir()
    for name in ("ptbxl_database.csv", "scp_statements.csv"):
        (tables / name).write_bytes((demo_set / name).read_bytes())

    frame = bench.misses("random", n=2, task="superdiag", data=tables, runs=runs)
    with pytest.raises(BenchError, match=r"records500|records100"):
        bench.misses("random", n=2, task="superdiag", data=tables, runs=runs, out=tmp_path / "sheet.png")

    assert len(frame) == 2
    assert not (tmp_path / "sheet.png").exists()
