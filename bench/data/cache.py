"""The folder of all caches: prepared signals, features of frozen backbones, the catalogue. It may be deleted."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def cache_folder() -> Path:
    """Return $BENCH_CACHE, else ~/.cache/ptbxl-bench, else a folder in the temporary folder if the user has no home."""
    if named := os.environ.get("BENCH_CACHE"):
        return Path(named)
    try:
        return Path.home() / ".cache" / "ptbxl-bench"
    except RuntimeError:
        return Path(tempfile.gettempdir()) / f"ptbxl-bench-{os.getuid()}"
