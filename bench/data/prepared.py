"""The cache of prepared signals: every record of a data set after preprocessing, computed once, memory-mapped.

Values are int16 with one scale per record, its peak / 32,767. The rounding error is at most 1.6e-5 of the record's
peak; for signals in mV this is less than half of PTB-XL's own resolution of 1 µV. All of PTB-XL takes 2.62 GB at 500
Hz.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import io
import json
import math
import os
import shutil
import tokenize
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.data.cache import cache_folder
from bench.data.formats import WFDB, SignalFile, read_signals
from bench.data.pool import over_cores
from bench.data.records import Records
from bench.data.signals import PREPROCESSINGS, Preprocessing, Signal, SignalSpec, prepare_record, prepare_windows
from bench.data.splits import VAL_FOLD
from bench.data.waveforms import KINDS, Note
from bench.errors import DataError, first_line
from bench.files import (
    FileLock,
    NotAFile,
    SharedLock,
    allocate,
    locked_alone,
    read_bytes,
    require_file,
    whole_folder,
    write_into,
)
from bench.registry.source import can_import, is_own

INVALID, ZEROS = "records with invalid samples, set to 0 mV", "records of zeros"
PADDED = "records padded with zeros"
"""What may be irregular about records, beside KINDS."""
FORMAT = 2
"""Version of the file format. Increase it when the files of a cache entry change their meaning."""
CHUNK = 64
"""Number of records that a worker prepares at a time."""
Progress = Callable[[int, int], None]
"""Callback with the number of records done and the number of all records."""
Log = Callable[[str], None]
PROGRESS = "progress"
"""Name of a file in the folder of an unfinished entry: number of records done and of all, for processes that wait."""
SAME_LENGTH = (
    "get the file again, or, if lengths differ, let the data set's reader give its Records a length, such as "
    "seconds=10, to which each record is cut or padded"
)
"""What to do about a record of another length."""
LOOK_S = 0.5
"""Seconds between two checks of the progress of another process."""


@dataclass(frozen=True)
class Scaling:
    """Mean and standard deviation over all leads and samples, and the records they were fitted on."""

    mean: float = 0.0
    std: float = 1.0
    fitted_on: str = ""


@dataclass(frozen=True, eq=False)
class PreparedSignals:
    """Signals of every record of a dataset, read from the cache by ecg_id."""

    spec: SignalSpec
    source_rate: int
    scaling: Scaling
    findings: dict[str, list[int]]
    """Kind of irregular signal -> ecg_ids. These records are kept, so that the test set stays the same."""
    ecg_id: npt.NDArray[np.int64]
    """[record], ascending"""
    values: npt.NDArray[np.int16]
    """[record, lead, time], memory-mapped"""
    scale: npt.NDArray[np.float32]
    """[record]"""
    entry: str = ""
    """Name of the cache entry, derived from all that changes the signals; empty if they are not from the cache."""
    lock: SharedLock | None = None
    """Keeps the cache entry from being removed as long as these signals are in use."""

    @property
    def length(self) -> int:
        """Number of samples of a record."""
        return int(self.values.shape[2])

    def rows(self, ecg_id: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Return the row [record] of each ecg_id [record]."""
        rows = np.searchsorted(self.ecg_id, ecg_id)
        assert np.array_equal(self.ecg_id[rows], ecg_id), "labels and signals are of different datasets"
        return rows

    def read(
        self, rows: npt.NDArray[np.int64], starts: npt.NDArray[np.int64] | None = None, length: int | None = None
    ) -> Signal:
        """Return signals [record, lead, time] of these rows: whole, or `length` samples from each row's start.

        With `spec.per_window`, what is returned is one window a record, and is preprocessed here.
        """
        if starts is None:
            values = self.values[rows]
        else:
            assert length is not None
            values = np.stack([self.values[r, :, s : s + length] for r, s in zip(rows, starts, strict=True)])
        signals = values * self.scale[rows][:, None, None]
        if self.scaling.fitted_on:
            signals = (signals - np.float32(self.scaling.mean)) / np.float32(self.scaling.std)
        return prepare_windows(signals, self.spec)


def choose_source_rate(records: Records, spec: SignalSpec, asked: int | None) -> int:
    """Return the rate in Hz of the files to read: `asked`, else that of the preprocessing if the data set has it."""
    if asked is None:
        return spec.file_rate if spec.file_rate in records.filenames else max(records.filenames)
    records.names(asked)
    return asked


def require_files(records: Records, spec: SignalSpec, source_rate: int | None = None) -> None:
    """Raise DataError if the folder lacks files that `prepare_signals` would read. Call this before expensive work."""
    _key(records, spec, choose_source_rate(records, spec, source_rate))


def prepare_signals(
    records: Records,
    spec: SignalSpec,
    source_rate: int | None = None,
    progress: Progress = lambda done, total: None,
    note: Log = lambda text: None,
) -> PreparedSignals:
    """Return the prepared signals of all records, from the cache or computed now.

    If another process is preparing the same signals, wait for it, call `note`, and show its progress. An entry is
    written under a temporary name and renamed when complete; a damaged entry is computed anew, with a note. Raises
    DataError if a record is missing or damaged or the cache cannot be written; no partial entry remains.
    """
    rate = choose_source_rate(records, spec, source_rate)
    entry = cache_folder() / _key(records, spec, rate)
    try:
        if entry.is_dir():
            with contextlib.suppress(*DAMAGE):  # checked again under the lock: another process may be repairing it
                return _open_entry(entry, records, spec, rate)
        entry.parent.mkdir(parents=True, exist_ok=True)
        with _locked(entry, progress, note):
            if entry.is_dir():
                try:
                    return _open_entry(entry, records, spec, rate)
                except DAMAGE as error:
                    reason = first_line(error)
                    note(f"{entry} is damaged ({reason}) and is computed anew")
                    shutil.rmtree(entry)
            _write_entry(entry, records, spec, rate, progress)
            return _open_entry(entry, records, spec, rate)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DataError(
                f"no space left in {entry.parent} for the prepared signals "
                f"({_num_bytes(records, spec) / 1e9:.2g} GB); free some or set $BENCH_CACHE to a larger disk"
            ) from None
        unusable = (errno.EACCES, errno.EROFS, errno.EPERM, errno.EEXIST, errno.ENOTDIR, errno.EFBIG)
        if error.errno in unusable or not entry.parent.is_dir():
            raise DataError(
                f"cannot write to {entry.parent} ({error.strerror}); set $BENCH_CACHE to another folder"
            ) from None
        raise


DAMAGE = (
    *(FileNotFoundError, NotADirectoryError, IsADirectoryError, NotAFile, EOFError, ValueError, KeyError, TypeError),
    *(AttributeError, OverflowError, MemoryError, RecursionError, SyntaxError, tokenize.TokenError),
)
"""Exceptions from reading a cache entry whose files are missing, truncated or changed."""


def _open_entry(entry: Path, records: Records, spec: SignalSpec, rate: int) -> PreparedSignals:
    """Return the signals of an entry, memory-mapped. Raises one of DAMAGE if its files are not complete.

    Raises DataError if the records are shorter than the window: backbones with other windows share the entry.
    """
    lock = SharedLock(entry / "about.json")
    about = json.loads(read_bytes(entry / "about.json"))
    for name in ("ecg_id.npy", "signals.npy", "scale.npy"):
        require_file(entry / name)
    signals = PreparedSignals(
        spec,
        rate,
        _scaling_in(about["scaling"]),
        _findings_in(about["findings"]),
        np.load(entry / "ecg_id.npy"),
        np.load(entry / "signals.npy", mmap_mode="r"),
        np.load(entry / "scale.npy"),
        entry.name,
        lock,
    )
    expected = (len(records), len(spec.leads))
    if not np.array_equal(signals.ecg_id, records.ecg_id) or signals.values.ndim != 3:
        raise ValueError("its records are not those of the dataset")
    if signals.values.shape[:2] != expected or signals.scale.shape != expected[:1] or signals.values.dtype != np.int16:
        raise ValueError(f"its signals are {list(signals.values.shape)}, of {len(signals.scale)} records")
    _require_window(signals.length, records, spec)
    return signals


def _require_window(length: int, records: Records, spec: SignalSpec) -> None:
    """Raise DataError if records of `length` samples are shorter than the backbone's window."""
    if spec.window and length < spec.window:
        raise DataError(
            f"records of {records.name} last {length / spec.rate:g} s, and the backbone needs {spec.window_s:g} s; "
            "take another backbone, or let the data set's reader pad its records by seconds"
        )


def prepared_sets() -> list[Path]:
    """Return the cache entries of all prepared signals, of any data set."""
    return sorted(file.parent for file in cache_folder().glob("[!.]*/signals.npy"))


def _lock_of(entry: Path) -> FileLock:
    return FileLock(entry.with_name(entry.name + ".lock"))


@contextlib.contextmanager
def unused(entry: Path) -> Iterator[bool]:
    """Yield whether no process uses or prepares the signals of an entry. None begins to before this context ends."""
    with contextlib.ExitStack() as stack:
        try:
            is_ours = stack.enter_context(_lock_of(entry).held())
        except OSError:
            is_ours = False
        yield is_ours and stack.enter_context(locked_alone(entry / "about.json"))


def _scaling_in(facts: Mapping[str, Any]) -> Scaling:
    scaling = Scaling(float(facts["mean"]), float(facts["std"]), str(facts["fitted_on"]))
    if not (math.isfinite(scaling.mean) and scaling.std > 0):
        raise ValueError(f"its scaling is {scaling.mean} and {scaling.std}")
    return scaling


def _findings_in(facts: Mapping[str, Any]) -> dict[str, list[int]]:
    return {str(what): [int(ecg_id) for ecg_id in ids] for what, ids in facts.items()}


@contextlib.contextmanager
def _locked(entry: Path, progress: Progress, note: Log) -> Iterator[None]:
    """Hold the lock of an entry. If another process holds it, wait and show the progress of that process."""
    lock = _lock_of(entry)
    if not lock.acquire():
        note(f"waiting for another process that prepares these signals (it holds {lock.path})")
        shown = 0
        while not lock.acquire(LOOK_S):
            with contextlib.suppress(OSError, ValueError):  # PROGRESS is missing or half written
                (written,) = entry.parent.glob(f".{entry.name}.*.part/{PROGRESS}")
                done, total = map(int, read_bytes(written).split())
                if done != shown:
                    progress(done, total)
                    shown = done
    try:
        yield
    finally:
        lock.release()


def _key(records: Records, spec: SignalSpec, rate: int) -> str:
    """Return the name of an entry, from all it depends on: signal files (path, size and time), folds and preprocessing.

    Raises DataError if the folder lacks any of the files.
    """
    digest = hashlib.sha256()
    # preprocessing and its code
    chosen = PREPROCESSINGS[spec.preprocessing]
    made = [FORMAT, rate, spec.rate, spec.leads, spec.preprocessing, chosen.version]
    made += [spec.preprocessing_rate] if spec.preprocessing_rate else []
    made += ["per window"] if spec.per_window else []  # such an entry holds mV
    stated = records.format
    if stated.name != WFDB.name or not is_own(stated.module):
        made += [stated.name, stated.rate, stated.leads, stated.unit, stated.array, records.table.get("row", [])]
    made += [] if is_own(stated.module) else [stated.module, stated.code_sha256]  # a reader has no version
    digest.update(json.dumps(made + ([records.seconds] if records.seconds else []), default=list).encode())
    digest.update(chosen.code_sha256.encode())  # the author of a plugin may forget to raise its version
    digest.update(str(records.folder.resolve()).encode())
    digest.update(np.stack([records.ecg_id, records.strat_fold]).tobytes())
    # size and time of files are used instead of a hash of their content, which would take minutes
    missing = []
    for name in dict.fromkeys(records.names(rate)):  # a file may hold many records
        for file in (name + ending for ending in stated.endings):
            try:  # plain strings: pathlib would take longer than the disk
                stat = os.stat(os.path.join(records.folder, file))  # noqa: PTH116, PTH118
            except (FileNotFoundError, NotADirectoryError):
                missing.append(file)
            else:
                digest.update(f"{file} {stat.st_size} {stat.st_mtime_ns}\n".encode())
    if missing:
        num_files = len(set(records.names(rate))) * len(stated.endings)
        others = [
            other for other in records.filenames if other != rate and records.signal_files(other)[-1].file.is_file()
        ]
        raise DataError(
            f"{records.folder} lacks {len(missing):,} of the {num_files:,} files at {rate} Hz "
            f"(the first: {missing[0]}); complete the folder"
            + "".join(
                f", or --source-rate {other} takes the {other} Hz files"
                + (" and resamples them" if other != spec.file_rate else "")
                for other in others
            )
        )
    return f"{records.name}-{rate}-{spec.rate}hz-{spec.preprocessing}-{digest.hexdigest()[:16]}"


def _num_bytes(records: Records, spec: SignalSpec) -> int:
    """Return the size of an entry's signals. Records of a data set that states no length, as PTB-XL, have 10 s."""
    return len(records) * len(spec.leads) * round((records.seconds or 10.0) * spec.rate) * 2


def _write_entry(entry: Path, records: Records, spec: SignalSpec, rate: int, progress: Progress) -> None:
    sources = records.signal_files(rate)
    if records.seconds:
        length = round(records.seconds * spec.rate)
    else:
        length = prepare_record(*read_signals(sources[0], spec.leads), spec, name=str(sources[0])).shape[1]
    _require_window(length, records, spec)  # here too, before all records are prepared in vain
    with whole_folder(entry, replace=False) as folder:
        # the whole file exists before workers start: they write into it through a memory map
        target = folder / "signals.npy"
        np.lib.format.open_memmap(
            target, mode="w+", dtype=np.int16, shape=(len(sources), len(spec.leads), length)
        ).flush()
        allocate(target, 2 * len(sources) * len(spec.leads) * length)
        facts = np.zeros((len(sources), len(_FACTS)))
        done = 0
        chunks = [dict(enumerate(sources[at : at + CHUNK], at)) for at in range(0, len(sources), CHUNK)]
        prepare = functools.partial(
            _prepare_chunk,
            target=target,
            spec=spec,
            rate=rate,
            seconds=records.seconds,
            preprocessing=PREPROCESSINGS[spec.preprocessing],
        )
        here = not all(map(can_import, (PREPROCESSINGS[spec.preprocessing].module, records.format.module)))
        with contextlib.closing(over_cores(prepare, chunks, here=here)) as prepared:
            for chunk, chunk_facts in prepared:
                facts[list(chunk)] = chunk_facts
                done += len(chunk)
                write_into(folder, PROGRESS, f"{done} {len(sources)}")
                progress(done, len(sources))
        # statistics of all records: standardisation over folds 1-8, and what was irregular
        fact = dict(zip(_FACTS, facts.T, strict=True))
        _save(folder / "scale.npy", fact["scale"].astype(np.float32))
        _save(folder / "ecg_id.npy", records.ecg_id)
        odd = {
            INVALID: fact["nan"] > 0,
            ZEROS: fact["zero"] > 0,
            "records with a flat lead": (fact["flat"] > 0) & (fact["zero"] == 0),
            PADDED: fact["padded"] > 0,
            **{what: fact[kind] > 0 for kind, what in KINDS.items()},
        }
        about = {
            "spec": asdict(spec),
            "source_rate": rate,
            "scaling": asdict(_fit_scaling(records, spec, fact)),
            "findings": {name: records.ecg_id[mask].tolist() for name, mask in odd.items() if mask.any()},
        }
        write_into(folder, "about.json", json.dumps(about))
        (folder / PROGRESS).unlink(missing_ok=True)
        with target.open("rb") as file:  # else a power cut could leave a renamed entry that contains zeros
            os.fsync(file.fileno())


def _save(path: Path, array: npt.NDArray[np.generic]) -> None:
    """Save an array as .npy. A full disk raises OSError with its errno, which NumPy's own error lacks."""
    buffer = io.BytesIO()
    np.save(buffer, array)
    write_into(path.parent, path.name, buffer.getvalue())


_FACTS = ("scale", "num", "sum", "sum_of_squares", "nan", "zero", "flat", "padded", *KINDS)


def _fit_scaling(records: Records, spec: SignalSpec, fact: dict[str, npt.NDArray[np.float64]]) -> Scaling:
    if not PREPROCESSINGS[spec.preprocessing].standardized:
        return Scaling()
    training = records.strat_fold < VAL_FOLD
    num = fact["num"][training].sum()
    if num == 0:
        raise DataError(f"{records.folder} has no record in folds 1-8 to fit the standardisation on")
    mean = fact["sum"][training].sum() / num
    variance = max(fact["sum_of_squares"][training].sum() / num - mean**2, 0.0)
    return Scaling(
        float(mean), float(np.sqrt(variance)) or 1.0, f"folds 1-8 of {records.name}, {training.sum():,} records"
    )


def quantize(signals: Signal) -> tuple[npt.NDArray[np.int16], float]:
    """Return finite signals [lead, time] as int16 [lead, time], and the scale that converts them back."""
    scale = max(float(np.abs(signals).max()) / 32767, 1e-12)
    return np.rint(signals / scale).astype(np.int16), scale


def _prepare_chunk(
    chunk: Mapping[int, SignalFile],
    target: Path,
    spec: SignalSpec,
    rate: int,
    seconds: float | None,
    preprocessing: Preprocessing,
) -> npt.NDArray[np.float64]:
    """Prepare a chunk of records (row -> file), write them to the memory map, and return _FACTS [record, fact]."""
    PREPROCESSINGS[spec.preprocessing] = preprocessing  # a worker has not imported the plugin
    values = np.lib.format.open_memmap(target, mode="r+")
    facts = np.empty((len(chunk), len(_FACTS)))
    for at, (row, source) in enumerate(chunk.items()):
        notes: list[Note] = []
        raw, header_rate = read_signals(source, spec.leads, notes.append)
        if header_rate != rate:
            raise DataError(f"{source} says {header_rate} Hz where the dataset's table says {rate} Hz")
        # all records share one array, so they must have equal lengths
        signals = prepare_record(raw, rate, spec, seconds, str(source.path))
        if signals.shape != values.shape[1:]:
            raise DataError(
                f"{source.path}{source.format.endings[-1]} has {raw.shape[1]} samples, {raw.shape[1] / rate:g} s; the "
                f"first record's length gives {values.shape[2]} at {spec.rate} Hz, and all records of the dataset must "
                f"have the same length; {SAME_LENGTH}"
            )
        values[row], scale = quantize(signals)
        # sums in float64, because variances are differences of large numbers
        wide = signals.astype(np.float64).ravel()
        invalid = np.isnan(raw)
        facts[at] = (
            scale,
            wide.size,
            wide.sum(),
            np.square(wide).sum(),
            invalid.sum(),
            not raw[~invalid].any(),
            (np.ptp(raw, axis=1) == 0).any(),
            seconds is not None and raw.shape[1] < round(seconds * rate),
            *(any(note.kind == kind for note in notes) for kind in KINDS),
        )
    return facts
