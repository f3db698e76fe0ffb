"""A trained cell on a user's own records: the same numbers as in its run, whatever the order of the leads."""

import csv
import io
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import wfdb
from numpy.typing import NDArray

from bench.cell import Cell
from bench.errors import CheckpointError, DataError
from bench.execute import Options, execute
from bench.inference import predict_records
from bench.registry.reference import Reference
from bench.registry.registry import make, registry
from bench.results.result import Result
from methods.peft import LoRA

WHOLE = ("net1d_mini", "lp(probe_epochs=2)")
WINDOWED = ("fcn_wang", "scratch(epochs=1)")
PER_WINDOW = ("windowed", "lp(probe_epochs=1)")


@pytest.fixture(scope="module")
def runs(demo_set: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Result]]:
    """Finished runs of backbones that see whole records, windows, and windows that are each preprocessed."""
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry(), "plugins", dict(registry().plugins))
        registry().load_file(Path(__file__).parent / "plugins" / "windowed_backbone.py")
        cells = [
            Cell(data=demo_set, task="superdiag", arch=Reference(arch), method=Reference.parse(method))
            for arch, method in (WHOLE, WINDOWED, PER_WINDOW)
        ]
        yield {str(cell.arch): execute(cell, Options(runs=folder)) for cell in cells}


def probabilities(run: Result, records: list[Path]) -> NDArray[np.float64]:
    """[record, label] of what is printed."""
    rows = list(csv.DictReader(io.StringIO(predict_records(run.folder, records))))
    assert [row["record"] for row in rows] == [path.stem for path in records]
    return np.array([[float(row[label]) for label in run.document["task"]["labels"]] for row in rows])


def records_of(data: Path, ecg_ids: NDArray[np.int64], column: str = "filename_lr") -> list[Path]:
    """Paths of records without extension."""
    names = pd.read_csv(data / "ptbxl_database.csv", index_col="ecg_id")[column]
    return [data / names[ecg_id] for ecg_id in ecg_ids]


@pytest.mark.parametrize("fold", [9, 10])
@pytest.mark.parametrize("arch", ["net1d_mini", "fcn_wang", "windowed"])
def test_records_get_the_probabilities_of_the_run(
    arch: str, fold: int, runs: dict[str, Result], demo_set: Path
) -> None:
    stored = runs[arch].predictions[fold]
    found = probabilities(runs[arch], records_of(demo_set, stored.ecg_id))

    assert found.std(axis=0).max() > 1e-3, "all the same tells nothing"
    np.testing.assert_allclose(found, 1 / (1 + np.exp(-stored.logits.astype(float))), atol=1e-5, rtol=0)


def test_a_default_that_changed_after_the_run_does_not_change_its_model(
    demo_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lora = Reference.parse("lora(epochs=1)")
    run = execute(
        Cell(data=demo_set, task="superdiag", arch=Reference("net1d_mini"), method=lora), Options(runs=tmp_path)
    )
    monkeypatch.setattr(LoRA.__init__, "__defaults__", (30, 0.001, 0.0, 4, 16.0))
    assert make("method", lora).rank == 4 != run.document["method"]["resolved"]["rank"]
    stored = run.predictions[9]

    found = probabilities(run, records_of(demo_set, stored.ecg_id))

    np.testing.assert_allclose(found, 1 / (1 + np.exp(-stored.logits.astype(float))), atol=1e-5, rtol=0)


@pytest.mark.parametrize("ending", ["", ".hea", ".dat"])
def test_the_extension_does_not_matter(ending: str, runs: dict[str, Result], demo_set: Path) -> None:
    (path,) = records_of(demo_set, np.array([1]))

    assert probabilities(runs["net1d_mini"], [path.with_name(path.name + ending)]).shape == (1, 5)


INVALID = -(2**15)


def rewrite(
    path: Path,
    folder: Path,
    order: Sequence[int] = range(12),
    name: str = "mine.v2",
    seconds: float = 10.0,
    blank: Mapping[int, int] = {},
    blank_seconds: float = 10.0,
) -> Path:
    """A record again, with its leads in another order, shorter, or with one digital value all over some leads."""
    record = wfdb.rdrecord(str(path), physical=False)
    for lead, value in blank.items():
        record.d_signal[: int(blank_seconds * record.fs), lead] = value
    wfdb.wrsamp(
        name.replace(".", "_"),
        fs=record.fs,
        units=["mV"] * 12,
        sig_name=[record.sig_name[at] for at in order],
        d_signal=record.d_signal[: int(seconds * record.fs), order],
        fmt=["16"] * 12,
        adc_gain=[record.adc_gain[at] for at in order],
        baseline=[record.baseline[at] for at in order],
        write_dir=str(folder),
    )
    return folder / name.replace(".", "_")


@pytest.mark.parametrize("arch", ["net1d_mini", "fcn_wang"])
def test_leads_are_found_by_name(arch: str, runs: dict[str, Result], demo_set: Path, tmp_path: Path) -> None:
    (path,) = records_of(demo_set, np.array([5]))
    shuffled = rewrite(path, tmp_path, [11, 3, 0, 5, 2, 1, 4, 10, 6, 9, 7, 8], "shuffled")

    np.testing.assert_array_equal(probabilities(runs[arch], [shuffled]), probabilities(runs[arch], [path]))


def test_records_at_another_rate_are_resampled(runs: dict[str, Result], demo_set: Path) -> None:
    ids = runs["net1d_mini"].predictions[10].ecg_id[:8]
    low, high = (
        probabilities(runs["net1d_mini"], records_of(demo_set, ids, column))
        for column in ("filename_lr", "filename_hr")
    )

    assert not np.array_equal(low, high)
    assert abs(low - high).max() < 0.5 * np.ptp(low, axis=0).max()


def test_a_record_shorter_than_the_window_is_refused(runs: dict[str, Result], demo_set: Path, tmp_path: Path) -> None:
    (path,) = records_of(demo_set, np.array([5]))
    short = rewrite(path, tmp_path, name="short", seconds=2.0)

    with pytest.raises(DataError, match=r"short lasts 2 s; this backbone needs at least 2.5 s"):
        predict_records(runs["fcn_wang"].folder, [short])


def test_a_record_as_long_as_the_window_is_scored(runs: dict[str, Result], demo_set: Path, tmp_path: Path) -> None:
    (path,) = records_of(demo_set, np.array([5]))

    assert probabilities(runs["fcn_wang"], [rewrite(path, tmp_path, name="just", seconds=2.5)]).shape == (1, 5)


def test_a_longer_record_is_scored_by_its_windows(runs: dict[str, Result], demo_set: Path, tmp_path: Path) -> None:
    (path,) = records_of(demo_set, np.array([5]))
    part = rewrite(path, tmp_path, name="part", seconds=6.25)  # its windows are four of the seven of the record

    assert (probabilities(runs["fcn_wang"], [part]) <= probabilities(runs["fcn_wang"], [path]) + 1e-6).all()


@pytest.mark.parametrize("value", [0, 250, INVALID], ids=["zeros", "flat", "invalid"])
def test_a_record_without_a_signal_is_refused(
    value: int, runs: dict[str, Result], demo_set: Path, tmp_path: Path
) -> None:
    (path,) = records_of(demo_set, np.array([5]))
    silent = rewrite(path, tmp_path, name="silent", blank=dict.fromkeys(range(12), value))

    with pytest.raises(DataError, match=r"silent has no signal: every lead is flat or missing"):
        predict_records(runs["net1d_mini"].folder, [silent])


@pytest.mark.parametrize("seconds", [0.01, 0.5])
def test_less_than_a_second_is_refused(seconds: float, runs: dict[str, Result], demo_set: Path, tmp_path: Path) -> None:
    (path,) = records_of(demo_set, np.array([5]))
    short = rewrite(path, tmp_path, name="short", seconds=seconds)

    with pytest.raises(DataError, match=rf"short lasts {seconds:g} s; this backbone needs at least 1 s"):
        predict_records(runs["net1d_mini"].folder, [short])


def test_what_is_unlike_training_is_told_and_predicted(runs: dict[str, Result], demo_set: Path, tmp_path: Path) -> None:
    (path,) = records_of(demo_set, np.array([5]))
    flat = rewrite(path, tmp_path, name="flat", blank={6: 0, 8: INVALID})
    holes = rewrite(path, tmp_path, name="holes", blank={7: INVALID}, blank_seconds=0.5)
    short = rewrite(path, tmp_path, name="short", seconds=6.0)
    log: list[str] = []

    printed = predict_records(runs["net1d_mini"].folder, [path, flat, holes, short], log.append)
    assert printed.count("\n") == 5
    assert log == [
        f"{flat} has no signal in V1, V3; its probabilities rest on the other leads",
        f"{holes} has invalid samples in V2, set to 0 mV",
        f"{short} lasts 6 s; the run was trained on records of 10 s",
    ]
    log.clear()
    predict_records(runs["fcn_wang"].folder, [path, short], log.append)
    assert not log, "windows of 2.5 s are what it was trained on"


@pytest.mark.parametrize("name", [".", "records100", "records100/00000"])
def test_a_folder_is_no_record(
    name: str, runs: dict[str, Result], demo_set: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(demo_set)

    with pytest.raises(DataError, match=rf"^{name} is a folder; name the records in it"):
        predict_records(runs["net1d_mini"].folder.resolve(), [Path(name)])


def test_records_of_one_name_have_their_paths(runs: dict[str, Result], demo_set: Path, tmp_path: Path) -> None:
    first, other = records_of(demo_set, [1, 2])
    for record, name in ((first, "5"), (other, "5"), (other, "6")):
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        folder.mkdir()
        read = wfdb.rdrecord(str(record))
        wfdb.wrsamp(name, read.fs, read.units, read.sig_name, read.p_signal, fmt=["16"] * 12, write_dir=str(folder))
    given = [tmp_path / "0/5", tmp_path / "1/5", tmp_path / "2/6"]
    files = [tmp_path / "0/5.hea", given[1], tmp_path / "2/6.dat", tmp_path / "2/6.hea", tmp_path / "0/5.dat"]
    printed = predict_records(runs["net1d_mini"].folder, given)
    assert predict_records(runs["net1d_mini"].folder, files) == printed, "endings make no other records"
    rows = list(csv.DictReader(io.StringIO(printed)))

    assert [row["record"] for row in rows] == [str(given[0]), str(given[1]), "6"]


def test_nothing_is_given_unless_all_can_be_read(runs: dict[str, Result], demo_set: Path) -> None:
    (path,) = records_of(demo_set, np.array([5]))

    with pytest.raises(DataError, match=r"nowhere.*missing"):
        predict_records(runs["net1d_mini"].folder, [path, path.with_name("nowhere")])


def test_a_run_without_weights_says_how_to_get_them(runs: dict[str, Result], demo_set: Path, tmp_path: Path) -> None:
    shutil.copytree(runs["net1d_mini"].folder, tmp_path / "run")
    (tmp_path / "run" / "weights.pt").unlink()

    with pytest.raises(
        CheckpointError, match="kept no weights; run its cell again with --keep-weights best --overwrite"
    ):
        predict_records(tmp_path / "run", [])
    with pytest.raises(DataError, match="no finished run at"):
        predict_records(tmp_path, [])


def test_weights_of_another_run_are_refused(runs: dict[str, Result], demo_set: Path, tmp_path: Path) -> None:
    """They have the right names and shapes."""
    shutil.copytree(runs["net1d_mini"].folder, tmp_path / "run")
    weights = tmp_path / "run" / "weights.pt"
    content = torch.load(weights, weights_only=True)
    content["state_dict"]["head.bias"] += 1e-6
    torch.save(content, weights)

    with pytest.raises(CheckpointError, match=r"weights\.pt holds other weights than those of this run"):
        predict_records(tmp_path / "run", [])


def test_a_cell_that_was_declined_has_nothing_to_predict_with(demo_set: Path, tmp_path: Path) -> None:
    cell = Cell(data=demo_set, task="superdiag", arch=Reference("fcn_wang"), method=Reference("ft-sd"))
    result = execute(cell, Options(runs=tmp_path))

    with pytest.raises(CheckpointError, match="trained nothing, because its method declined: stochastic depth"):
        predict_records(result.folder, [])
