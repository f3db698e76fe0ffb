"""Compare post-training methods of ECG foundation models on PTB-XL.

`bench.run`, `sweep`, `tune`, `compare`, `leaderboard`, `evaluate`, `misses`, `power`, `load_results`, `score`,
`load_plugin`: bench/README.md.
"""

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bench.errors import BenchError
    from bench.verbs import (
        compare,
        evaluate,
        leaderboard,
        load_plugin,
        load_results,
        misses,
        power,
        run,
        score,
        sweep,
        tune,
    )

# oneDNN convolves wrongly with AMX, see bench/training/precision.py; it reads this once, before its first convolution
os.environ.setdefault("ONEDNN_MAX_CPU_ISA", "AVX512_CORE_FP16")

__version__ = "0.1.0"
__all__ = [
    "BenchError",
    "compare",
    "evaluate",
    "leaderboard",
    "load_plugin",
    "load_results",
    "misses",
    "power",
    "run",
    "score",
    "sweep",
    "tune",
]


def __getattr__(name: str) -> Any:
    """Import a verb when it is used: `import bench` takes a millisecond, torch a second."""
    if name not in __all__:
        raise AttributeError(f"module 'bench' has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module("bench.errors" if name == "BenchError" else "bench.verbs"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
