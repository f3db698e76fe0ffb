"""Check that a backbone or method keeps its contract: `bench check NAME`."""

from __future__ import annotations

from collections.abc import Iterator

from bench.errors import BenchError
from bench.registry.backbone_checks import check_backbone
from bench.registry.findings import Finding
from bench.registry.method_checks import TRIED_ON, check_method
from bench.registry.reference import Reference
from bench.registry.registry import registry


def check_plugin(reference: Reference, arch: Reference | None = None) -> Iterator[Finding]:
    """Check the backbone and the method of this name. `arch` is the backbone on which a method is checked."""
    kinds = [kind for kind in registry().kinds_of(reference.name) if kind in ("method", "backbone")]
    if not kinds:
        raise registry().unknown(("method", "backbone"), reference.name)
    if arch and "method" not in kinds:
        raise BenchError(f"--arch names the backbone for a method, and {reference.name} is not a method")
    if "method" in kinds and "backbone" in kinds:
        yield Finding(f"{reference.name} is the name of a method and of a backbone, and both are checked", None)
    if "method" in kinds:
        yield from check_method(reference, arch or TRIED_ON)
    if "backbone" in kinds:
        yield from check_backbone(reference)
