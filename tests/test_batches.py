"""The order of records and their crops depend on seed, phase and epoch, and on nothing else."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from bench.data.prepared import PreparedSignals, Scaling
from bench.data.signals import SignalSpec, zscore
from bench.data.splits import num_batches
from bench.training.batches import DeviceSource, SignalSource, cut_windows, epoch_batches, random_stream


def source(window_s: float | None) -> SignalSource:
    """20 records of 12 leads and 100 samples; value = 1000 * position of the record + sample."""
    values = np.broadcast_to(np.arange(100) + 1000 * np.arange(20)[:, None, None], (20, 12, 100)).astype(np.int16)
    spec = SignalSpec(10, "none", window_s=window_s, stride_s=1.25)
    ids = np.arange(1, 21) * 3
    signals = PreparedSignals(spec, 10, Scaling(), {}, ids, values, np.ones(20, dtype=np.float32))
    return SignalSource(signals, signals.rows(ids[::-1]), torch.zeros(20, 2), torch.float32)


@pytest.mark.parametrize("num", [1, 2, 5, 8, 15, 16, 17, 33, 34])
@pytest.mark.parametrize("batch_size", [1, 2, 8, 16])
def test_an_epoch_has_every_record_once(num: int, batch_size: int) -> None:
    batches = list(epoch_batches(num, batch_size, (0, "p", 0)))

    assert sorted(np.concatenate(batches)) == list(range(num))
    assert len(batches) == num_batches(num, batch_size)
    assert all(len(batch) == batch_size for batch in batches[:-1])
    assert len(batches[-1]) <= batch_size + 1
    if num > 1 and batch_size > 1:
        assert min(map(len, batches)) > 1, "batch norm cannot train on one record"


def test_the_order_depends_on_seed_phase_and_epoch() -> None:
    def order(*stream: object) -> list[int]:
        return np.concatenate(list(epoch_batches(50, 7, stream))).tolist()

    assert order(0, "probe", 1) == order(0, "probe", 1)
    assert len({tuple(order(s, p, e)) for s in (0, 1) for p in ("probe", "finetune") for e in (0, 1)}) == 8
    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002
    assert order(0, "probe", 1) == order(0, "probe", 1), "no global generator matters"


def test_random_streams_are_stable() -> None:
    """A change here changes every result of the benchmark."""
    assert random_stream(0, "order", "finetune", 3).integers(1000, size=5).tolist() == [497, 784, 878, 226, 29]


def test_whole_records_are_read_in_order() -> None:
    whole = source(None).training(np.array([0, 19, 3]), (0,))

    assert whole.shape == (3, 12, 100) and whole.dtype == torch.float32
    assert whole[:, 0, 0].tolist() == [19_000, 0, 16_000]
    assert torch.equal(whole, source(None).windows(np.array([0, 19, 3]))[:, 0])


def test_crops_belong_to_the_record_and_not_to_the_batch() -> None:
    crops = source(2.5)

    together = crops.training(np.arange(20), (0, "p", 0))
    apart = torch.cat([crops.training(rows, (0, "p", 0)) for rows in np.array_split(np.arange(20), 3)])

    assert together.shape == (20, 12, 25)
    assert torch.equal(together, apart), "ranks that share a batch see the same crops"
    starts = together[:, 0, 0] % 1000
    assert len(starts.unique()) > 5 and starts.max() <= 75
    assert not torch.equal(together, crops.training(np.arange(20), (0, "p", 1)))


def test_crops_begin_anywhere_up_to_the_last_that_fits() -> None:
    crops = source(9.9).training(np.arange(20), (0, "p", 0))

    assert set((crops[:, 0, 0] % 1000).tolist()) == {0, 1}, "99 of 100 samples"


def test_evaluation_slides_over_the_record() -> None:
    windows = source(2.5).windows(np.array([0]))

    assert windows.shape == (1, 8, 12, 25)
    assert (windows[0, :, 0, 0] % 1000).tolist() == [0, 12, 24, 36, 48, 60, 72, 75], "the last ends with the record"


def test_a_window_longer_than_the_record_is_the_record() -> None:
    signals = torch.randn(2, 12, 50)

    assert torch.equal(cut_windows(signals, 60, range(1)), signals[:, None])
    assert source(20.0).training(np.array([0]), (0,)).shape == (1, 12, 100)


@pytest.fixture(autouse=True)
def _untouched_generators() -> Iterator[None]:
    state = torch.get_rng_state()
    yield
    torch.set_rng_state(state)


@pytest.mark.parametrize("window_s", [None, 2.5])
@pytest.mark.parametrize("fitted_on", ["", "folds 1-8"])
@pytest.mark.parametrize("room", [True, False])
def test_a_device_gives_the_same_signals_from_its_memory(
    window_s: float | None, fitted_on: str, room: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the bit, also where it has no room for all records; the copy is in several parts."""
    disk = source(window_s)
    random = np.random.default_rng(0)
    values = random.integers(-32767, 32768, size=disk.signals.values.shape).astype(np.int16)
    scale = random.random(20).astype(np.float32)
    signals = replace(disk.signals, values=values, scale=scale, scaling=Scaling(0.1, 0.7, fitted_on))
    disk = replace(disk, signals=signals)
    monkeypatch.setattr("bench.training.batches.CHUNK", 7)
    held = DeviceSource(disk.signals, disk.rows, disk.labels, disk.dtype, torch.device("cpu"))
    if not room:
        vars(held)["_held"] = None
    rows = np.array([0, 19, 3, 7])

    def both(one: SignalSource) -> list[Tensor]:
        return [one.training(rows, (0, "p", 1)), one.windows(rows)]

    for ours, expected in zip(both(held), both(disk), strict=True):
        assert ours.dtype == expected.dtype and expected.abs().max() > 0
        assert torch.equal(ours, expected)
    if room:
        values[:] = 0
        assert held.windows(rows).abs().max() > 0, "read again from disk"


@pytest.mark.parametrize("on_device", [False, True])
def test_each_crop_and_each_window_is_preprocessed_for_itself(on_device: bool) -> None:
    plain = source(2.5)
    spec = SignalSpec(10, "zscore", window_s=2.5, stride_s=1.25, per_window=True)
    random = np.random.default_rng(0)
    values = random.integers(-999, 1000, size=plain.signals.values.shape).astype(np.int16)
    plain = replace(plain, signals=replace(plain.signals, values=values))
    made = SignalSource(replace(plain.signals, spec=spec), plain.rows, plain.labels, plain.dtype)
    if on_device:
        made = DeviceSource(made.signals, made.rows, made.labels, made.dtype, torch.device("cpu"))
    rows = np.array([0, 19, 3, 7])

    def each(windows: Tensor) -> Tensor:
        return torch.from_numpy(np.stack([zscore(window, 10) for window in windows.flatten(0, -3).numpy()]))

    crops, windows = plain.training(rows, (0, "p", 1)), plain.windows(rows)
    assert torch.equal(made.training(rows, (0, "p", 1)), each(crops))
    assert torch.equal(made.windows(rows), each(windows).view(windows.shape))
    assert windows.shape == (4, 8, 12, 25)

    one = replace(spec, window_s=10.0, stride_s=10.0)  # the whole record is the window
    whole = replace(made, signals=replace(made.signals, spec=one))
    expected = each(torch.from_numpy(made.signals.values[made.rows[rows]].astype(np.float32)))
    assert torch.equal(whole.windows(rows)[:, 0], expected)
    assert torch.equal(whole.training(rows, (0, "p", 1)), expected)
    assert made.mv_per_unit is None


@pytest.mark.parametrize(
    ("preprocessing", "scaling", "expected"),
    [
        ("none", Scaling(), 1.0),
        ("strodthoff", Scaling(0.0, 0.23, "folds 1-8"), 0.23),
        ("zscore", Scaling(), None),
        ("ecgfounder", Scaling(), None),
    ],
)
def test_a_unit_is_known_in_mv_where_the_preprocessing_keeps_amplitudes(
    preprocessing: str, scaling: Scaling, expected: float | None
) -> None:
    whole = source(None)
    signals = replace(whole.signals, spec=SignalSpec(100, preprocessing), scaling=scaling)

    assert replace(whole, signals=signals).mv_per_unit == expected
