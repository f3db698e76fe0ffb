"""The picture of a record is true to scale, says what the record is, and is made whole or refused in one line."""

from __future__ import annotations

import re
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
import wfdb

import bench.cli
from bench.data.datasets.ptbxl import STATEMENTS, TABLE, load_records
from bench.data.formats import FORMATS, SignalFile
from bench.data.records import Records
from bench.data.show import _draw, draw_file, draw_record
from bench.data.signals import PREPROCESSINGS
from bench.data.waveforms import LEADS
from bench.errors import DataError

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture
def square(demo_set: Path, tmp_path: Path) -> Records:
    """One record at 100 Hz: lead II is 1 mV high for exactly 1 s, from 1 s on, and 0 else; V1 is not a number."""
    folder = tmp_path / "square"
    folder.mkdir()
    shutil.copy(demo_set / STATEMENTS, folder / STATEMENTS)
    row = pd.read_csv(demo_set / TABLE).head(1)
    row["age"], row["sex"], row["scp_codes"] = 300, 1, "{'NORM': 80.0, 'SR': 0.0}"
    row.to_csv(folder / TABLE, index=False)
    samples = np.zeros((1000, 12), dtype=np.int64)
    samples[100:200, 1] = 1000
    samples[:, 6] = -(2**15)
    (folder / "records100/00000").mkdir(parents=True)
    wfdb.wrsamp(
        "00001_lr",
        fs=100,
        units=["mV"] * 12,
        sig_name=list(LEADS),
        d_signal=samples,
        fmt=["16"] * 12,
        adc_gain=[1000.0] * 12,
        baseline=[0] * 12,
        write_dir=str(folder / "records100/00000"),
    )
    return load_records(folder)


def read(path: Path) -> tuple[ElementTree.Element, float, str]:
    """The SVG, millimetres per unit of its view box, and all of its text."""
    root = ElementTree.parse(path).getroot()
    width, height = (float(root.attrib[side].removesuffix("mm")) for side in ("width", "height"))
    box = [float(number) for number in root.attrib["viewBox"].split()]
    assert width / box[2] == pytest.approx(height / box[3], rel=1e-4)
    return root, width / box[2], "\n".join(text.text or "" for text in root.iter(f"{SVG}text"))


def test_time_and_voltage_are_true_to_scale_in_millimetres(square: Records, tmp_path: Path) -> None:
    root, scale, _ = read(draw_record(square, 1, tmp_path / "a.svg"))
    found = []
    for path in root.iter(f"{SVG}path"):
        points = np.array(re.findall(r"[ML] (-?[\d.]+) (-?[\d.]+)", path.attrib.get("d", "")), dtype=float) * scale
        high = points[:, 1] < points[:, 1].max() - 5 if len(points) > 3 else np.zeros(0, dtype=bool)
        if high.any():
            found.append((np.ptp(points[high, 0]), np.ptp(points[:, 1])))
    pulses = [(wide, tall) for wide, tall in found if wide < 10]
    squares = [(wide, tall) for wide, tall in found if 10 <= wide < 100]
    assert len(pulses) == 4
    assert np.allclose(pulses, (5, 10), atol=0.01)  # 0.2 s, 1 mV
    assert len(squares) == 2  # lead II, and the rhythm strip
    assert np.allclose(squares, (24.75, 10), atol=0.01)  # 100 samples are 99 steps of 0.01 s


def test_the_page_says_what_the_record_is(square: Records, demo_set: Path, tmp_path: Path) -> None:
    _, _, text = read(draw_record(square, 1, tmp_path / "a.svg"))
    assert "ecg_id 1   female, over 89 years" in text
    assert "NORM, normal ECG (80 %); SR, sinus rhythm" in text
    assert "raw, 100 Hz; 25 mm/s, 10 mm/mV" in text
    for lead in LEADS:
        assert text.split("\n").count(lead) == (2 if lead == "II" else 1)
    _, _, text = read(draw_record(load_records(demo_set), 1, tmp_path / "b.svg"))
    assert "raw, 500 Hz" in text


@pytest.mark.parametrize("name", PREPROCESSINGS)
def test_a_preprocessing_is_drawn_below(demo_set: Path, tmp_path: Path, name: str) -> None:
    records = load_records(demo_set)
    alone = read(draw_record(records, 3, tmp_path / "a.svg"))[0]
    both, _, text = read(draw_record(records, 3, tmp_path / "b.svg", name))
    assert f"{name}, 500 Hz" in text
    assert ("10 mm/mV" in text.split(f"{name}, 500 Hz")[1]) == (name in ("none", "strodthoff"))
    assert ("before its one scaling" in text) == (name == "strodthoff")
    assert float(both.attrib["height"][:-2]) == float(alone.attrib["height"][:-2]) + 137


def test_the_same_record_gives_the_same_bytes(demo_set: Path, tmp_path: Path) -> None:
    records = load_records(demo_set)
    draw_record(records, 2, tmp_path / "a.svg")
    draw_record(records, 2, tmp_path / "b.svg")
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


def test_a_png_has_the_size_of_the_page(demo_set: Path, tmp_path: Path) -> None:
    content = draw_record(load_records(demo_set), 2, tmp_path / "a.PNG").read_bytes()
    assert content[:8] == b"\x89PNG\r\n\x1a\n"
    assert int.from_bytes(content[16:20], "big") == round(280 / 25.4 * 150 - 0.5)


def test_many_statements_are_cut_and_none_is_said(demo_set: Path, tmp_path: Path) -> None:
    records = load_records(demo_set)
    codes: list[object] = [dict.fromkeys(records.statements.index, 100.0), {}, *records.scp_codes[2:]]
    changed = replace(records, table=records.table.assign(scp_codes=codes))
    assert " ..." in read(draw_record(changed, 1, tmp_path / "a.svg"))[2]
    costly = replace(records, statements=records.statements.assign(description="costs $1 and $2_{"))
    assert "costs $1 and $2_{" in read(draw_record(costly, 1, tmp_path / "c.svg"))[2]
    assert "no statements" in read(draw_record(changed, 2, tmp_path / "b.svg"))[2]


def test_a_table_without_age_sex_and_descriptions_will_do(demo_set: Path, tmp_path: Path) -> None:
    records = load_records(demo_set)
    bare = replace(
        records,
        table=records.table.drop(columns=["age", "sex"]),
        statements=records.statements.drop(columns="description"),
    )
    assert "sex unknown, age unknown" in read(draw_record(bare, 1, tmp_path / "a.svg"))[2]


def test_what_cannot_be_drawn_is_named(demo_set: Path, square: Records, tmp_path: Path) -> None:
    records = load_records(demo_set)
    for wrong, words in (
        ((241, tmp_path / "a.svg", None), "has no record 241; its 240 ecg_ids go from 1 to 240"),
        ((1, tmp_path / "a.pdf", None), "ends in '.pdf'; a picture is one of .svg, .png"),
        ((1, tmp_path / "a", None), "ends in 'nothing'"),
        ((1, tmp_path / "a.svg", "wavelet"), "unknown preprocessing 'wavelet'"),
        ((1, tmp_path / "none" / "a.svg", None), "No such file or directory"),
    ):
        with pytest.raises(DataError, match=re.escape(words)):
            draw_record(records, *wrong)
    square.paths(100)[0].with_suffix(".dat").unlink()
    with pytest.raises(DataError, match=r"00001_lr\.dat is missing"):
        draw_record(square, 1, tmp_path / "a.svg")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["square"]


def test_the_verb(demo_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for more in ([], ["--preprocessing", "zscore"]):
        monkeypatch.setattr(sys, "argv", ["bench", "data", "show", "5", "--data", str(demo_set), *more])
        with pytest.raises(SystemExit) as end:
            bench.cli.main()
        assert not end.value.code
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ecg-5-zscore.svg", "ecg-5.svg"]


def traces(path: Path) -> list[np.ndarray]:
    """Points [time, (x, y)] in mm of each lead's line."""
    root, scale, _ = read(path)
    lines = [re.findall(r"[ML] (-?[\d.]+) (-?[\d.]+)", line.attrib.get("d", "")) for line in root.iter(f"{SVG}path")]
    return [np.array(points, dtype=float) * scale for points in lines if len(points) > 20]


def own_file(folder: Path, factor: float, offset: float = 0, seconds: int = 10) -> Path:
    """A user's own record at 100 Hz: beats of 1 mV times `factor`, about `offset` mV."""
    beat = np.exp(-((((np.arange(100 * seconds) / 100) % 1) - 0.5) ** 2) / (2 * 0.03**2))
    wfdb.wrsamp(
        "my_ecg",
        fs=100,
        units=["mV"] * 12,
        sig_name=list(LEADS),
        d_signal=np.tile(np.rint(1000 * (factor * beat + offset)).astype(np.int64)[:, None], 12),
        fmt=["32"] * 12,
        adc_gain=[1000.0] * 12,
        baseline=[0] * 12,
        write_dir=str(folder),
    )
    return folder / "my_ecg.hea"


@pytest.mark.parametrize(("factor", "offset"), [(1.0, 0.0), (1000.0, 0.0), (1.0, 200.0), (1000.0, -5e4), (3e5, 0.0)])
def test_no_page_is_empty(tmp_path: Path, factor: float, offset: float) -> None:
    notes: list[str] = []
    draw_file(own_file(tmp_path, factor, offset), tmp_path / "a.svg", log=notes.append)
    lines, height = traces(tmp_path / "a.svg"), float(read(tmp_path / "a.svg")[0].attrib["height"][:-2])
    assert len(lines) == 13
    for line in lines:
        assert ((line[:, 1] > 0) & (line[:, 1] < height)).mean() > 0.8
        assert np.ptp(line[:, 1]) > 5, "a beat is to be seen"
    text = read(tmp_path / "a.svg")[2]
    assert ("10 mm/mV" in text) == (factor == 1)
    assert ("about the median" in text) == (offset != 0 or factor > 1e5) or factor == 3e5
    assert bool(notes) == (factor != 1 or offset != 0) == ("note: lead" in text)


def test_a_users_own_file_is_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    own_file(tmp_path, 1.0, seconds=15)
    monkeypatch.setattr(sys, "argv", ["bench", "data", "show", "my_ecg.hea", "--preprocessing", "none"])
    with pytest.raises(SystemExit) as end:
        bench.cli.main()
    assert not end.value.code
    assert (tmp_path / "ecg-my_ecg-none.svg").read_text().count("2.5-12.5 of 15 s") == 2
    with pytest.raises(DataError, match=r"nowhere.hea is missing"):
        draw_file(tmp_path / "nowhere", tmp_path / "b.svg")


def test_a_sheet_shows_the_part_that_its_title_names(tmp_path: Path) -> None:
    """A data set of 20 s from records of 30 s: the paper holds 10 s."""
    np.save(tmp_path / "a.npy", np.random.default_rng(0).normal(size=(12, 3000)).astype(np.float32))
    format = replace(FORMATS["npy"], rate=100, leads=LEADS, unit="mV")
    for seconds in (20.0, 30.0):
        path = _draw(SignalFile(tmp_path / "a", format=format), ["a"], seconds, tmp_path / "a.svg", None, print)
        assert "raw, 100 Hz, 10-20 of 30 s" in read(path)[2]


@pytest.mark.parametrize("samples", [1, 7])
def test_a_record_of_few_samples_is_refused(tmp_path: Path, samples: int) -> None:
    np.save(tmp_path / "a.npy", np.zeros((12, samples), np.float32))
    format = replace(FORMATS["npy"], rate=100, leads=LEADS, unit="mV")

    with pytest.raises(DataError, match=rf"has {samples} samples a lead; a drawing needs at least 8"):
        _draw(SignalFile(tmp_path / "a", format=format), ["a"], None, tmp_path / "a.svg", None, print)


def test_a_lead_without_a_valid_sample_says_so(square: Records, tmp_path: Path) -> None:
    assert read(draw_record(square, 1, tmp_path / "a.svg"))[2].count("no valid sample") == 1


@pytest.mark.ptbxl
def test_a_real_record(ptbxl: Path, tmp_path: Path) -> None:
    _, _, text = read(draw_record(load_records(ptbxl), 12722, tmp_path / "a.svg", "ecgfounder"))
    assert "ptb-xl-1.0.3" in text and "raw, 100 Hz" in text
