"""One cell on several processes of this machine: what `torchrun -m bench run` does, for `bench run --nproc N`."""

from __future__ import annotations

import logging
import os
import sys
import tempfile
import uuid
from collections.abc import Sequence
from pathlib import Path

from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from bench.errors import ERROR_FILE, BenchError


def run_on_ranks(num_ranks: int, arguments: Sequence[str]) -> int:
    """Start `bench ARGUMENTS` on that many ranks and wait; returns the exit code, 1 for an error of ours.

    A user's error is raised here, once for all ranks.
    """
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=num_ranks,
        run_id=uuid.uuid4().hex,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=0,
    )
    with tempfile.TemporaryDirectory() as folder:
        said = Path(folder) / "error"
        os.environ[ERROR_FILE] = str(said)
        try:
            elastic_launch(config, sys.executable)("-m", "bench", *arguments)
        except ChildFailedError:
            if said.exists():
                raise BenchError(said.read_text(encoding="utf-8")) from None
            return 1
        except SignalException:
            raise KeyboardInterrupt from None
        finally:
            del os.environ[ERROR_FILE]
    return 0
