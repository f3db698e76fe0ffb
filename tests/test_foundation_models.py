"""Foundation models load files of their published layout, and compute from them what the official code computed.

`published_keys/` has keys and shapes of each file, as the official code at the commit in the backbone's docstring gave
them; `encoder.layers.{0..11}.` stands for twelve keys. Tensors of these names are filled by formula (`filled`). The
numbers of OFFICIAL are features that the official code gave for these weights in float32, with as many layers as said.
"""

import hashlib
import math
import re
from pathlib import Path

import pytest
import torch
from torch import Tensor

from baselines import ecg_cpc, ecg_jepa, st_mem, wav2vec2
from baselines.ecg_cpc import CausalStateSpace
from baselines.ecg_jepa import positions, same_lead_or_moment
from bench.execute import make_backbone
from bench.plugin import Backbone
from bench.registry.conformance import check_backbone
from bench.registry.reference import Reference

KEYS = Path(__file__).parent / "published_keys"
LAYER = re.compile(r"^(?:encoder\.layers\.|encoder_blocks\.blocks\.|block)(\d+)\.")

PARAMETERS = {
    # trainable parameters of the encoder, as the official code counts them, less what features do not depend on
    "merl_resnet18": 3_848_832,
    "ecg_jepa": 85_067_520,
    "st_mem": 85_150_614,
    "ecg_fm": 90_373_248,
    "hubert_ecg_small": 30_209_152,
    "hubert_ecg_base": 92_798_080,
    "ecg_cpc": 2_932_736,
}
LEFT_OUT = {
    "merl_resnet18": {"linear.weight", "linear.bias"},
    "ecg_jepa": set(),
    "st_mem": set(),
    "ecg_fm": {"mask_emb"},
    "hubert_ecg_small": {"masked_spec_embed", "final_proj.0.weight", "final_proj.0.bias", "label_embedding.0.weight"},
    "hubert_ecg_base": {"masked_spec_embed", "final_proj.0.weight", "final_proj.0.bias", "label_embedding.0.weight"},
    "ecg_cpc": {
        f"ts_encoder.predictor.predictor.s4_layers.{layer}.kernel.kernel.{name}"
        for layer in range(4)
        for name in ("omega", "z", "Q")
    },
}
CLEF = "b2fb4f41f37bd1b502983cbd87660bba9a1ad5452878452a71aeadfc8a855c6c"
"""SHA-256 over the sorted lines `key: [shape]` of the official network of medium size."""
RENAMES = {
    "ecg_jepa": ecg_jepa.RENAMES,
    "st_mem": st_mem.RENAMES,
    "ecg_fm": wav2vec2.ECG_FM_RENAMES,
    "hubert_ecg_small": wav2vec2.HUBERT_ECG_RENAMES,
    "hubert_ecg_base": wav2vec2.HUBERT_ECG_RENAMES,
    "ecg_cpc": ecg_cpc.RENAMES,
}
OFFICIAL: dict[tuple[str, int], tuple[tuple[float, ...], float]] = {
    # (name, layers): first features of the second record, mean magnitude of all features; 0 layers: all there are
    ("merl_resnet18", 0): ((0.0521118, 0.6423702, 0.0318793, 0.1756470), 0.5977018),
    ("ecg_cpc", 0): ((0.3640326, -0.0159204, -0.7590497, -0.8570238), 0.6434150),
    ("ecg_jepa", 2): ((-0.2653230, -0.4146065, -0.5617660, 0.2503619), 0.4390512),
    ("st_mem", 2): ((-0.1108191, -0.8826291, -1.0363729, -0.8358271), 0.8053337),
    ("ecg_fm", 2): ((-0.0733481, -0.8314490, -1.9289609, 0.1978235), 0.6581787),
    ("hubert_ecg_small", 2): ((-0.1612601, 0.2660890, -0.0692311, -1.1118575), 0.6638294),
    ("hubert_ecg_base", 2): ((0.2314411, 1.1493295, -0.1209309, 1.7314796), 0.6520666),
    ("ecg_jepa", 0): ((0.5850052, 0.6188157, 0.6332292, -0.8393623), 0.6791771),
    ("st_mem", 0): ((0.6197897, 0.3350248, 0.7347210, 1.6624954), 0.7995803),
    ("ecg_fm", 0): ((0.3438697, 1.7218106, 1.5668813, 0.5058407), 0.7944751),
    ("hubert_ecg_small", 0): ((0.2642170, 0.5449711, -0.2358034, -0.5254781), 0.8093076),
    ("hubert_ecg_base", 0): ((-0.0166101, -0.5461003, -1.0756449, 0.5660385), 0.7899974),
}
SMALL = [(name, layers) for name, layers in OFFICIAL if layers or name in ("merl_resnet18", "ecg_cpc")]
WHOLE = [pair for pair in OFFICIAL if pair not in SMALL]


def published_keys(name: str, num_layers: int = 0) -> dict[str, tuple[int, ...]]:
    """Keys and shapes of a file, of its first layers if a number is given."""
    shapes = {}
    for line in (KEYS / f"{name}.txt").read_text(encoding="utf-8").splitlines():
        key, shape = line.split(": ")
        span = re.search(r"\{(\d+)\.\.(\d+)\}", key)
        numbers = range(int(span[1]), int(span[2]) + 1) if span else [None]
        for number in numbers:
            whole = key.replace(span[0], str(number)) if span else key
            layer = LAYER.match(whole)
            if not (num_layers and layer and int(layer[1]) >= num_layers):
                shapes[whole] = tuple(map(int, re.findall(r"\d+", shape)))
    return shapes


def filled(shapes: dict[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """Tensors by formula, which differ from key to key."""
    state = {}
    for number, (key, shape) in enumerate(shapes.items()):
        wave = rough(math.prod(shape), number).view(shape)
        if key.endswith("num_batches_tracked"):
            state[key] = torch.zeros(shape, dtype=torch.int64)
            continue
        if key.endswith("kernel.w"):
            wave = torch.stack([-1 - 0.5 * wave[..., 0], 3 * wave[..., 1]], dim=-1)
        elif key.endswith("kernel.log_dt"):
            wave = torch.linspace(math.log(1e-3), math.log(1e-1), *shape, dtype=torch.float64)
        elif key.endswith("running_var"):
            wave = 1 + 0.5 * wave
        elif shape[:-1] == (1, 1) or (len(shape) == 1 and key.endswith("weight")):
            wave = 1 + 0.1 * wave
        elif len(shape) == 1 or key.endswith("bias"):
            wave = 0.1 * wave
        elif ".kernel." not in key:
            wave *= 1.7 / math.sqrt(wave[0].numel())
        state[key] = wave.float()
    for key in state:
        if key.endswith("kernel.Q"):
            state[key] = torch.view_as_real(torch.view_as_complex(state[key[:-1] + "P"]).conj().resolve_conj())
    return state


def rough(length: int, number: int) -> Tensor:
    """Numbers in [-1, 1) without a pattern, by formula, so that they are the same everywhere; float64."""
    waves = torch.sin(torch.arange(1, length + 1, dtype=torch.float64) * 12.9898 + 78.233 * number) * 43758.5453
    return 2 * (waves - waves.floor()) - 1


def signals_for(backbone: Backbone) -> Tensor:
    spec = backbone.signal_spec
    return rough(2 * len(spec.leads) * (spec.window or 10 * spec.rate), -1).view(2, len(spec.leads), -1).float()


def backbone_of(name: str, num_layers: int) -> Backbone:
    return make_backbone(Reference(name, {"depth": num_layers} if num_layers else {}))


def rename(name: str, key: str) -> str:
    for pattern, replacement in RENAMES.get(name, ()):
        key = re.sub(pattern, replacement, key)
    return key


def loads_and_computes(name: str, num_layers: int) -> None:
    backbone = backbone_of(name, num_layers)
    published = filled(published_keys(name, num_layers))
    weights = {rename(name, key): value for key, value in published.items() if key not in LEFT_OUT[name]}
    backbone.load_state_dict(weights)
    with torch.no_grad():
        features = backbone.eval()(signals_for(backbone))
    first, magnitude = OFFICIAL[name, num_layers]

    assert features[1, :4].tolist() == pytest.approx(first, abs=2e-5)
    assert float(features.abs().mean()) == pytest.approx(magnitude, abs=1e-5)


@pytest.mark.parametrize(("name", "num_layers"), SMALL)
def test_loads_its_published_layout_and_computes_what_the_official_code_computes(name: str, num_layers: int) -> None:
    loads_and_computes(name, num_layers)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "num_layers"), WHOLE)
def test_loads_and_computes_at_its_published_size(name: str, num_layers: int) -> None:
    loads_and_computes(name, num_layers)


@pytest.mark.parametrize("name", PARAMETERS)
def test_has_as_many_parameters_as_published(name: str) -> None:
    with torch.device("cpu" if name == "ecg_cpc" else "meta"):
        backbone = backbone_of(name, 0)
    trained = sum(parameter.numel() for parameter in backbone.parameters() if parameter.requires_grad)

    assert trained == PARAMETERS[name]


def test_clef_is_the_single_lead_net1d() -> None:
    with torch.device("meta"):
        state = backbone_of("clef_medium", 0).state_dict()
    lines = sorted(f"{key}: {list(value.shape)}" for key, value in state.items())

    assert len(lines) == 507
    assert hashlib.sha256("\n".join(lines).encode()).hexdigest() == CLEF


@pytest.mark.slow
@pytest.mark.parametrize(("name", "num_layers"), [*SMALL, ("clef_medium", 0)])
def test_conforms(name: str, num_layers: int) -> None:
    reference = Reference(name, {"depth": num_layers} if num_layers else {})

    assert [finding for finding in check_backbone(reference, two_processes=False) if finding.fault] == []


def test_ecg_jepa_has_its_positions_and_its_mask() -> None:
    """Numbers of the official get_2d_sincos_pos_embed(768, 8, 50) and of _cross_attention_mask()."""
    table, allowed = positions(8, 50, 768), same_lead_or_moment(8, 50)

    assert table.shape == (400, 768)
    assert float(table.double().square().sum()) == pytest.approx(400 * 384, rel=1e-6)
    assert allowed.sum(1).tolist() == [50 + 8 - 1] * 400
    assert allowed[0, 49] and allowed[0, 350] and not allowed[0, 51]


def test_ecg_cpc_looks_back_only() -> None:
    torch.manual_seed(0)
    space = CausalStateSpace()
    impulse = torch.zeros(1, 512, 300)
    impulse[..., 100] = 1.0
    with torch.no_grad():
        response = space(impulse)[0]

    assert float(response[:, :100].abs().max()) < 1e-5
    assert torch.allclose(response[:, 101:], space.kernel(300)[0, :, 1:200], atol=1e-5)
