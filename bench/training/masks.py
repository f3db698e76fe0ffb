"""The masks of a training step, stochastic depth and dropout, drawn for the whole batch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from bench.errors import PluginError
from bench.training.batches import random_stream, send
from bench.training.dropout import redraw_copies, rest, share_dropout
from bench.training.model import Classifier, drop_path_rates, set_drop_path
from bench.training.phase import Phase


class Masks:
    """Hands out the masks 0, 1, ... of a step, of which this rank takes its share."""

    def __init__(self, model: Classifier, phase: Phase, device: torch.device) -> None:
        self.phase, self.device = phase, device
        self.paths = set_drop_path(model, phase.drop_path_rate, phase.drop_path_shape)
        self.dropouts = share_dropout(model)
        self.rest()

    def begin_epoch(self, epoch: int) -> None:
        """Set the rates of stochastic depth for this epoch."""
        rate = self.phase.drop_path_rate if self.phase.drops_paths_in(epoch) else 0.0
        self.rates = drop_path_rates(len(self.paths), rate, self.phase.drop_path_shape)

    def begin_step(self, stream: Sequence[object], num_records: int, share: slice) -> None:
        """Draw from this stream from now on, for a batch of `num_records` records."""
        self.stream, self.num_records, self.share = tuple(stream), num_records, share

    def use(self, masks: int, num_rows: int) -> None:
        """Let the next pass over `num_rows` records, this rank's or several copies of them, have these masks."""
        mine = self.share.stop - self.share.start
        copies, left = divmod(num_rows, mine) if mine else (1, num_rows)
        if left or not copies:
            raise PluginError(
                f"the loss runs the model on {num_rows} records where this rank has {mine} of the batch; give it the "
                "batch's own records, or several copies of them in a row"
            )
        streams = [(*self.stream, *([f"masks {k}"] if k else [])) for k in range(masks, masks + copies)]
        redraw_copies(self.dropouts, self.num_records, self.share, self.device, streams)
        for path, rate in zip(self.paths, self.rates, strict=True):
            path.drop_prob = rate
        dropping = [path for path in self.paths if path.drop_prob > 0]
        if dropping:
            kept = np.concatenate(
                [self._keep([path.drop_prob for path in dropping], stream) for stream in streams], axis=1
            )
            for path, keep in zip(dropping, send(torch.from_numpy(kept), self.device), strict=True):
                path.keep = keep

    def _keep(self, rates: Sequence[float], stream: Sequence[object]) -> npt.NDArray[np.bool_]:
        """Which blocks this rank's records keep, [block, record]."""
        shared = self.phase.drop_path_unit == "batch"
        uniform = random_stream(*stream, "drop path").random((len(rates), 1 if shared else self.num_records))
        whole = np.broadcast_to(uniform >= np.array(rates)[:, None], (len(rates), self.num_records))
        return whole[:, self.share]

    def rest(self) -> None:
        """Drop nothing from now on."""
        rest(self.dropouts)
        self.rates = [0.0] * len(self.paths)
        for path in self.paths:
            path.drop_prob, path.keep = 0.0, None
