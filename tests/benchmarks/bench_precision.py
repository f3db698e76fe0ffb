"""The precision that `auto` chooses on this processor, against the other one."""

from typing import Any

import torch

from bench.training.precision import resolve_precision


def test_auto(compare: Any) -> None:
    first, second = torch.randn(2, 2048, 2048)
    products = {"float32": lambda: first @ second, "bf16": lambda: first.bfloat16() @ second.bfloat16()}
    chosen = resolve_precision("auto", torch.device("cpu"))
    (other,) = products.keys() - {chosen}
    compare(
        f"a product of 2048 x 2048 matrices in {chosen}, which `auto` chooses",
        products[chosen],
        f"in {other}",
        products[other],
        goal="1",
    )
