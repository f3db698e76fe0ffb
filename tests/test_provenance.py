"""What a result says of its code: plugins with all their hyper-parameters, and the hashes of their source."""

import subprocess
from pathlib import Path

import bench
from bench.data.signals import SignalSpec
from bench.provenance import PACKAGES, code_facts, environment, plugin_facts
from bench.registry.reference import Reference
from bench.registry.source import code_hash
from bench.results.identity import HARNESS, SPINE
from bench.training.distributed import join


def test_a_plugin_has_its_defaults_beside_what_was_given() -> None:
    facts = plugin_facts("method", Reference("lp", {"probe_epochs": 3}))

    assert facts["given"] == {"probe_epochs": 3}
    assert facts["resolved"] == {"probe_epochs": 3, "probe_lr": 5e-3, "probe_weight_decay": 0.1}
    assert facts["code_sha256"] == code_hash("methods.linear_probe")
    assert facts["distribution"].endswith(bench.__version__)


def test_the_harness_is_in_every_result_and_a_builtin_preprocessing_is_part_of_it() -> None:
    facts = code_facts(SignalSpec(rate=100, preprocessing="zscore"))

    assert facts == {"harness": {"name": "bench", "module": SPINE, "code_sha256": code_hash(SPINE, HARNESS)}}


def test_the_environment_names_versions_and_the_commit() -> None:
    with join() as world:
        facts = environment(world)

    assert set(PACKAGES) < set(facts)
    assert facts["ranks"] == 1
    root = Path(bench.__file__).parent.parent
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=root, capture_output=True, text=True, check=False)
    assert (facts["git_commit"] or "").removesuffix("-dirty") == head.stdout.strip()
