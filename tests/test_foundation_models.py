"""Foundation models load files of their published layout, and compute from them what the official code computed.

`published_keys/` has keys and shapes of each file, as the official code at the commit in the backbone's docstring gave
them; `encoder.layers.{0..11}.` stands for twelve keys. Tensors of these names are filled by formula (`filled`). The
numbers of OFFICIAL are features that the official code gave for these weights in float32, with as many layers as said.
"""

import hashlib
import math
import re
import sys
import types
from collections import defaultdict
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from baselines.ecg_cpc import CausalStateSpace
from baselines.ecg_jepa import positions, same_lead_or_moment
from baselines.st_mem import STMEM
from bench.data.signals import prepare_record
from bench.errors import CheckpointError, DataError
from bench.execute import make_backbone, make_method
from bench.plugin import Backbone, SignalSpec
from bench.registry.conformance import check_backbone
from bench.registry.reference import Reference
from bench.training.model import layer_groups
from bench.training.weights import load_backbone

KEYS = Path(__file__).parent / "published_keys"
LAYER = re.compile(
    r"^(?:(?:ecg_encoder\.){0,2}encoder\.layers\.|encoder_blocks\.blocks\.|target_encoder\.blocks\.|block)(\d+)\."
)
KEYS_OF = {"deepecg_ssl": "ecg_fm"}
"""Backbones whose file has the keys of another's."""

PARAMETERS = {
    # trainable parameters of the encoder, as the official code counts them, less what features do not depend on
    "merl_resnet18": 3_848_832,
    "ecg_jepa": 85_067_520,
    "st_mem": 85_150_614,
    "ecg_fm": 90_373_248,
    "hubert_ecg_small": 30_209_152,
    "hubert_ecg_base": 92_798_080,
    "ecg_cpc": 2_932_736,
    "ecg_jepa_weimann_xs": 3_600_000,
    "ecg_jepa_weimann_s": 14_277_888,
    "ecg_jepa_weimann_b": 85_185_024,
    "deepecg_ssl": 90_374_017 - 769,
    "melp": 62_553_216,
    "d_beta": 63_203_712,
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
    **{f"ecg_jepa_weimann_{size}": set[str]() for size in ("xs", "s", "b")},
    "deepecg_ssl": {"mask_emb"},
    "melp": {
        *(f"ecg_encoder.ecg_encoder.{name}" for name in ("mask_emb", "quantizer.vars")),
        *(
            f"ecg_encoder.ecg_encoder.{name}.{kind}"
            for name in ("quantizer.weight_proj", "project_q", "final_proj")
            for kind in ("weight", "bias")
        ),
        *(
            "ecg_encoder.ln_caption.weight",
            "ecg_encoder.ln_caption.bias",
            "ecg_encoder.proj_contrast",
            "ecg_encoder.logit_scale",
        ),
        *(f"ecg_encoder.bn.{name}" for name in ("running_mean", "running_var", "num_batches_tracked")),
        *(f"ecg_encoder.attn_pool_caption.{name}" for name in ("query", "attn.in_proj_weight", "attn.in_proj_bias")),
        *(
            f"ecg_encoder.attn_pool_caption.{name}.{kind}"
            for name in ("attn.out_proj", "ln_q", "ln_k")
            for kind in ("weight", "bias")
        ),
    },
    "d_beta": set(),
}
CLEF = "b2fb4f41f37bd1b502983cbd87660bba9a1ad5452878452a71aeadfc8a855c6c"
"""SHA-256 over the sorted lines `key: [shape]` of the official network of medium size."""
BESIDE = {
    # further keys of the published file, which the official encoder alone does not have
    "ecg_fm": {"quantizer.vars": (1, 640, 128), "project_q.weight": (256, 256), "final_proj.weight": (256, 768)},
    "deepecg_ssl": {"quantizer.vars": (1, 640, 128), "project_q.weight": (256, 256), "final_proj.weight": (256, 768)},
    "d_beta": {
        "mask_emb": (768,),
        "language_encoder.shared.weight": (32128, 4),
        "modality_type_embeddings.weight": (2, 768),
        "multi_modal_language_proj.weight": (768, 768),
        "multi_modal_ecg_layers.0.attention.self.query.weight": (768, 768),
        "multi_modal_language_layers.0.output.dense.weight": (768, 768),
        "multi_modal_ecg_pooler.dense.weight": (768, 768),
        "multi_modal_language_pooler.dense.weight": (768, 768),
        "unimodal_language_pooler.dense.weight": (768, 768),
        "mlm_head.bias": (32128,),
        "mim_head.mask_token": (1, 1, 384),
        "itm_head.fc.weight": (2, 1536),
    },
    "ecg_cpc": {"ts_encoder.head_ssl.proj.0.weight": (7168, 512)},
}
OFFICIAL: dict[tuple[str, int], tuple[tuple[float, ...], float]] = {
    # (name, layers): first features of the second record, mean magnitude of all features; 0 layers: all there are
    ("merl_resnet18", 0): ((0.0521118, 0.6423702, 0.0318793, 0.1756470), 0.5977018),
    ("ecg_cpc", 0): ((0.3640326, -0.0159204, -0.7590497, -0.8570238), 0.6434150),
    ("ecg_jepa", 2): ((-0.2653230, -0.4146065, -0.5617660, 0.2503619), 0.4390512),
    ("st_mem", 2): ((-0.1108191, -0.8826291, -1.0363729, -0.8358271), 0.8053337),
    ("ecg_fm", 2): ((-0.0733481, -0.8314490, -1.9289609, 0.1978235), 0.6581787),
    ("hubert_ecg_small", 2): ((-0.1612601, 0.2660890, -0.0692311, -1.1118575), 0.6638294),
    ("ecg_jepa_weimann_xs", 0): ((-0.4402505, -0.0779310, -0.1140803, 0.9406714), 0.7971024),
    ("ecg_jepa_weimann_s", 0): ((1.6119711, -2.0487590, -0.0422804, -1.0046771), 0.8109791),
    ("ecg_jepa_weimann_b", 0): ((0.7496002, -1.7504466, -2.3240194, -1.3930534), 0.8079245),
    ("deepecg_ssl", 2): ((-0.0733481, -0.8314490, -1.9289609, 0.1978235), 0.6581787),  # as ecg_fm: 2500 samples too
    ("melp", 2): ((-0.9614409, 0.2823544, 0.0511838, 0.0953009), 0.8071715),
    ("d_beta", 2): ((0.9443262, 0.0903344, -0.0620894, -0.7437155), 0.5352313),
    ("melp", 0): ((0.0460668, -1.9119233, 0.4870832, 1.9325546), 0.8055984),
    ("d_beta", 0): ((-0.7562091, -0.6488844, 0.2832856, -0.4811074), 0.5409422),
    ("ecg_jepa", 0): ((0.5850052, 0.6188157, 0.6332292, -0.8393623), 0.6791771),
    ("st_mem", 0): ((0.6197897, 0.3350248, 0.7347210, 1.6624954), 0.7995803),
    ("ecg_fm", 0): ((0.3438697, 1.7218106, 1.5668813, 0.5058407), 0.7944751),
    ("hubert_ecg_small", 0): ((0.2642170, 0.5449711, -0.2358034, -0.5254781), 0.8093076),
    ("hubert_ecg_base", 0): ((-0.0166101, -0.5461003, -1.0756449, 0.5660385), 0.7899974),
}
GRADIENTS: dict[tuple[str, int], tuple[float, str, tuple[float, ...]]] = {
    # (name, layers): norm of all gradients, name of the layer next to the signals, the first gradients of its weight
    ("merl_resnet18", 0): (811.0747766, "conv1", (0.0118304178, -0.0098979986, 0.0712605136, -0.0620956248)),
    ("ecg_cpc", 0): (517.1737945, "encoder.0.0", (-0.0168683483, 0.0945788549, -0.0365937720, 0.0672930253)),
    ("ecg_jepa", 2): (779.7432859, "patches", (-0.0429659441, -0.0612377520, -0.0031715207, -0.0535651575)),
    ("st_mem", 2): (1422.9750034, "patches.1", (0.0682371371, -0.1642124016, 0.2970999943, -0.0541876432)),
    ("ecg_jepa_weimann_xs", 0): (513.5923621, "patches", (-0.2047698666, -0.1155332808, 0.0766418846, -0.0336229918)),
    ("ecg_jepa_weimann_s", 0): (981.6092776, "patches", (0.1553682794, 0.2480541711, 0.1280216414, -0.0722855190)),
    **dict.fromkeys(
        (("ecg_fm", 2), ("deepecg_ssl", 2)),
        (1324.7466314, "convolutions.layers.0", (-0.1156919685, 0.0980969955, -0.0184759216, 0.0989443406)),
    ),
    ("hubert_ecg_small", 2): (
        *(1252.6377090, "convolutions.layers.0"),
        (-0.1014117357, 0.0105145500, -0.2882374160, -0.1268027186),
    ),
    ("melp", 2): (975.4055483, "convolutions.layers.0", (0.0615323364, -0.0103285063, 0.0400994091, -0.1342075195)),
    ("d_beta", 2): (1123.1072840, "convolutions.layers.0", (-0.1722516067, -0.0407673953, -0.0414779969, 0.1650233205)),
}
"""What the official code gave in float64 for the sum of features x `rough(..., -2).float()`.

MELP's are with `feature_grad_mult` 1; its pre-training scales those of the convolutions by 0.1.
When these were computed, the gradient of each parameter was compared with ours: none differed by more than 2e-14 of its
largest element in float64. The biases of keys in attention have none but rounding, because a softmax ignores shifts.
"""
SMALL = [
    (name, layers) for name, layers in OFFICIAL if layers or name in ("merl_resnet18", "ecg_cpc", "ecg_jepa_weimann_xs")
]
WHOLE = [pair for pair in OFFICIAL if pair not in SMALL]


def published_keys(name: str, num_layers: int = 0) -> dict[str, tuple[int, ...]]:
    """Keys and shapes of a file, of its first layers if a number is given."""
    shapes = {}
    for line in (KEYS / f"{KEYS_OF.get(name, name)}.txt").read_text(encoding="utf-8").splitlines():
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
        elif len(shape) <= 1 or key.endswith("bias"):
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
    signals = rough(2 * len(spec.leads) * (spec.window or 10 * spec.rate), -1).view(2, len(spec.leads), -1).float()
    if isinstance(backbone, STMEM):  # as its preprocessing ends
        signals = (signals - signals.mean((1, 2), keepdim=True)) / signals.std((1, 2), keepdim=True, correction=0)
    return signals


def backbone_of(name: str, num_layers: int) -> Backbone:
    return make_backbone(Reference(name, {"depth": num_layers} if num_layers else {}))


CONFIGURATION = {
    "clinical_ts.config": ["FullConfig"],
    "omegaconf.dictconfig": ["DictConfig"],
    "omegaconf.base": ["ContainerMetadata"],
    "omegaconf.nodes": ["AnyNode"],
}
"""Module -> classes of the configuration in ECG-CPC's file, as OmegaConf 2.3 and Lightning write them."""


def pickled_configuration(patch: pytest.MonkeyPatch) -> object:
    """Return what stands for ECG-CPC's configuration, of classes in modules that exist as long as `patch` does."""
    made: dict[str, Any] = {}
    for place, names in CONFIGURATION.items():
        patch.setitem(sys.modules, place.partition(".")[0], types.ModuleType(place.partition(".")[0]))
        patch.setitem(sys.modules, place, types.ModuleType(place))
        for name in names:
            made[name] = type(name, (), {"__module__": place})
            setattr(sys.modules[place], name, made[name])
    value, about, whole = made["AnyNode"](), made["ContainerMetadata"](), made["DictConfig"]()
    vars(value).update(_val=240.0, ref_type=Any, object_type=float)
    vars(about).update(object_type=made["FullConfig"], key_type=str, element_type=int, cache=defaultdict(dict))
    vars(whole).update(_metadata=about, _content={"fs": value, "path": PurePosixPath("heedb")})
    return whole


def write_published(name: str, num_layers: int, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write a file as its authors' code writes it."""
    state = filled({**published_keys(name, num_layers), **BESIDE.get(name, {})})
    if name.startswith("hubert") or name == "melp":
        halved = {key: value.bfloat16() if value.is_floating_point() else value for key, value in state.items()}
        save_file(halved if name == "melp" else state, folder / "model.safetensors")
        return folder / "model.safetensors"
    if name.startswith("ecg_jepa_weimann"):  # their whole file has the trained encoder and the predictor too
        online = {f"{key.removeprefix('target_')}": -value for key, value in state.items()}
        model = {**online, "predictor.pos_embed": torch.zeros(1), **state}
        torch.save({"model": model, "optimizer": {"state": {0: {"exp_avg": torch.ones(3)}}}}, folder / "chkpt.pt")
        return folder / "chkpt.pt"
    document: dict[str, Any] = {
        "merl_resnet18": state,
        "ecg_jepa": {"encoder": state, "epoch": 100},
        "st_mem": {"model": state},
        "deepecg_ssl": {"model": state, "args": None},
        "d_beta": {"model": state},
        "ecg_fm": {"model": state, "optimizer_history": [{"num_updates": 5}]},
        "ecg_cpc": {"state_dict": state, "epoch": 9, "hparams_name": "hparams"},
    }[name]
    with monkeypatch.context() as patch:
        if name == "ecg_cpc":
            document["hyper_parameters"] = configuration = pickled_configuration(patch)
            document["hparams_type"] = type(configuration)
        torch.save(document, folder / "weights.pth")
    return folder / "weights.pth"


def load_and_compute(name: str, num_layers: int, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = backbone_of(name, num_layers)
    init = load_backbone(backbone, write_published(name, num_layers, folder, monkeypatch))
    with torch.no_grad():
        features = backbone.eval()(signals_for(backbone))
    first, magnitude = OFFICIAL[name, num_layers]

    if name.startswith("ecg_jepa_weimann"):
        assert all(key.startswith(("encoder.", "predictor.")) for key in init.left_out)
        init = replace(init, left_out=())
    assert set(init.left_out) == LEFT_OUT[name] | BESIDE.get(name, {}).keys()
    assert features[1, :4].tolist() == pytest.approx(first, abs=2e-5)
    assert float(features.abs().mean()) == pytest.approx(magnitude, abs=1e-5)


@pytest.mark.parametrize(("name", "num_layers"), SMALL)
def test_loads_its_published_layout_and_computes_what_the_official_code_computes(
    name: str, num_layers: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load_and_compute(name, num_layers, tmp_path, monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "num_layers"), WHOLE)
def test_loads_and_computes_at_its_published_size(
    name: str, num_layers: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load_and_compute(name, num_layers, tmp_path, monkeypatch)


@pytest.mark.parametrize(("name", "num_layers"), GRADIENTS)
def test_has_the_gradients_of_the_official_code(
    name: str, num_layers: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone = backbone_of(name, num_layers)
    load_backbone(backbone, write_published(name, num_layers, tmp_path, monkeypatch))
    features = backbone.double().eval()(signals_for(backbone).double())
    (features * rough(features.numel(), -2).float().view_as(features)).sum().backward()  # type: ignore[no-untyped-call]
    norm, layer, first = GRADIENTS[name, num_layers]

    gradients = [parameter.grad for parameter in backbone.parameters() if parameter.grad is not None]
    assert float(torch.stack([gradient.norm() for gradient in gradients]).norm()) == pytest.approx(norm, rel=1e-8)
    weight = backbone.get_submodule(layer).weight
    # its positions are float32 sines, whose last digit differs between processors
    error = 1e-7 if "weimann" in name else 1e-9
    assert weight.grad.flatten()[:4].tolist() == pytest.approx(first, abs=error)  # type: ignore[union-attr]


def test_the_full_file_of_st_mem_loads_without_its_decoder(tmp_path: Path) -> None:
    """As reference/keys/st_mem_full.txt: the embedding of patches is there twice, as the same tensors."""
    encoder, backbone = filled(published_keys("st_mem", 2)), backbone_of("st_mem", 2)
    twice = {key: value.clone() for key, value in encoder.items() if key.startswith("to_patch_embedding.")}
    decoder = {
        **dict.fromkeys(("mask_embedding", "decoder_pos_embed", "decoder_blocks.0.attn.norm.weight"), torch.ones(1)),
        **dict.fromkeys(("to_decoder_embedding.weight", "decoder_norm.bias", "decoder_head.weight"), torch.ones(1)),
    }
    full = {**{f"encoder.{key}": value for key, value in encoder.items()}, **twice, **decoder}
    torch.save({"model": full}, tmp_path / "full.pth")

    init = load_backbone(backbone, tmp_path / "full.pth")

    assert set(init.left_out) == decoder.keys()
    assert torch.equal(backbone.state_dict()["patches.1.weight"], encoder["to_patch_embedding.2.weight"])

    full["to_patch_embedding.2.weight"] = twice["to_patch_embedding.2.weight"] + 1
    torch.save({"model": full}, tmp_path / "full.pth")
    both = r"renames give encoder\.to_patch_embedding\.2\.weight and to_patch_embedding\.2\.weight one name"
    with pytest.raises(CheckpointError, match=both):
        load_backbone(backbone, tmp_path / "full.pth")


@pytest.mark.parametrize("name", PARAMETERS)
def test_has_as_many_parameters_as_published(name: str) -> None:
    with torch.device("cpu" if name == "ecg_cpc" else "meta"):
        backbone = backbone_of(name, 0)
    trained = sum(parameter.numel() for parameter in backbone.parameters() if parameter.requires_grad)

    assert trained == PARAMETERS[name]


def test_ecg_jepa_of_weimann_standardises_each_lead_and_limits_it() -> None:
    """As data/transforms.py and pretrain.py: (x - mean) / std by lead, then clip; V2 has -0.001 and 0.338 mV."""
    record = np.linspace(-2, 2, 12 * 5000, dtype=np.float32).reshape(12, 5000)
    prepared = prepare_record(record, 500, backbone_of("ecg_jepa_weimann_xs", 0).signal_spec)

    assert prepared[7] == pytest.approx(np.clip((record[7] + 0.001) / 0.338, -5, 5), abs=1e-6)
    assert (prepared.min(), prepared.max()) == (-5, 5)
    with pytest.raises(DataError, match="the 12 leads by name, got 2 leads"):
        prepare_record(record[:2], 500, SignalSpec(500, "ecg_jepa_weimann", leads=("I", "II")))


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
    on_two_ranks = name in ("merl_resnet18", "ecg_jepa", "hubert_ecg_small", "ecg_fm")

    assert [finding for finding in check_backbone(reference, two_processes=on_two_ranks) if finding.fault] == []


def test_the_recipe_of_hubert_ecg_freezes_what_its_authors_freeze() -> None:
    """Their `encoder.requires_grad_(False)` holds positions and norm, before layers are thawed; another norm trains."""

    def frozen(name: str, method: str) -> list[str]:
        with torch.device("meta"):
            groups = layer_groups(backbone_of(name, 2))
        (phase,) = make_method(Reference(method)).phases(groups)
        return [group.removeprefix("backbone.") for group in groups if group not in phase.learning_rates]

    assert frozen("hubert_ecg_small", "ft-hubert-ecg") == ["convolutions", "positions", "norm"]
    assert frozen("st_mem", "ft-hubert-ecg") == ["patches"]
    assert frozen("ecg_fm", "ft-ecg-fm") == ["convolutions"]


def test_the_halves_of_ft_disc_are_encoder_and_predictor_of_ecg_cpc() -> None:
    groups = layer_groups(backbone_of("ecg_cpc", 0))
    (phase,) = make_method(Reference("ft-ecg-cpc")).phases(groups)

    assert (phase.weight_decay, phase.batch_size, phase.epochs) == (1e-3, 64, 100)
    for group in groups:
        assert phase.learning_rates[group] == pytest.approx(1e-5 if ".encoder." in group else 1e-4), group


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
