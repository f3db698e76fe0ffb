"""The training steps of a phase: read a batch, let the method augment it and compute its loss, update the weights."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn

from bench.data.splits import num_batches
from bench.errors import PluginError
from bench.training.audit import NoState, Untouched, check_optimizer, check_state, one_step
from bench.training.batch import Batch, Inputs, SignalBatch, augmented
from bench.training.batches import Rows, Seed, Source, epoch_batches, random_stream, rank_batches, send
from bench.training.distributed import World
from bench.training.method import Method, overrides
from bench.training.passes import PhasePasses
from bench.training.phase import Phase
from bench.training.precision import Precision, autocast
from bench.training.schedule import advance, advance_epoch, make_schedule


class Steps:
    """The training steps of a phase, with what lasts from step to step: optimiser, schedule, the method's tensors."""

    def __init__(
        self,
        method: Method,
        phase: Phase,
        passes: PhasePasses,
        groups: Sequence[dict[str, Any]],
        source: Source,
        world: World,
        precision: Precision,
        seed: Seed,
    ) -> None:
        self.method, self.phase, self.passes, self.source = method, phase, passes, source
        self.world, self.precision, self.seed = world, precision, seed
        self.model, self.masks = passes.model, passes.masks
        self.parameters = dict(
            pair for group in groups for pair in zip(group["param_names"], group["params"], strict=True)
        )
        self.labels = source.labels.to(world.device)
        self.positives = self.labels.sum(0)
        self.per_epoch = num_batches(len(self.labels), phase.batch_size)
        self.done = 0
        """Number of finished steps of the present epoch."""
        self.loss_sum: float | Tensor = 0.0
        """Sum of the losses of these steps over the records of all ranks."""
        self.method_state: dict[str, Tensor] = {}
        self.labels_fit = torch.ones((), dtype=torch.bool, device=world.device)
        """Whether all labels that `augment` has returned lie in [0, 1]."""
        self.no_state = NoState(method)
        self.optimizer = method.optimizer(list(map(dict, groups)), phase, self._mean_gradients)
        self.no_state.check("optimizer")
        check_optimizer(self.optimizer, method, phase, self.parameters)
        self.lr_scheduler = make_schedule(self.optimizer, phase, self.per_epoch)

    def epoch(self, epoch: int, step_ends: Callable[[], None]) -> float:
        """Train the steps of an epoch after the first `done` ones, and return the epoch's mean loss per record."""
        num_records = len(self.labels)
        stream = (self.seed, self.phase.name, epoch)
        self.model.train_mode(self.phase.learning_rates)
        self.masks.begin_epoch(epoch)
        batches = enumerate(epoch_batches(num_records, self.phase.batch_size, stream))
        for step, rows in islice(batches, self.done, None):
            self.loss_sum += self._train(rows, stream, epoch * self.per_epoch + step, step)
            self.done += 1
            step_ends()
        self._require_labels()
        loss = float(self.loss_sum) / num_records
        self.done, self.loss_sum = 0, 0.0
        return loss

    def epoch_ends(self, val_macro_auroc: float) -> None:
        """Advance a learning-rate schedule that follows the score of each epoch."""
        advance_epoch(self.lr_scheduler, val_macro_auroc)

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint keeps. Raise PluginError if `batch.state` holds what a checkpoint cannot keep."""
        check_state(self.method_state)
        self._require_labels()
        return {
            "step": self.done,
            "loss_sum": float(self.loss_sum),
            "method": self.method_state,
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.lr_scheduler.state_dict() if self.lr_scheduler else None,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.optimizer.load_state_dict(state["optimizer"])
        if self.lr_scheduler:
            self.lr_scheduler.load_state_dict(state["schedule"])
        self.method_state = {key: value.to(self.world.device) for key, value in state["method"].items()}
        self.done, self.loss_sum = state["step"], state["loss_sum"]

    def check_same_on_ranks(self) -> None:
        """Raise PluginError if `batch.state` differs between ranks; checkpoints hold that of the main rank."""
        state = self.method_state
        keys = sorted(state)
        # a checksum of the keys and two sums of each tensor, because a tensor may have a row for each training record
        facts = {"'s keys": torch.tensor([zlib.crc32(repr(keys).encode()) % 10**5, 0.0], dtype=torch.float64)}
        facts |= {f"[{key!r}]": torch.stack([(v := state[key].double()).sum(), v.square().sum()]) for key in keys}
        for what, own in facts.items():
            of_ranks = self.world.gather(own[None].to(self.world.device), self.world.size)
            if not torch.allclose(of_ranks, of_ranks[:1].expand_as(of_ranks), rtol=1e-6, atol=1e-9, equal_nan=True):
                raise PluginError(
                    f"batch.state{what} differs between processes, and a checkpoint keeps that of the first alone; "
                    "compute it from what batch.gather() returns for the whole batch"
                )

    def _train(self, rows: Rows, stream: tuple[object, ...], number: int, step: int) -> Tensor:
        """Train one step on a batch and return the sum of its records' losses before the step."""
        share = self.world.share(len(rows))
        inputs = self._read(rows, share, stream, number)
        self.masks.begin_step((*stream, step), len(rows), share)
        sums = list[Tensor]()

        def closure() -> Tensor:
            # a plugin may use torch's global generator
            torch.manual_seed(int(random_stream(*stream, step, self.world.rank, "torch").integers(2**62)))
            buffers = {key: value.clone() for key, value in self.model.named_buffers()} if sums else {}
            sums.append(self._backward(inputs, number, len(rows)))
            with torch.no_grad():
                for key, buffer in self.model.named_buffers():
                    if key in buffers:
                        buffer.copy_(buffers[key])
            return sums[-1] / len(rows)

        with one_step(self.optimizer, self.method, self.phase):
            self.method.optimizer_step(self.optimizer, closure)
            if not sums:
                name = type(self.method).__name__
                raise PluginError(f"{name}.optimizer_step() must call its closure, which it does not")
        self.no_state.check("loss")
        advance(self.lr_scheduler)
        if self.passes.averaged:
            self.passes.averaged.step_ends()
        return sums[0]

    def _read(self, rows: Rows, share: slice, stream: tuple[object, ...], number: int) -> Inputs:
        """Return this rank's share of a batch, augmented by the method.

        If the method augments, every rank augments the whole batch, so that results do not depend on the number of
        ranks.
        """
        augments = overrides(self.method, "augment")
        chosen = rows if augments else rows[share]
        signals = send(self.source.training(chosen, stream), self.world.device)
        index = send(torch.from_numpy(chosen), self.world.device)
        labels = self.labels[index]
        if not augments:
            return Inputs(signals, labels, index, {})
        step_stream = (*stream, number, "augment")
        torch.manual_seed(int(random_stream(*step_stream, "torch").integers(2**62)))  # the same on every rank
        spec = self.model.backbone.signal_spec
        batch = SignalBatch(
            signals,
            labels,
            index.clone(),  # those of the loss stay right whatever augment does
            random_stream(*step_stream),
            self.phase,
            number,
            self.phase.epochs * self.per_epoch,
            spec.rate,
            spec.leads,
            self.source.mv_per_unit,
        )
        returned = self.method.augment(batch)
        self.no_state.check("augment")
        changed = augmented(returned, signals, labels, index)
        self.labels_fit &= ((changed.labels >= 0) & (changed.labels <= 1)).all()
        if self.done == 0:
            self._require_labels()
        extra = {name: value[share] for name, value in changed.extra.items()}
        return Inputs(changed.x[share], changed.labels[share], index[share], extra)

    def _require_labels(self) -> None:
        """Raise PluginError if `augment` has returned labels outside [0, 1] in a step so far.

        Asked where the device is waited for anyway, and before a checkpoint is written; not in every step.
        """
        if not bool(self.labels_fit):
            raise PluginError("augment() returns labels outside [0, 1]; weigh those of a mixture by shares of 1")

    def _backward(self, inputs: Inputs, number: int, num_records: int) -> Tensor:
        """Compute the clipped gradients of the mean loss over a batch of all ranks. Return the sum of its losses."""
        x = inputs.x
        batch = Batch(
            self.passes,
            x,
            inputs.labels,
            inputs.rows,
            inputs.extra,
            partial(gather_batch, self.world, len(x), num_records),
            self.phase,
            number,
            self.phase.epochs * self.per_epoch,
            num_records=len(self.labels),
            positives=self.positives,
            parameters=self.parameters,
            initial_weights=self.passes.initial_weights,
            state=self.method_state,
            signals_allowed=not overrides(self.method, "loss") or self.method.needs_signals is not False,
        )
        loss = self._loss(batch)
        for parameter in self.parameters.values():
            parameter.grad = None
        # the mean of a rank is weighted by its share of the batch
        (loss * (len(x) / num_records)).backward()  # type: ignore[no-untyped-call]
        parameters = list(self.parameters.values())
        self.world.sum_gradients(parameters)
        if self.phase.gradient_clip_norm is not None:
            nn.utils.clip_grad_norm_(parameters, self.phase.gradient_clip_norm)
        # the main rank may write a checkpoint after any step, and it needs the sum over all ranks: so sum in every step
        own = loss.detach().double() * len(x) if len(x) else torch.zeros((), dtype=torch.float64, device=x.device)
        return self.world.sum(own)

    def _loss(self, batch: Batch) -> Tensor:
        """Return the mean loss over this rank's records.

        A rank without records computes a loss too, because it takes part in collective operations; its weight is 0.
        """
        empty = not len(batch.x)
        # SyncBatchNorm sends statistics of bf16 inputs as float32, but those of an empty input in the input's type
        precision = "float32" if empty else self.precision
        untouched = Untouched(
            {
                "the batch": [batch.x, batch.labels, batch.rows, *batch.extra.values()],
                "weights": batch.parameters.values(),
                "the initial weights": batch.initial_weights.values(),
            }
        )
        with autocast(precision, self.world.device):
            loss = self.method.loss(batch)
        untouched.check(self.method)
        if not isinstance(loss, Tensor) or loss.dim():
            kind = f"a tensor {list(loss.shape)}" if isinstance(loss, Tensor) else f"a {type(loss).__name__}"
            raise PluginError(f"the loss is {kind}; expected one finite number, the mean over the records")
        return loss

    def _mean_gradients(self) -> dict[str, Tensor]:
        """Return path -> mean gradient of the logistic loss over all training records, in eval mode."""
        self.model.eval()
        stream = (self.seed, self.phase.name, "rates")
        for x, labels in rank_batches(self.source, self.phase.batch_size, stream, self.world):
            with autocast(self.precision, self.world.device):
                logits = self.passes.module(x)
            loss = nn.functional.binary_cross_entropy_with_logits(logits, labels, reduction="sum")
            (loss / labels.shape[1] / len(self.labels)).backward()  # type: ignore[no-untyped-call]
        self.world.sum_gradients(list(self.parameters.values()))
        means = {path: torch.zeros_like(p) if p.grad is None else p.grad.clone() for path, p in self.parameters.items()}
        self.model.zero_grad(set_to_none=True)
        return means


def gather_batch(world: World, num_own: int, num_records: int, values: Tensor) -> Tensor:
    """Return values [record, ...] of a whole batch, given those of this rank's records.

    Raise PluginError if the number of rows is not that of this rank's records.
    """
    if len(values) != num_own:
        raise PluginError(
            f"batch.gather() was given {len(values)} rows where this rank has {num_own} of the batch; give it "
            "values [record, ...]"
        )
    # a rank without records computes in float32, see Steps._loss
    narrow = values.dtype in (torch.bfloat16, torch.float16)
    return world.gather(values.detach().float() if narrow else values.detach(), num_records)
