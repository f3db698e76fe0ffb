"""RankBatchNorm is BatchNorm1d of the whole batch. tests/test_distributed.py runs it on real ranks."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed
from torch import Tensor, nn

from baselines.fcn import FCNWang
from baselines.net1d import Net1DMini
from bench.errors import BenchError, Incompatible
from bench.training.batch_norm import RankBatchNorm, share_batch_norm
from bench.training.distributed import World
from bench.training.model import Classifier

TWO = World(0, 2, torch.device("cpu"))


@pytest.fixture
def group_of_one(tmp_path: Path) -> Iterator[None]:
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


def shared(norm: nn.Module) -> nn.Module:
    model = nn.Sequential(norm)
    share_batch_norm(model, TWO)
    assert type(model[0]) is RankBatchNorm
    return model[0]


def facts(norm: nn.Module, batches: list[Tensor]) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    for number, batch in enumerate(batches):
        x = batch.clone().requires_grad_()
        y = norm(x)
        (y.double() * torch.linspace(-1, 2, y.numel(), dtype=torch.float64).view(y.shape)).sum().backward()
        assert x.grad is not None
        found |= {f"y{number}": y.detach(), f"dx{number}": x.grad}
    found |= {f"d{name}": p.grad for name, p in norm.named_parameters() if p.grad is not None}
    found |= {name: buffer.clone() for name, buffer in norm.named_buffers()}
    return found | {"eval": norm.eval()(batches[0]).detach()}


@pytest.mark.parametrize(
    ("kind", "shape", "options"),
    [
        (nn.BatchNorm1d, (6, 4), {}),
        (nn.BatchNorm1d, (6, 4, 9), {}),
        (nn.BatchNorm1d, (6, 4, 9), {"momentum": 0.3, "eps": 1e-2}),
        (nn.BatchNorm1d, (6, 4, 9), {"momentum": None}),
        (nn.BatchNorm1d, (6, 4, 9), {"affine": False}),
        (nn.BatchNorm1d, (6, 4, 9), {"track_running_stats": False}),
        (nn.BatchNorm2d, (6, 4, 3, 5), {}),
    ],
)
@pytest.mark.usefixtures("group_of_one")
def test_it_is_torchs_batch_norm(kind: type[nn.Module], shape: tuple[int, ...], options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    batches = [torch.randn(shape, dtype=torch.float64) * 3 + 5 for _ in range(3)]
    plain = kind(4, **options).double()
    if options.get("affine", True):
        nn.init.uniform_(plain.weight)
        nn.init.uniform_(plain.bias)
    copy = kind(4, **options).double()
    copy.load_state_dict(plain.state_dict())

    ours, theirs = facts(shared(copy), batches), facts(plain, batches)

    assert ours.keys() == theirs.keys()
    for key in ours:
        torch.testing.assert_close(ours[key], theirs[key], rtol=1e-10, atol=1e-10, msg=key)


@pytest.mark.usefixtures("group_of_one")
def test_bf16_signals_have_float32_statistics() -> None:
    x = torch.randn(64, 4, 257).to(torch.bfloat16) + 10
    plain, ours = nn.BatchNorm1d(4), shared(nn.BatchNorm1d(4))

    expected, got = plain(x), ours(x)

    assert got.dtype == expected.dtype == torch.bfloat16
    torch.testing.assert_close(got, expected, rtol=0.02, atol=0.02)
    torch.testing.assert_close(ours.running_var, plain.running_var, rtol=1e-4, atol=1e-5)


@pytest.mark.usefixtures("group_of_one")
def test_one_value_a_channel_has_no_variance() -> None:
    for norm in (nn.BatchNorm1d(4), shared(nn.BatchNorm1d(4))):
        with pytest.raises(ValueError, match="Expected more than 1 value per channel"):
            norm(torch.ones(1, 4))


@pytest.mark.parametrize("backbone", [FCNWang, Net1DMini])
def test_a_model_keeps_its_keys_values_and_flags(backbone: type[FCNWang] | type[Net1DMini]) -> None:
    model = Classifier(backbone(), 3)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    flags = {name: p.requires_grad for name, p in model.named_parameters()}

    share_batch_norm(model, TWO)

    assert list(model.state_dict()) == list(before)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert {name: p.requires_grad for name, p in model.named_parameters()} == flags
    assert not any(type(module) is nn.BatchNorm1d for module in model.modules())
    share_batch_norm(model, TWO)


def test_a_single_process_keeps_torchs_own() -> None:
    model = nn.Sequential(nn.BatchNorm1d(3))
    share_batch_norm(model, World(0, 1, torch.device("cpu")))
    assert type(model[0]) is nn.BatchNorm1d


def test_an_unknown_batch_norm_is_not_passed_over() -> None:
    class Own(nn.BatchNorm1d):
        pass

    with pytest.raises(BenchError, match="the backbone's Own computes its statistics on each rank alone") as error:
        share_batch_norm(nn.Sequential(nn.Sequential(Own(3))), TWO)
    assert not isinstance(error.value, Incompatible), "a single process may run the cell"


def test_an_instance_norm_that_tracks_statistics_is_refused() -> None:
    """Each rank would keep those of its own records."""
    share_batch_norm(nn.Sequential(nn.InstanceNorm1d(4)), TWO)
    with pytest.raises(BenchError, match="InstanceNorm1d computes its statistics on each rank alone"):
        share_batch_norm(nn.Sequential(nn.InstanceNorm1d(4, track_running_stats=True)), TWO)
