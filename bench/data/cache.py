"""The folder of things that can be made again: prepared signals, features of frozen backbones, the catalogue."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """$BENCH_CACHE, or ~/.cache/ptbxl-bench."""
    return Path(os.environ.get("BENCH_CACHE") or Path.home() / ".cache" / "ptbxl-bench")
