"""One cell on several processes of this machine: what `torchrun -m bench run` does, for `bench run --nproc N`."""

from __future__ import annotations

import logging
import sys
import uuid
from collections.abc import Sequence

from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch


def run_on_ranks(num_ranks: int, arguments: Sequence[str]) -> int:
    """Start `bench ARGUMENTS` on that many ranks and wait; returns the exit code: 2 for a user's error, 1 for ours."""
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
    try:
        elastic_launch(config, sys.executable)("-m", "bench", *arguments)
    except ChildFailedError as failure:
        codes = {child.exitcode for child in failure.failures.values()}
        return 2 if 2 in codes else 1
    return 0
