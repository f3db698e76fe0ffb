"""The cache folder: prepared signals, features of frozen backbones, the catalogue. All can be computed again."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """Return $BENCH_CACHE, or ~/.cache/ptbxl-bench."""
    return Path(os.environ.get("BENCH_CACHE") or Path.home() / ".cache" / "ptbxl-bench")
