"""Each format gives the same signals in mV with leads by name; what a file lacks or contradicts is named."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from bench.data.formats import FORMATS, WFDB, SignalFile, SignalFormat, Stored, millivolts, num_records, read_signals
from bench.data.waveforms import LEADS, Note
from bench.errors import DataError, PluginError

RATE, NUM, LENGTH = 250, 3, 500


@pytest.fixture(scope="module")
def signals() -> npt.NDArray[np.float32]:
    """[record, lead, time] in mV, in steps of 1 uV."""
    rng = np.random.default_rng(0)
    return (rng.integers(-1500, 1500, (NUM, 12, LENGTH)) / 1000).astype(np.float32)


def stated(kind: str, **changes: object) -> SignalFormat:
    return replace(FORMATS[kind], **{"rate": RATE, "leads": LEADS, "unit": "mV", **changes})  # type: ignore[arg-type]


def read(source: SignalFile) -> npt.NDArray[np.float32]:
    got, rate = read_signals(source)
    assert rate == RATE
    return got


@pytest.mark.parametrize("time_first", [False, True])
@pytest.mark.parametrize("unit", ["mV", "uV", "1 uV", "V"])
def test_one_npy_file_for_all_records(
    signals: npt.NDArray[np.float32], tmp_path: Path, time_first: bool, unit: str
) -> None:
    values = signals.astype(np.float64) / millivolts(unit)
    np.save(tmp_path / "x.npy", values.transpose(0, 2, 1) if time_first else values)
    format = stated("npy", unit=unit)

    for row in range(NUM):
        assert np.allclose(read(SignalFile(tmp_path / "x", row, format)), signals[row], atol=1e-6)
    assert num_records(SignalFile(tmp_path / "x", 0, format)) == NUM


def test_a_file_a_record_with_leads_in_another_order(signals: npt.NDArray[np.float32], tmp_path: Path) -> None:
    np.save(tmp_path / "r1.npy", signals[0, ::-1])
    source = SignalFile(tmp_path / "r1", None, stated("npy", leads=LEADS[::-1]))

    assert np.array_equal(read(source), signals[0])
    assert np.array_equal(read_signals(source, ("V2", "I"))[0], signals[0, [7, 0]])


def test_eight_leads_give_twelve(signals: npt.NDArray[np.float32], tmp_path: Path) -> None:
    eight = [0, 1, 6, 7, 8, 9, 10, 11]
    np.save(tmp_path / "r1.npy", signals[0, eight])
    notes: list[Note] = []
    got, _ = read_signals(
        SignalFile(tmp_path / "r1", None, stated("npy", leads=tuple(LEADS[at] for at in eight))), log=notes.append
    )

    assert np.array_equal(got[eight], signals[0, eight])
    assert np.allclose(got[2], signals[0, 1] - signals[0, 0], atol=1e-6)
    assert [note.kind for note in notes] == ["derived"]


def test_integers_with_a_step_and_what_is_not_finite(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.full((12, LENGTH), 200, dtype=np.int16))
    assert np.allclose(read(SignalFile(tmp_path / "a", None, stated("npy", unit="4.88 uV"))), 0.976)

    values = np.ones((12, LENGTH))
    values[3, 5], values[4, 6] = np.inf, np.nan
    np.save(tmp_path / "b.npy", values)
    got = read(SignalFile(tmp_path / "b", None, stated("npy")))
    assert np.argwhere(np.isnan(got)).tolist() == [[3, 5], [4, 6]]


def test_only_one_record_is_read_into_memory(tmp_path: Path) -> None:
    """Of a file with a hole of 20 GB."""
    from numpy.lib.format import open_memmap

    array = open_memmap(tmp_path / "x.npy", mode="w+", dtype=np.float32, shape=(400_000, 12, 1000))
    array[399_999, 2] = 0.5
    array.flush()
    del array
    got = read(SignalFile(tmp_path / "x", 399_999, stated("npy")))

    assert got.shape == (12, 1000) and got[2].max() == 0.5 and got[1].max() == 0


@pytest.mark.parametrize("row", [None, 1])
def test_hdf5(signals: npt.NDArray[np.float32], tmp_path: Path, row: int | None) -> None:
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["ecg/tracings"] = (signals if row is not None else signals[1]).swapaxes(-1, -2)
        file["labels"] = np.zeros(NUM)
    source = SignalFile(tmp_path / "x", row, stated("hdf5", array="ecg/tracings"))

    assert np.array_equal(read(source), signals[1])
    with pytest.raises(DataError, match="has no array ''; it has ecg/tracings, labels; name one"):
        read(replace(source, format=stated("hdf5")))
    with pytest.raises(DataError, match=r"holds 3 records, and record 3 is asked for|has the shape"):
        read(replace(source, row=3))
    (tmp_path / "x.h5").write_bytes((tmp_path / "x.h5").read_bytes()[:700])
    with pytest.raises(DataError, match="cannot be read as HDF5"):
        read(source)


def test_edf(signals: npt.NDArray[np.float32], tmp_path: Path) -> None:
    pyedflib = pytest.importorskip("pyedflib")
    with pyedflib.EdfWriter(str(tmp_path / "x.edf"), 12, file_type=pyedflib.FILETYPE_EDFPLUS) as file:
        for at, lead in enumerate(LEADS):
            facts = {"label": f"ECG {lead}", "dimension": "uV", "sample_frequency": RATE, "transducer": ""}
            ends = {"physical_max": 3000, "physical_min": -3000, "digital_max": 32767, "digital_min": -32768}
            file.setSignalHeader(at, {**facts, **ends, "prefilter": ""})
        file.writeSamples(list((signals[0] * 1000).astype(np.float64)))
    source = SignalFile(tmp_path / "x", format=FORMATS["edf"])

    assert np.allclose(read(source), signals[0], atol=1e-4)
    (tmp_path / "x.edf").write_bytes(b"0" * 500)
    with pytest.raises(DataError, match=r"x\.edf cannot be read as EDF"):
        read(source)


def test_dicom(signals: npt.NDArray[np.float32], tmp_path: Path) -> None:
    pydicom = pytest.importorskip("pydicom")
    from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
    from pydicom.sequence import Sequence

    def item(**values: object) -> Dataset:
        made = Dataset()
        for key, value in values.items():
            setattr(made, key, value)
        return made

    channels = [
        item(
            ChannelSourceSequence=Sequence([item(CodeValue="1", CodeMeaning=f"Lead {lead}")]),
            ChannelSensitivity=1.0,
            ChannelSensitivityCorrectionFactor=1.0,
            ChannelBaseline=0.0,
            ChannelSensitivityUnitsSequence=Sequence([item(CodeValue="uV", CodingSchemeDesignator="UCUM")]),
            WaveformBitsStored=16,
        )
        for lead in LEADS
    ]
    group = item(
        NumberOfWaveformChannels=12,
        NumberOfWaveformSamples=LENGTH,
        SamplingFrequency=RATE,
        ChannelDefinitionSequence=Sequence(channels),
        WaveformBitsAllocated=16,
        WaveformSampleInterpretation="SS",
        WaveformData=np.rint(signals[0].T * 1000).astype("<i2").tobytes(),
    )
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    record = FileDataset("x", {}, file_meta=meta, preamble=b"\0" * 128)
    record.WaveformSequence = Sequence([group])
    record.save_as(tmp_path / "x.dcm", enforce_file_format=False)
    source = SignalFile(tmp_path / "x", format=FORMATS["dicom"])

    assert np.allclose(read(source), signals[0], atol=1e-6)
    whole = (tmp_path / "x.dcm").read_bytes()
    for at in range(130, 1000, 7):  # damaged tags and lengths; some ask for 4 GB
        (tmp_path / "x.dcm").write_bytes(whole[:at] + b"\xff" * 4 + whole[at + 4 :])
        with contextlib.suppress(DataError):
            read_signals(source)
    (tmp_path / "x.dcm").write_bytes(b"no dicom")
    with pytest.raises(DataError, match=r"x\.dcm cannot be read as a DICOM waveform"):
        read(source)


@pytest.mark.parametrize(
    ("values", "row", "changes", "words"),
    [
        (np.zeros((12, 8)), 0, {}, r"has the shape \[12, 8\], expected \[record, lead, time\]"),
        (np.zeros((2, 12, 8)), None, {}, r"has the shape \[2, 12, 8\], expected \[lead, time\]"),
        (np.zeros((2, 12, 8)), 2, {}, "holds 2 records, and record 2 is asked for"),
        (np.zeros((8, 500)), None, {}, "has 8 x 500 values a record and 12 leads are named"),
        (np.zeros((12, 12)), None, {}, "expected exactly one axis of that length"),
        (np.zeros((12, 0)), None, {}, "expected leads of some seconds"),
        (np.zeros((12, 500), dtype="U3"), None, {}, "holds values of type <U3, expected numbers"),
        (np.zeros((12, 500)), None, {"unit": "counts"}, "has signals in 'counts', expected mV"),
        (np.zeros((12, 500)), None, {"unit": "0 mV"}, "has signals in '0 mV'"),
        (np.zeros((7, 500)), None, {"leads": LEADS[5:]}, "has no lead I, II, III, aVR, aVL; it has aVF"),
        (np.array([object()]), None, {}, "cannot be read as a .npy file"),
        (np.array(5), None, {}, "is no array"),
    ],
)
def test_an_array_that_does_not_fit_is_named(
    tmp_path: Path, values: npt.NDArray[np.generic], row: int | None, changes: dict[str, object], words: str
) -> None:
    np.save(tmp_path / "x.npy", values, allow_pickle=True)
    with pytest.raises(DataError, match=words):
        read(SignalFile(tmp_path / "x", row, stated("npy", **changes)))


def test_a_file_that_is_missing_or_is_something_else_is_named(tmp_path: Path) -> None:
    source = SignalFile(tmp_path / "x", None, stated("npy"))
    with pytest.raises(DataError, match=r"x\.npy is missing"):
        read(source)
    (tmp_path / "x.npy").write_text("record,lead\n")
    with pytest.raises(DataError, match=r"x\.npy cannot be read as a \.npy file"):
        read(source)


def leads_last(source: SignalFile) -> Stored:
    """A plugin's format that forgets which axis comes first."""
    return Stored(np.zeros((LENGTH, 12)), LEADS, RATE, "mV")


def one_lead(source: SignalFile) -> Stored:
    return Stored(np.zeros(LENGTH), ("I",), RATE, "mV")


def a_tuple(source: SignalFile) -> Stored:
    return np.zeros((12, LENGTH)), LEADS, RATE, "mV"  # type: ignore[return-value]


def texts(source: SignalFile) -> Stored:
    return Stored(np.full((12, LENGTH), "0"), LEADS, RATE, "mV")


def a_list(source: SignalFile) -> Stored:
    return Stored([[lead] * LENGTH for lead in range(12)], LEADS, RATE, "mV")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (leads_last, r"the shape \[500, 12\] and names 12 leads, expected \[lead, time\], .*; transpose them$"),
        (one_lead, r"the shape \[500\] and names 1 leads, expected \[lead, time\], with a row for each lead$"),
        (a_tuple, "returns a tuple, expected a bench.plugin.Stored"),
        (texts, "returns values of type <U1, expected numbers"),
    ],
)
def test_what_a_plugins_format_returns_in_another_form_is_named(tmp_path: Path, wrong: object, words: str) -> None:
    source = SignalFile(tmp_path / "r1", format=replace(WFDB, read=wrong))  # type: ignore[arg-type]
    with pytest.raises(DataError, match=rf"r1.hea: its reader, {__name__}, .*{words}"):
        read_signals(source)


def test_a_plugins_format_may_return_lists(tmp_path: Path) -> None:
    assert read(SignalFile(tmp_path / "r1", format=replace(WFDB, read=a_list)))[:, 7].tolist() == list(range(12))


def test_a_format_reads_by_a_function_that_other_processes_can_import() -> None:
    def inner(source: SignalFile) -> Stored:
        return a_list(source)

    for wrong in (inner, lambda source: a_list(source), partial(a_list)):
        with pytest.raises(PluginError, match="expected a function at the top of a module"):
            replace(WFDB, read=wrong)


def test_the_code_of_a_plugins_format_is_known() -> None:
    assert len(replace(WFDB, read=a_list).code_sha256) == 64
    assert {format.code_sha256 for format in FORMATS.values()} == {""}, "ours are part of the harness"
