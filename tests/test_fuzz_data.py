"""Whatever stands in a file of a stranger's: it is read, or refused in one line.

`BENCH_FUZZ=20000 pytest tests/test_fuzz_data.py` tries that many inputs a kind, new ones every time.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
import scipy.io
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from bench.data.checksums import parse_sums
from bench.data.datasets import cpsc2018
from bench.data.datasets import load_records as load_any
from bench.data.datasets.ptbxl import STATEMENTS, TABLE, load_records
from bench.data.formats import read_signals
from bench.data.importing import Choices, import_table
from bench.data.info import describe
from bench.data.manifests import read_manifest, split_of
from bench.data.prepared import prepare_signals
from bench.data.signals import SignalSpec
from bench.data.tasks import LabelTable, find_task, label_table, tasks_of
from bench.data.verify import verify
from bench.data.waveforms import LEADS, read_waveform
from bench.errors import DataError
from bench.evaluation.predictions import Predictions, align
from bench.registry.catalogue import _kept, catalogue
from bench.registry.registry import registry
from bench.results.result import PREDICTIONS, Result, write_result
from bench.training.feature_cache import FeatureCache

NUM = int(os.environ.get("BENCH_FUZZ", "0"))
FUZZ = settings(
    deadline=None,
    derandomize=not NUM,
    max_examples=NUM or 80,
    database=None,
    suppress_health_check=list(HealthCheck),
)
TOKENS = (
    *(
        "",
        " ",
        "\n",
        "\r",
        ",",
        '"',
        "'",
        "\t",
        "\x00",
        "\ufeff",
        "0",
        "1",
        "-",
        "-1",
        "1.5",
        "1e9",
        "1e999",
        "nan",
        "inf",
    ),
    *("{", "}", "[", "]", ":", "{'NORM': 100.0}", "{}", "{'NORM': -1}", "{'X': 1e999}", "{1: 2}", "None", "True", "10"),
    *("99999999999999999999", "µ", "\udc80", "\x0b", "ecg_id", "train", "null", "../x", "#", "\\", "/", "0x1", "1_0"),
)
SMALL = 12


@st.composite
def mutations(draw: st.DrawFn) -> list[tuple[float, int, bytes]]:
    """Up to three edits: where, as a share of the file, how many bytes go, and what comes."""
    token = st.sampled_from(TOKENS).map(lambda text: text.encode("utf-8", "surrogateescape"))
    one = st.tuples(st.floats(0, 1), st.sampled_from([0, 0, 1, 1, 2, 5, 30, 400]), token | st.binary(max_size=4))
    return draw(st.lists(one, min_size=1, max_size=3))


def mutated(content: bytes, edits: list[tuple[float, int, bytes]]) -> bytes:
    for share, num_gone, new in edits:
        at = int(share * len(content))
        content = content[:at] + new + content[at + num_gone :]
    return content


@contextmanager
def damaged(path: Path, edits: list[tuple[float, int, bytes]]) -> Iterator[None]:
    """A file with these edits made, until the block ends."""
    original = path.read_bytes()
    path.write_bytes(mutated(original, edits))
    try:
        yield
    finally:
        path.write_bytes(original)


def read_or_refuse(read: Callable[[], object]) -> None:
    """Anything but a DataError with words is the test's failure; the command line makes one line of it."""
    refused = None
    try:
        read()
    except DataError as error:
        refused = str(error)
    assert refused is None or len(refused.split()) >= 3


@pytest.fixture(scope="module")
def small(copy_first: Callable[[int, Path], None], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few records at 100 Hz."""
    folder = tmp_path_factory.mktemp("fuzz")
    copy_first(SMALL, folder)
    return folder


@pytest.fixture(scope="module")
def table(small: Path) -> LabelTable:
    return label_table(load_records(small), find_task("all"))


def read_dataset(folder: Path) -> None:
    describe(folder, [find_task("superdiag")])


@pytest.mark.parametrize("name", [TABLE, STATEMENTS])
@FUZZ
@given(edits=mutations())
def test_a_mutated_table(small: Path, name: str, edits: list[tuple[float, int, bytes]]) -> None:
    with damaged(small / name, edits):
        read_or_refuse(lambda: read_dataset(small))


CELL = st.sampled_from(TOKENS) | st.text(max_size=6)


@FUZZ
@given(row=st.integers(0, SMALL - 1), column=st.integers(0, 27), text=CELL, every=st.booleans())
def test_a_table_with_a_wrong_cell(small: Path, row: int, column: int, text: str, every: bool) -> None:
    original = (small / TABLE).read_bytes()
    rows = pd.read_csv(small / TABLE, dtype=str, keep_default_na=False)
    rows.iloc[slice(None) if every else row, column] = text
    try:
        (small / TABLE).write_bytes(rows.to_csv(index=False).encode("utf-8", "surrogateescape"))
        read_or_refuse(lambda: read_dataset(small))
    finally:
        (small / TABLE).write_bytes(original)


@FUZZ
@given(edits=mutations())
def test_a_mutated_header(small: Path, edits: list[tuple[float, int, bytes]]) -> None:
    path = small / "records100/00000/00001_lr.hea"
    with damaged(path, edits):
        read_or_refuse(lambda: read_waveform(path.with_suffix("")))


@pytest.fixture(scope="module")
def cpsc(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two records of CPSC2018's form, and a file of folds."""
    folder = tmp_path_factory.mktemp("cpsc")
    values = np.random.default_rng(0).integers(-500, 500, (12, 100)).astype(np.int16)
    for name in ("A0001", "A0002"):
        lines = [f"{name} 12 500 100 05-Feb-2020 11:39:16"]
        for lead, row in zip(LEADS, values, strict=True):
            lines.append(f"{name}.mat 16+24 1000/mV 16 0 {row[0]} {row.sum(dtype=np.int16)} 0 {lead}")
        lines += ["#Age: 74", "#Sex: Male", "#Dx: 59118001,164889003", "#Rx: Unknown"]
        (folder / f"{name}.hea").write_text("\n".join(lines) + "\n")
        scipy.io.savemat(folder / f"{name}.mat", {"val": values}, format="4")
    (folder / cpsc2018.FOLDS).write_text("filename,strat_fold\nA0001,3\nA0002,10\n")
    return folder


@pytest.mark.parametrize("name", ["A0001.hea", "A0001.mat", cpsc2018.FOLDS])
@FUZZ
@given(edits=mutations())
def test_a_mutated_file_of_cpsc2018(cpsc: Path, name: str, edits: list[tuple[float, int, bytes]]) -> None:
    path = cpsc / name
    with damaged(path, edits):
        read_or_refuse(lambda: load_any(cpsc).content)
        read_or_refuse(lambda: read_waveform(cpsc / "A0001"))


@FUZZ
@given(edits=mutations())
def test_mutated_samples(small: Path, edits: list[tuple[float, int, bytes]]) -> None:
    path = small / "records100/00000/00001_lr.dat"
    with damaged(path, edits):
        read_or_refuse(lambda: read_waveform(path.with_suffix("")))


@settings(FUZZ, max_examples=NUM // 20 or 15)
@given(
    edits=mutations(), name=st.sampled_from([TABLE, "records100/00000/00001_lr.hea", "records100/00000/00001_lr.dat"])
)
def test_verify_tells_and_never_fails(small: Path, name: str, edits: list[tuple[float, int, bytes]]) -> None:
    original = (small / name).read_bytes()
    changed = mutated(original, edits)
    assume(changed != original)
    try:
        (small / name).write_bytes(changed)
        report = verify(small)
        assert len(report.as_rows()) == len(report.checks)
    finally:
        (small / name).write_bytes(original)


@FUZZ
@given(edits=mutations())
def test_mutated_checksums(small: Path, edits: list[tuple[float, int, bytes]]) -> None:
    lines = "".join(f"{at:064x} records100/{at:05d}_lr.dat\n" for at in range(4)).encode()
    text = mutated(lines, edits).decode(errors="replace")

    def read() -> None:
        for path in parse_sums(text, "it"):
            assert (small / path).resolve().is_relative_to(small.resolve())

    read_or_refuse(read)


MANIFESTS = {
    ".json": b'{"schema": 1, "fingerprint": null, "train": [1, 2, 3, 4], "val": [5], "test": [6], "draw": 0}',
    ".csv": b"ecg_id,split\n1,train\n2,train\n3,train\n4,val\n5,test\n",
}


@pytest.mark.parametrize("ending", MANIFESTS)
@FUZZ
@given(edits=mutations())
def test_a_mutated_manifest(small: Path, table: LabelTable, ending: str, edits: list[tuple[float, int, bytes]]) -> None:
    path = small.parent / f"fuzz{ending}"
    path.write_bytes(mutated(MANIFESTS[ending], edits))
    read_or_refuse(lambda: split_of(read_manifest(path), table, table.ecg_id))


DOCUMENT = {"task": {"fingerprint": "f" * 64}}


def read_predictions(folder: Path, table: LabelTable) -> None:
    for scores in Result(folder, DOCUMENT).predictions.values():
        align(scores, table.ecg_id, table.labels)


@FUZZ
@given(edits=mutations())
def test_a_mutated_predictions_file(small: Path, table: LabelTable, edits: list[tuple[float, int, bytes]]) -> None:
    folder = small.parent / "run"
    folder.mkdir(exist_ok=True)
    path, whole = folder / PREDICTIONS, small.parent / "whole.npz"
    if not whole.exists():
        logits = np.zeros((len(table), len(table.labels)), dtype=np.float32)
        scores = Predictions(table.ecg_id, table.labels, logits)
        write_result(folder, DOCUMENT, {10: scores})
        shutil.copy(path, whole)
    path.write_bytes(mutated(whole.read_bytes(), edits))
    read_or_refuse(lambda: read_predictions(folder, table))


ARRAYS = st.one_of(
    st.lists(st.integers(-3, 2**40), max_size=SMALL).map(np.array),
    st.lists(st.floats(width=32), max_size=4).map(lambda numbers: np.array(numbers, dtype=np.float32)),
    st.lists(st.text(max_size=3), max_size=3).map(lambda texts: np.array(texts, dtype=str)),
    st.sampled_from(
        [np.array(0), np.array("f" * 64), np.zeros((2, 2, 2)), np.array([b"x"]), np.array([1j]), np.array([])]
    ),
    st.tuples(st.integers(0, 4), st.integers(0, 4)).map(lambda shape: np.zeros(shape, dtype=np.float32)),
)
KEYS = st.sampled_from(["fingerprint", "labels", "ecg_id_fold10", "logits_fold10", "ecg_id_foldx", "ecg_id_", "extra"])


@FUZZ
@given(changed=st.dictionaries(KEYS, ARRAYS | st.none(), min_size=1, max_size=3))
def test_a_predictions_file_of_strange_arrays(
    small: Path, table: LabelTable, changed: dict[str, npt.NDArray[np.generic] | None]
) -> None:
    folder = small.parent / "strange"
    folder.mkdir(exist_ok=True)
    logits = np.zeros((len(table), len(table.labels)), dtype=np.float32)
    arrays = {"fingerprint": np.array("f" * 64), "labels": np.array(table.labels), "ecg_id_fold10": table.ecg_id}
    arrays |= {"logits_fold10": logits} | changed
    np.savez(folder / PREDICTIONS, **{key: array for key, array in arrays.items() if array is not None})
    read_or_refuse(lambda: read_predictions(folder, table))


@FUZZ
@given(
    folds=st.lists(st.integers(1, 10), min_size=SMALL, max_size=SMALL),
    patients=st.lists(st.integers(1, 6), min_size=SMALL, max_size=SMALL),
)
def test_a_set_is_read_if_and_only_if_no_patient_leaks(small: Path, folds: list[int], patients: list[int]) -> None:
    original = (small / TABLE).read_bytes()
    parts: dict[int, set[int]] = {}
    for patient, fold in zip(patients, folds, strict=True):
        parts.setdefault(patient, set()).add(max(fold, 8))
    leaks = any(len(found) > 1 for found in parts.values())
    rows = pd.read_csv(small / TABLE).assign(strat_fold=folds, patient_id=patients)
    try:
        rows.to_csv(small / TABLE, index=False)
        if leaks:
            with pytest.raises(DataError, match="would leak"):
                load_records(small)
        else:
            assert len(load_records(small)) == SMALL
    finally:
        (small / TABLE).write_bytes(original)


@pytest.fixture(scope="module")
def own_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A $BENCH_CACHE of these tests alone."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("fuzzed-cache")
        patch.setenv("BENCH_CACHE", str(folder / "cache"))
        yield folder


def files_outside(folder: Path) -> set[Path]:
    """All files of a folder but those of the cache in it."""
    return {path for path in folder.rglob("*") if not path.is_relative_to(folder / "cache")}


@pytest.mark.parametrize("name", ["about.json", "ecg_id.npy", "scale.npy", "signals.npy"])
@FUZZ
@given(edits=mutations(), where=st.sampled_from([1.0, 0.01]))
def test_a_mutated_file_of_prepared_signals(
    small: Path, own_folder: Path, name: str, edits: list[tuple[float, int, bytes]], where: float
) -> None:
    records, spec = load_records(small), SignalSpec(100, "none")
    prepare_signals(records, spec)
    (entry,) = [file.parent for file in (own_folder / "cache").rglob("about.json")]

    with damaged(entry / name, [(share * where, *rest) for share, *rest in edits]):
        signals = prepare_signals(records, spec)
        assert signals.ecg_id.tolist() == records.ecg_id.tolist()
        assert all(isinstance(value, float) for value in (signals.scaling.mean, signals.scaling.std))
        assert all(isinstance(ids, list) for ids in signals.findings.values())
    assert not files_outside(own_folder)


@FUZZ
@given(edits=mutations(), where=st.sampled_from([1.0, 0.05]))
def test_a_mutated_file_of_cached_features(
    own_folder: Path, edits: list[tuple[float, int, bytes]], where: float
) -> None:
    kept = FeatureCache(own_folder / "cache" / "features" / "a-set")
    shutil.rmtree(kept.folder, ignore_errors=True)
    ids, features = np.arange(6), np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
    kept.save(ids[:3], features[:3], 1.0)
    (part,) = kept.folder.glob("part-*.npz")
    kept.save(ids[3:], features[3:], 1.0)
    part.write_bytes(mutated(part.read_bytes(), [(share * where, *rest) for share, *rest in edits]))

    known, found, seconds = kept.load(ids)

    assert known[3:].all()
    np.testing.assert_array_equal(found, features[known])  # each file of an archive has a checksum
    assert seconds.shape == (known.sum(),)
    assert not files_outside(own_folder)


def test_features_of_another_width_are_damage(own_folder: Path) -> None:
    kept, notes = FeatureCache(own_folder / "cache" / "features" / "widths"), list[str]()
    kept.save(np.arange(3), np.ones((3, 4), np.float32), 1.0)
    (part,) = kept.folder.glob("part-*.npz")
    part.rename(part.with_name("part-0.npz"))
    kept.save(np.arange(3, 6), np.ones((3, 5), np.float32), 1.0)

    known, found, _ = kept.load(np.arange(6), notes.append)

    assert known.sum() == 3 and found.shape[1] in (4, 5)
    assert len(notes) == 1 and "is damaged" in notes[0]


@pytest.fixture(scope="module")
def kept_catalogue(own_folder: Path) -> Path:
    """The file of the catalogue, as `bench list` leaves it."""
    registry.cache_clear()
    catalogue()
    (file,) = (own_folder / "cache").glob("catalogue-*.json")
    return file


@FUZZ
@given(edits=mutations())
def test_a_mutated_catalogue(kept_catalogue: Path, own_folder: Path, edits: list[tuple[float, int, bytes]]) -> None:
    expected, notes = json.loads(kept_catalogue.read_text()), list[str]()
    with damaged(kept_catalogue, edits):
        read = _kept(kept_catalogue, expected["state"], notes.append)
    assert read is None or read.entries == expected["entries"]
    assert not files_outside(own_folder)


PLAIN = {
    "dataset.toml": 'name = "mine"\nlicence = "CC0"\nsource = "here"\nrate = 100\nseconds = 1\ncontent = "01234567"\n'
    f'[signals]\nformat = "npy"\nfolder = "."\nunit = "1 uV"\nleads = {json.dumps(LEADS)}\n',
    "records.csv": "record,patient,fold,labels,age,sex,site,file,row\n"
    + "".join(f"r{n},p{n},{n % 10 + 1},{'AF;LVH' if n % 2 else ''},{n + 40},F,a,x,{n}\n" for n in range(SMALL)),
    "labels.csv": "code,description,ptbxl,group\nAF,fibrillation,AFIB,rhythm\nLVH,hypertrophy,LVH,\n",
}
"""Name -> content of the files of a plain folder with one array."""


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plain folder, and a table from which it could be imported."""
    folder = tmp_path_factory.mktemp("plain")
    for name, text in PLAIN.items():
        (folder / name).write_text(text)
    np.save(folder / "x.npy", np.random.default_rng(0).integers(-900, 900, (SMALL, 12, 100)).astype(np.int16))
    rows = [f"r{n};p{n};{n + 40}Y;M;['AFIB', 'SR'];{n % 2};{('train', 'val', 'test')[n % 3]}" for n in range(SMALL)]
    (folder / "given.csv").write_text("\n".join(["ID;Patient;Age;Sex;Dx;LVH;fold", *rows]) + "\n")
    return folder


def read_plain(folder: Path) -> None:
    records = load_any(folder)
    label_table(records, tasks_of(records)[0])
    assert records.name
    read_signals(records.signal_files(next(iter(records.filenames)))[0])


@pytest.mark.parametrize("name", [*PLAIN, "x.npy"])
@FUZZ
@given(edits=mutations())
def test_a_mutated_file_of_a_plain_folder(plain: Path, name: str, edits: list[tuple[float, int, bytes]]) -> None:
    if name == "x.npy":  # nearly all of it are samples, and any are right
        edits = [(share * 0.01, *rest) for share, *rest in edits]
    with damaged(plain / name, edits):
        read_or_refuse(lambda: read_plain(plain))


@FUZZ
@given(edits=mutations())
def test_a_mutated_table_is_imported_or_refused(plain: Path, edits: list[tuple[float, int, bytes]]) -> None:
    out = plain / "out"
    given = Choices(
        name="mine",
        patient="Patient",
        records=plain / "x.npy",
        labels="Dx,LVH",
        rate=100,
        unit="1 uV",
        leads=",".join(LEADS),
    )
    with damaged(plain / "given.csv", edits):
        read_or_refuse(lambda: import_table(plain / "given.csv", out, given))
    if out.exists():
        read_plain(out)  # what was imported can be read
        shutil.rmtree(out)
