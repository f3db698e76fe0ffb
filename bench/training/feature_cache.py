"""The cache of features of frozen backbones, so that the next probe of the same weights need not run the backbone.

A feature set depends on the prepared signals, the backbone and its arguments, its weights, the precision, the code,
torch and the kind of device; its folder is named by a hash of these. Each pass over records adds a file atomically and
changes no other file, so several processes can write at once. The file holds the seconds of the pass, so that the
recorded cost of a probe does not depend on earlier cells. A feature takes 4 bytes; all of PTB-XL takes 89 MB for
ECGFounder.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import shutil
import tokenize
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import numpy as np
import numpy.typing as npt
import torch

from bench.data.cache import cache_folder
from bench.data.prepared import PreparedSignals
from bench.errors import first_line
from bench.files import num_bytes, open_file, remove_leftovers, whole_file
from bench.registry.source import code_hash
from bench.training.model import Classifier
from bench.training.precision import Precision
from bench.training.weights import hash_weights

LIMIT_BYTES = 4 * 2**30
"""Maximum size of all feature sets in bytes. Beyond it, the least recently used sets are removed."""
Features = npt.NDArray[np.float32 | np.float64]
Seconds = npt.NDArray[np.float64]


@functools.cache
def _own_code() -> str:
    """Return the hash of the code that computes features, as this process has imported it."""
    return code_hash("bench.training.features")


@dataclass(frozen=True)
class FeatureCache:
    """A feature set."""

    folder: Path

    @classmethod
    def of(
        cls, model: Classifier, signals: PreparedSignals, precision: Precision, device: torch.device
    ) -> FeatureCache:
        """Return the feature set of a model's backbone with its present weights."""
        on_gpu = device.type == "cuda"
        follows_from = {
            "signals": signals.entry,
            "backbone": model.made_by,
            "weights": hash_weights(model.backbone.state_dict()),
            "tokens": model.takes_tokens,
            "precision": precision,
            "code": _own_code(),
            "torch": torch.__version__,
            "device": torch.cuda.get_device_name(device) if on_gpu else torch.backends.cpu.get_cpu_capability(),
        }
        key = hashlib.sha256(json.dumps(follows_from).encode()).hexdigest()
        return cls(cache_folder() / "features" / key[:32])

    def load(
        self, ecg_id: npt.NDArray[np.int64], note: Callable[[str], None] = lambda text: None
    ) -> tuple[npt.NDArray[np.bool_], Features, Seconds]:
        """Return which of these records are cached [record], their features [cached record, ...] in the same order,
        and the seconds [cached record] that each took.

        A damaged file is removed, with a note, so that its features are computed again.
        """
        known, rows, shares = np.zeros(len(ecg_id), dtype=bool), list[Features](), list[Seconds]()
        at = np.empty(len(ecg_id), dtype=np.int64)
        for part in sorted(self.folder.glob("part-*.npz")):
            try:
                here, features, seconds = _read_part(part)
                if rows and features.shape[1:] != rows[0].shape[1:]:
                    shapes = f"{list(features.shape[1:])}, those of other files {list(rows[0].shape[1:])}"
                    raise ValueError(f"its features are {shapes}")
            except FileNotFoundError:
                continue  # another process has removed it to make room
            except DAMAGE as error:
                reason = first_line(error)
                note(f"{part} is damaged ({reason}) and is removed; its features are computed again")
                with contextlib.suppress(OSError):  # a cache that cannot be written must not stop the run
                    part.unlink()
                continue
            _, wanted, stored = np.intersect1d(ecg_id, here, return_indices=True)
            new = ~known[wanted]
            at[wanted[new]] = sum(map(len, rows)) + np.arange(new.sum())
            known[wanted] = True
            rows.append(features[stored[new]])
            shares.append(np.full(new.sum(), seconds / len(here)))
        if not rows:
            return known, np.empty((0, 0), dtype=np.float32), np.empty(0)
        with contextlib.suppress(OSError):  # removed to make room, or a folder of others that may only be read
            os.utime(self.folder)  # time of last use, which decides what is removed
        return known, np.concatenate(rows)[at[known]], np.concatenate(shares)[at[known]]

    def save(self, ecg_id: npt.NDArray[np.int64], features: Features, seconds: float) -> None:
        """Add features [record, ...] of records that are not cached, and the seconds that computing them took."""
        self.folder.mkdir(parents=True, exist_ok=True)
        part = self.folder / f"part-{uuid4().hex[:16]}.npz"
        remove_leftovers(self.folder)
        with whole_file(part, fsync=True) as stream:
            np.savez(stream, ecg_id=ecg_id, features=features, seconds=seconds)
        self._make_room()

    def _make_room(self) -> None:
        sizes = {folder: num_bytes(folder) for folder in self.folder.parent.iterdir()}
        for folder in sorted(sizes, key=_last_use):
            if sum(sizes.values()) > LIMIT_BYTES and folder != self.folder:
                shutil.rmtree(folder, ignore_errors=True)
                del sizes[folder]


DAMAGE = (
    *(OSError, ValueError, TypeError, KeyError, EOFError, zipfile.BadZipFile, zlib.error),
    *(RuntimeError, OverflowError, MemoryError, SyntaxError, tokenize.TokenError),
)
"""Exceptions from reading an npz file that is truncated or changed."""


def _read_part(part: Path) -> tuple[npt.NDArray[np.int64], Features, float]:
    """Return ecg_ids [record], features [record, window, feature] or [record, window, token, dim], and seconds.

    Raises ValueError if these differ in length or features are not finite.
    """
    with open_file(part) as file, np.load(file) as archive:
        ecg_id, features, seconds = archive["ecg_id"], archive["features"], float(archive["seconds"])
    if features.ndim < 2 or features.dtype.kind != "f" or ecg_id.dtype.kind not in "iu":
        raise ValueError(f"it holds records of type {ecg_id.dtype} and features {list(features.shape)}")
    if ecg_id.shape != features.shape[:1] or not len(ecg_id):
        raise ValueError(f"{len(ecg_id)} records and features {list(features.shape)}")
    if not np.isfinite(features).all():
        raise ValueError("it holds NaN or infinite features")
    return ecg_id, features, seconds


def _last_use(folder: Path) -> float:
    try:
        return folder.stat().st_mtime
    except FileNotFoundError:  # another process has removed it to make room
        return 0.0
