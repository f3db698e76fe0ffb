"""Write a new plugin package that installs and passes `bench check`."""

from __future__ import annotations

import importlib.util
import keyword
import re
from pathlib import Path
from typing import Literal

from bench.errors import BenchError
from bench.files import whole_folder, write_into
from bench.registry.registry import registry

PYPROJECT = """\
[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"

[project]
name = "{name}"
version = "0.1.0"

[project.entry-points."bench.plugins"]
{name} = "{module}"

[tool.setuptools]
py-modules = ["{module}"]
"""

METHOD = '''\
"""{name}: state here what it does, which paper it follows, and each deviation from it."""

from collections.abc import Sequence
from dataclasses import dataclass

from bench.plugin import LogUniform, Method, Phase, register_method


@register_method("{name}")
@dataclass(frozen=True)
class {class_name}(Method):
    """One sentence for `bench list`."""

    epochs: int = 30
    lr: float = 5e-4
    weight_decay: float = 0.05

    search = {{"lr": LogUniform(1e-5, 1e-2)}}

    def phases(self, layer_groups: Sequence[str]) -> list[Phase]:
        return [
            Phase(
                name="finetune",
                learning_rates={{"backbone": self.lr, "head": self.lr}},
                epochs=self.epochs,
                weight_decay=self.weight_decay,
                lr_schedule="cosine",
            )
        ]
'''

BACKBONE = '''\
"""{name}: state here what it is, which paper it follows, and each deviation from it."""

from torch import Tensor, nn

from bench.plugin import Backbone, DropPath, SignalSpec, register_backbone


class Block(nn.Module):
    """A residual convolution; DropPath allows training with stochastic depth."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(channels, channels, kernel_size=7, padding=3)
        self.drop_path = DropPath()

    def forward(self, x: Tensor) -> Tensor:
        return x + self.drop_path(self.conv(x.relu()))


@register_backbone("{name}")
class {class_name}(Backbone):
    """One sentence for `bench list`."""

    signal_spec = SignalSpec(rate=100, preprocessing="zscore")

    def __init__(self, channels: int = 32, depth: int = 3) -> None:
        super().__init__()
        self.stem = nn.Conv1d(12, channels, kernel_size=16, stride=4)
        self.blocks = nn.Sequential(*(Block(channels) for _ in range(depth)))
        self.feature_dim = channels

    def forward(self, signals: Tensor) -> Tensor:
        """Signals [record, lead, time] -> features [record, feature_dim]."""
        return self.blocks(self.stem(signals)).mean(-1)
'''

DATASET = '''\
"""{name}: state here what it holds, who published it where, its licence, and what this reader leaves out."""

from dataclasses import replace
from pathlib import Path

from bench.plugin import FORMATS, Records, TextTable, make_records, read_text_table, register_dataset

TABLE = "{module}.csv"
LEADS = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")
LABELS = [
    # code, description, PTB-XL code that it equals, group (each group becomes a task)
    ("AF", "atrial fibrillation", "AFIB", "rhythm"),
    ("LVH", "left ventricular hypertrophy", "LVH", "hypertrophy"),
]


@register_dataset("{name}")
def read(folder: Path) -> Records | None:
    """One sentence for `bench list`."""
    if not (folder / TABLE).is_file():
        return None  # this folder is another data set
    given = read_text_table(folder / TABLE)
    columns = {{"record": "ID", "patient": "Patient", "age": "Age", "sex": "Sex", "labels": "Diagnoses"}}
    rows = list(zip(*(given.column(column) for column in columns.values()), strict=True))
    return make_records(
        folder,
        TextTable(given.path, tuple(columns), rows, names=columns),  # labels are codes with ; between them
        TextTable(given.path, ("code", "description", "ptbxl", "group"), LABELS),
        name="{name}",
        rate=500,
        # a file ID.npy for each record: [lead, time] in mV; FORMATS["wfdb"] needs no rate, leads and unit
        format=replace(FORMATS["npy"], rate=500, leads=LEADS, unit="mV"),
        licence="unknown",
        source="unknown",
    )
'''

DATASET_TEST = '''\
"""Run the benchmark's checks on {name}, with a made-up folder of forty records."""

from pathlib import Path

import numpy as np

from bench.data.contract import check_dataset
from bench.registry.registry import registry


def test_{module}_passes_every_check(tmp_path: Path) -> None:
    registry()  # imports installed plugins
    rng = np.random.default_rng(0)
    labels = ["AF", "LVH", "AF;LVH", ""]
    rows = [f"r{{at:02}},p{{at:02}},{{20 + at}},F,{{labels[at % 4]}}" for at in range(40)]
    (tmp_path / "{module}.csv").write_text("\\n".join(["ID,Patient,Age,Sex,Diagnoses", *rows]))
    for row in rows:
        np.save(tmp_path / f"{{row[:3]}}.npy", rng.normal(0, 0.3, (12, 5000)).astype(np.float32))

    faults = [finding for finding in check_dataset(tmp_path) if finding.fault]

    assert not faults
'''

TEST = '''\
"""Run the benchmark's checks on {name}."""

from bench.registry.conformance import check_{kind}
from bench.registry.reference import Reference


def test_{module}_passes_every_check() -> None:
    faults = [finding for finding in check_{kind}(Reference("{name}")) if finding.fault]

    assert not faults
'''


def write_plugin(kind: Literal["method", "backbone", "dataset"], name: str, parent: Path) -> Path:
    """Write the package `name` into `parent`: pyproject.toml, a module and its test. Return the folder."""
    module = name.replace("-", "_")
    if not re.fullmatch("[a-z][a-z0-9]*(_[a-z0-9]+)*", module):
        raise BenchError(f"{name!r} cannot be a package: expected lower case letters, digits, - and _, as in my-method")
    folder = parent / name
    if folder.exists():
        raise BenchError(f"{folder} exists already; choose another name or folder")
    if taken := registry().kinds_of(name):
        raise BenchError(f"there is a {taken[0]} of the name {name}; choose another")
    class_name = "".join(part.capitalize() for part in module.split("_"))
    template = {"method": METHOD, "backbone": BACKBONE, "dataset": DATASET}[kind]
    test = DATASET_TEST if kind == "dataset" else TEST
    meant = keyword.iskeyword(module) or keyword.iskeyword(class_name) or importlib.util.find_spec(module)
    if meant or re.search(rf"\b{class_name}\b", template):
        raise BenchError(f"{name!r} has a meaning in Python or in the package to be written; choose another name")
    words = {"name": name, "module": module, "class_name": class_name, "kind": kind}
    try:
        with whole_folder(folder) as part:
            write_into(part, "pyproject.toml", PYPROJECT.format(**words))
            write_into(part, f"{module}.py", template.format(**words))
            write_into(part, f"test_{module}.py", test.format(**words))
    except OSError as error:
        raise BenchError(f"cannot write {folder}: {error.strerror}; name another folder") from None
    return folder
