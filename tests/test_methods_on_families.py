"""Every shipped method on every family of backbones: it passes `bench check`, or it declines the backbone."""

from __future__ import annotations

import pytest

from bench.registry.conformance import check_method
from bench.registry.reference import Reference
from bench.registry.registry import registry

FAMILIES = ("net1d_mini", "vit1d_tiny", "xresnet1d18", "lstm")
WEIMANN = {"ft-ecg-jepa-weimann", "lpft-ecg-jepa-weimann"}
NEEDS_BLOCKS = {"ft-sd", "lpft-sd", "ft-dropout", "r-drop", "ft-hubert-ecg"} | WEIMANN
"""Methods that drop the residual blocks of a backbone, which an LSTM has not."""


@pytest.mark.slow
@pytest.mark.parametrize("arch", FAMILIES)
def test_shipped_methods_pass_or_decline(arch: str) -> None:
    shipped = [plugin.name for plugin in registry().of_kind("method") if plugin.distribution.startswith("ptbxl-bench ")]
    faults, declined = {}, set()
    for name in shipped:
        for finding in check_method(Reference(name), Reference(arch), two_processes=False):
            if finding.fault:
                faults[name, finding.check] = finding.fault
            if finding.check == f"trains on {arch}" and finding.does_not_apply:
                declined.add((name, arch))
            elif finding.check.startswith("declines lstm"):
                declined.add((name, "lstm"))

    assert len(shipped) >= 46
    assert faults == {}
    assert declined == {(name, "lstm") for name in NEEDS_BLOCKS}
