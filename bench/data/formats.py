"""Read the signals of one record from files of several formats: `read_signals` gives [lead, time] in mV.

WFDB files state rate, leads and unit themselves. An array file does not, so `SignalFormat` states them. A format reads
one record at a time, so that memory does not grow with the data set.
"""

from __future__ import annotations

import contextlib
import importlib
import re
import struct
import tokenize
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from bench.data.leads import LEADS, choose_leads
from bench.data.waveforms import MAX_RATE, MILLIVOLTS, Note, check_amplitude, read_waveform
from bench.errors import DataError, PluginError, first_line
from bench.files import require_file
from bench.registry.source import function_hash, is_at_top

MAX_SAMPLES = 10_000_000
"""Maximum number of samples of a record in all leads: 12 leads of 14 minutes at 1,000 Hz."""
_UNIT = re.compile(r"\s*(?P<size>\d+\.?\d*(?:[eE][+-]?\d+)?|\.\d+(?:[eE][+-]?\d+)?)?\s*(?P<unit>[^\W\d]+)\s*")


class Stored(NamedTuple):
    """The signals of one record as a file holds them."""

    values: npt.NDArray[Any]
    """[lead, time]"""
    leads: tuple[str, ...]
    rate: int
    """Hz"""
    unit: str
    """Unit of a value, or of a step of it: `mV`, `uV`, `4.88 uV`."""


@dataclass(frozen=True)
class SignalFormat:
    """How the files of a data set hold signals, and what they do not state themselves."""

    name: str = "wfdb"
    endings: tuple[str, ...] = (".hea", ".dat")
    """Endings of the files of a record. The name of a record's file is written without them."""
    read: Callable[[SignalFile], Stored] | None = None
    """Read one record: a function at the top level of a module. None: `read_waveform`, for WFDB."""
    rate: int = 0
    """Hz; 0 if the files state it."""
    leads: tuple[str, ...] = ()
    unit: str = ""
    array: str = ""
    """HDF5: path of the array in the file."""

    def __post_init__(self) -> None:
        if self.read is not None and not is_at_top(self.read):
            raise PluginError(
                f"format {self.name!r} reads by {self.read!r:.80}, expected a function at the top of a module: other "
                "processes import it from there, and its code is part of the name of the cached signals"
            )

    @property
    def module(self) -> str:
        """Name of the module that defines `read`."""
        return self.read.__module__ if self.read else __name__

    @property
    def code_sha256(self) -> str:
        """SHA-256 over the code of a plugin's `read`; empty for the formats of `bench`."""
        return function_hash(self.read) if self.read else ""


WFDB = SignalFormat()


@dataclass(frozen=True)
class SignalFile:
    """Where the signals of one record are."""

    path: Path
    """Path of the file, without the endings of the format."""
    row: int | None = None
    """Position of the record in a file that holds many."""
    format: SignalFormat = WFDB

    @property
    def file(self) -> Path:
        """Path of the first file, with its ending."""
        return self.path.with_name(self.path.name + self.format.endings[0])

    def __str__(self) -> str:
        return str(self.file) if self.row is None else f"{self.file}, record {self.row}"


def read_signals(
    source: SignalFile, leads: tuple[str, ...] = LEADS, log: Callable[[Note], None] = lambda note: None
) -> tuple[npt.NDArray[np.float32], int]:
    """Return signals [lead, time] of a record in mV, in the order of `leads` (matched by name), and the rate in Hz.

    Invalid samples are NaN. `log` receives a note on each irregularity. Raises DataError if the record is missing,
    cannot be read, lacks a lead, or has a unit that is not one of voltage.
    """
    if source.format.read is None:
        return read_waveform(source.path, leads, log)
    try:
        stored = source.format.read(source)
    except FileNotFoundError:
        raise DataError(f"{source.file} is missing") from None
    except OSError as error:
        raise DataError(f"{source.file} cannot be read: {error.strerror or error}") from None
    values = _checked(stored, source)
    try:
        step = millivolts(stored.unit)
        choice = choose_leads(stored.leads, leads)
    except DataError as error:
        raise DataError(f"{source} {error}") from None
    values = values[list(choice.columns)].astype(np.float64) * step
    values[~np.isfinite(values)] = np.nan
    signals = choice.assemble(values).astype(np.float32)
    for note in (*(Note(kind, text) for kind, text in choice.notes), *check_amplitude(signals, leads)):
        log(note)
    return signals, whole_rate(stored.rate, source)


def _checked(stored: object, source: SignalFile) -> npt.NDArray[Any]:
    """Return the values [lead, time] of what a format has read. Raises DataError if they have another form.

    A plugin's format may return anything; `_stored` looks for the lead axis of the arrays of `bench` alone.
    """
    reader = f"{source}: its reader, {source.format.module},"
    if not isinstance(stored, Stored):
        raise DataError(f"{reader} returns a {type(stored).__name__}, expected a bench.plugin.Stored")
    values, leads = np.asarray(stored.values), stored.leads
    if values.dtype.kind not in "iuf":
        raise DataError(f"{reader} returns values of type {values.dtype}, expected numbers")
    if values.ndim != 2 or len(values) != len(leads):
        hint = "; transpose them" if values.ndim == 2 and values.shape[1] == len(leads) else ""
        raise DataError(
            f"{reader} returns values of the shape {list(values.shape)} and names {len(leads)} leads, expected "
            f"[lead, time], with a row for each lead{hint}"
        )
    return values


def millivolts(unit: str) -> float:
    """Return the size in mV of a unit, or of a step such as `4.88 uV`. Raises DataError for any other text."""
    match = _UNIT.fullmatch(unit)
    if match is None or match["unit"].lower() not in MILLIVOLTS or not 0 < (size := float(match["size"] or 1)) < 1e18:
        raise DataError(f"has signals in {unit[:40]!r}, expected mV, uV, nV or V, or a step of it such as 4.88 uV")
    return size * MILLIVOLTS[match["unit"].lower()]


def read_npy(source: SignalFile) -> Stored:
    """Read a record from a .npy file: [lead, time] or [time, lead], with a record axis before them if it holds many."""
    return _stored(_open_npy(source), source)


NPY_DAMAGE = (
    *(ValueError, EOFError, SyntaxError, TypeError, OverflowError, MemoryError, RecursionError, KeyError),
    *(AttributeError, tokenize.TokenError),
)
"""Exceptions of numpy.load for a file that is damaged or is something else: its header is a Python literal."""


def _open_npy(source: SignalFile) -> npt.NDArray[Any]:
    """Return the array of a .npy file, memory-mapped."""
    require_file(source.file)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # on headers as Python 2 wrote them
            array: npt.NDArray[Any] = np.load(source.file, mmap_mode="r", allow_pickle=False)
    except NPY_DAMAGE as error:
        reason = first_line(error)
        raise DataError(
            f"{source.file} cannot be read as a .npy file ({reason}); expected numbers of one type, as numpy.save "
            "writes them"
        ) from None
    if not isinstance(array, np.ndarray) or array.ndim == 0:
        raise DataError(f"{source.file} is no array; expected a .npy file, as numpy.save writes it")
    return array


def read_hdf5(source: SignalFile) -> Stored:
    """Read a record from an array in an HDF5 file, with the axes of `read_npy`. Needs h5py."""
    with open_hdf5(source) as array:
        return _stored(array, source)


@contextlib.contextmanager
def open_hdf5(source: SignalFile) -> Iterator[Any]:
    """Yield the array of an HDF5 file: the one that the format names, or the only one."""
    h5py = library("h5py", "hdf5")
    require_file(source.file)
    try:
        with h5py.File(source.file, "r") as file:
            names: list[str] = []
            file.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
            name = source.format.array or (names[0] if len(names) == 1 else "")
            if name not in names or not file[name].ndim:
                raise DataError(
                    f"{source.file} has no array {name!r}; it has {', '.join(names[:8]) or 'none'}; name one as `array`"
                )
            yield file[name]
    except (OSError, RuntimeError, KeyError) as error:
        reason = first_line(error)
        raise DataError(f"{source.file} cannot be read as HDF5: {reason}") from None


def read_edf(source: SignalFile) -> Stored:
    """Read a record from an EDF or EDF+ file whose leads share one rate. Needs pyedflib."""
    pyedflib = library("pyedflib", "edf")
    require_file(source.file)
    try:
        with pyedflib.EdfReader(str(source.file)) as file:
            known = [n for n, label in enumerate(file.getSignalLabels()) if "annotation" not in label.lower()]
            labels = tuple(file.getLabel(n).strip() for n in known)
            facts = {(float(file.getSampleFrequency(n)), file.getPhysicalDimension(n).strip()) for n in known}
            if len(facts) != 1:
                raise DataError(f"{source.file} has leads of several rates or units; export the 12 leads alone")
            rate, unit = facts.pop()
            return Stored(np.stack([file.readSignal(n) for n in known]), labels, whole_rate(rate, source), unit)
    except OSError as error:
        raise DataError(f"{source.file} cannot be read as EDF: {first_line(error)}") from None


DICOM_DAMAGE = (
    *(AttributeError, IndexError, KeyError, ValueError, TypeError, NotImplementedError),
    *(MemoryError, OverflowError, EOFError, RecursionError, struct.error),
)
"""Exceptions of pydicom for a file that is damaged or lacks a waveform; a damaged length may ask for 4 GB."""


def read_dicom(source: SignalFile) -> Stored:
    """Read the first waveform of a DICOM ECG. Needs pydicom. Units are UCUM codes: mV, uV."""
    pydicom = library("pydicom", "dicom")
    require_file(source.file)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # on tags that break a rule and can be read
            record = pydicom.dcmread(source.file)
            group = record.WaveformSequence[0]
            channels = group.ChannelDefinitionSequence
            leads = tuple(str(c.ChannelSourceSequence[0].CodeMeaning).removesuffix(" (Einthoven)") for c in channels)
            units = {str(c.ChannelSensitivityUnitsSequence[0].CodeValue) for c in channels}
            values = record.waveform_array(0).T  # multiplied by each channel's sensitivity
            rate = float(group.SamplingFrequency)
    except (pydicom.errors.InvalidDicomError, pydicom.errors.BytesLengthException, *DICOM_DAMAGE) as error:
        reason = first_line(error)
        raise DataError(f"{source.file} cannot be read as a DICOM waveform: {reason}") from None
    if len(units) != 1:
        raise DataError(f"{source.file} has leads in {', '.join(sorted(units))}; expected one unit")
    return Stored(values, leads, whole_rate(rate, source), units.pop())


FORMATS = {
    "wfdb": WFDB,
    "npy": SignalFormat("npy", (".npy",), read_npy),
    "hdf5": SignalFormat("hdf5", (".h5",), read_hdf5),
    "edf": SignalFormat("edf", (".edf",), read_edf),
    "dicom": SignalFormat("dicom", (".dcm",), read_dicom),
}
"""Name in dataset.toml -> format. `rate`, `leads` and `unit` of npy and hdf5 are stated by the data set."""
ENDINGS = {".hea": "wfdb", ".npy": "npy", ".h5": "hdf5", ".hdf5": "hdf5", ".edf": "edf", ".dcm": "dicom"}
"""Ending of a file -> its format."""
STATED = ("npy", "hdf5")
"""Formats whose files state neither rate nor leads nor unit."""
CONVERTERS = {
    ".mat": "one .mat file with an array of all records is imported as it is; a file a record, in Python: "
    "numpy.save('NAME.npy', scipy.io.loadmat('NAME.mat')['VARIABLE']), and MATLAB 7.3 files are HDF5: rename to .h5",
    ".npz": "in Python: numpy.save('NAME.npy', numpy.load('NAME.npz')['ARRAY'])",
    ".csv": "in Python: numpy.save('NAME.npy', numpy.loadtxt('NAME.csv', delimiter=',', skiprows=1).T)",
    ".xml": "read the leads with Python's xml.etree (GE Muse, Philips and aECG differ) and save them with numpy.save",
    ".scp": "SCP-ECG, by BioSig: save2gdf -f=EDF NAME.scp NAME.edf",
    ".parquet": "in Python: pandas.read_parquet and numpy.save",
    ".pt": "in Python: numpy.save('NAME.npy', torch.load('NAME.pt', weights_only=True).numpy())",
}
"""Ending of a file that is not read -> how to convert it."""


def whole_rate(rate: float, source: SignalFile) -> int:
    """Return a sampling rate as an integer. Raises DataError if it is not a whole number of Hz in range."""
    if not 1 <= rate <= MAX_RATE or rate != round(rate):
        raise DataError(f"{source.file}: the sampling rate is {rate:.12g}, expected a whole number of Hz")
    return round(rate)


def library(name: str, extra: str) -> ModuleType:
    """Import an optional library. Raises DataError with the command that installs it."""
    try:
        return importlib.import_module(name)
    except ImportError:
        raise DataError(
            f"{extra} files are read by {name}, which is missing: pip install 'ptbxl-bench[{extra}]'"
        ) from None


def num_records(source: SignalFile) -> int:
    """Return the number of records in an array file that holds many. Raises DataError if it cannot be read."""
    if source.format.name == "npy":
        return len(_open_npy(source))
    with open_hdf5(source) as array:
        return len(array)


def _stored(array: Any, source: SignalFile) -> Stored:
    """Take one record from an array (NumPy or HDF5), which is read only there. The lead axis is found by its length."""
    format = source.format
    shape = tuple(array.shape)
    if array.dtype.kind not in "iuf":
        raise DataError(f"{source.file} holds values of type {array.dtype}, expected numbers")
    if len(shape) != (2 if source.row is None else 3):
        axes = "[lead, time]" if source.row is None else "[record, lead, time]"
        raise DataError(f"{source.file} has the shape {list(shape)}, expected {axes}, or with time before lead")
    if source.row is not None and not 0 <= source.row < shape[0]:
        raise DataError(f"{source.file} holds {shape[0]:,} records, and record {source.row} is asked for (from 0)")
    first, second = shape[-2:]
    num = len(format.leads)
    if (first == num) == (second == num):
        raise DataError(
            f"{source.file} has {first} x {second} values a record and {num} leads are named "
            f"({', '.join(format.leads)}); expected exactly one axis of that length: name the leads in their order"
        )
    if first * second > MAX_SAMPLES or first * second == 0:
        raise DataError(f"{source.file} has {first:,} x {second:,} values a record, expected leads of some seconds")
    values = np.asarray(array[:] if source.row is None else array[source.row])
    return Stored(values if first == num else values.T, format.leads, format.rate, format.unit)
