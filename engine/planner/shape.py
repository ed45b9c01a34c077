"""The shape of a decoder as far as its memory depends on it, from the content of its config.json. No torch.

Each family's facts were read in its class in the installed transformers; a test holds the parameter counts equal to the classes'.
"""

from dataclasses import dataclass, replace
from typing import Any, Literal

from engine.errors import ModelError, SpecError

Norm = Literal["rms", "gemma", "layer"]


class UnknownArchitecture(ModelError):
    """The closed form does not know this family: only a trace of the real step can tell."""


@dataclass(frozen=True)
class Linear:
    """A matrix of a block, by the name that adapters know it by. `experts` of them lie in one parameter, which neither
    bitsandbytes (`type(module) is nn.Linear`) nor `all-linear` reaches."""

    name: str
    inputs: int
    outputs: int
    bias: bool = False
    experts: int = 0
    quantizable: bool = True

    @property
    def parameters(self) -> int:
        return max(1, self.experts) * (self.inputs + self.bias) * self.outputs


@dataclass(frozen=True)
class Family:
    """What the classes of one `model_type` have in common."""

    norm: Norm = "rms"
    norms: int = 2
    layout: Literal["pre", "post", "sandwich", "parallel"] = "pre"
    """Where the norms are: before attention and MLP, behind them, both, or before the two side by side."""
    rotary: bool = True
    qkv: Literal["split", "fused"] = "split"
    mlp: Literal["gated", "fused", "plain"] = "gated"
    names: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
    bias: tuple[bool | str, bool | str, bool | str] = (False, False, False)
    """Of q/k/v, of the output projection, of the MLP: a key of the config, or a fact."""
    qk_norm: Literal["head", "all"] | None = None
    tied: bool = False
    learned_positions: bool = False
    head_bias: bool = False
    sdpa: bool = True
    quantizable: bool = True
    activation: str = "silu"
    sinks: bool = False


_GPT_NAMES = ("c_attn", "c_proj", "c_fc", "c_proj")
_LLAMA = Family(bias=("attention_bias", "attention_bias", "mlp_bias"))
_GEMMA = Family(
    norm="gemma", tied=True, activation="gelu_pytorch_tanh", bias=("attention_bias", "attention_bias", False)
)
FAMILIES = {
    "llama": _LLAMA,
    "smollm3": Family(bias=("attention_bias", "attention_bias", "mlp_bias"), tied=True),
    "granite": _LLAMA,
    "mistral": Family(),
    "ministral": Family(),
    "qwen2": Family(bias=(True, False, False)),
    "qwen3": Family(bias=("attention_bias", "attention_bias", False), qk_norm="head"),
    "olmo2": Family(layout="post", bias=("attention_bias", "attention_bias", False), qk_norm="all"),
    "gemma": _GEMMA,
    "gemma2": Family(norm="gemma", norms=4, layout="sandwich", tied=True, activation="gelu_pytorch_tanh", sdpa=False,
                     bias=("attention_bias", "attention_bias", False)),
    "gemma3_text": Family(norm="gemma", norms=4, layout="sandwich", tied=True, activation="gelu_pytorch_tanh", qk_norm="head",
                          bias=("attention_bias", "attention_bias", False)),
    "phi": Family(norm="layer", norms=1, layout="parallel", mlp="plain", bias=(True, True, True), head_bias=True,
                  activation="gelu_new", names=("q_proj", "k_proj", "v_proj", "dense", "fc1", "fc2")),
    "phi3": Family(qkv="fused", mlp="fused", names=("qkv_proj", "o_proj", "gate_up_proj", "down_proj")),
    "falcon": Family(norm="layer", norms=1, layout="parallel", qkv="fused", mlp="plain", bias=("bias", "bias", "bias"),
                     activation="gelu", tied=True, quantizable=False,
                     names=("query_key_value", "dense", "dense_h_to_4h", "dense_4h_to_h")),
    "gpt_neox": Family(norm="layer", layout="parallel", qkv="fused", mlp="plain", activation="gelu",
                       bias=("attention_bias", "attention_bias", True),
                       names=("query_key_value", "dense", "dense_h_to_4h", "dense_4h_to_h")),
    "gpt2": Family(norm="layer", qkv="fused", mlp="plain", bias=(True, True, True), tied=True, learned_positions=True, rotary=False,
                   activation="gelu_new", names=_GPT_NAMES),
    "starcoder2": Family(norm="layer", mlp="plain", bias=("use_bias", "use_bias", "use_bias"), tied=True,
                         activation="gelu_pytorch_tanh",
                         names=("q_proj", "k_proj", "v_proj", "o_proj", "c_fc", "c_proj")),
    "stablelm": Family(norm="layer", bias=("use_qkv_bias", False, False)),
    "mixtral": Family(),
    "qwen2_moe": Family(bias=("qkv_bias", False, False)),
    "qwen3_moe": Family(bias=("attention_bias", "attention_bias", False), qk_norm="head"),
    "gpt_oss": Family(bias=("attention_bias", "attention_bias", True), sdpa=False, sinks=True),
}  # fmt: skip
MIXTURES = ("mixtral", "qwen2_moe", "qwen3_moe", "gpt_oss")
"""Families with routed experts."""
_DEFAULTS: dict[str, dict[str, Any]] = {
    "qwen3": {"head_dim": 128},
    "gemma": {"head_dim": 256},
    "gemma2": {"head_dim": 256},
    "gemma3_text": {"head_dim": 256, "vocab_size": 262208, "num_attention_heads": 8, "num_key_value_heads": 4},
    "qwen2_moe": {"qkv_bias": True},
    "gpt_neox": {"attention_bias": True},
    "starcoder2": {"use_bias": True},
    "gpt_oss": {"head_dim": 64, "attention_bias": True},
}
"""What the class's configuration fills in where config.json is silent."""
_OTHER_NAMES = {
    "hidden_size": ("n_embd", "d_model"),
    "num_hidden_layers": ("n_layer",),
    "num_attention_heads": ("n_head", "num_attention_heads"),
    "max_position_embeddings": ("n_positions", "n_ctx"),
    "intermediate_size": ("n_inner", "ffn_hidden_size"),
}


@dataclass(frozen=True)
class Shape:
    """A decoder: sizes in elements, `linears` those of one block in the order in which they run.

    `experts` are routed (0 for a dense model), `active` of them see each token; `other` are parameters outside the
    decoder, as of a vision tower, which are loaded and not trained.
    """

    model_type: str
    family: Family
    vocab: int
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int
    context: int
    tied: bool
    linears: tuple[Linear, ...]
    experts: int = 0
    active: int = 0
    expert_intermediate: int = 0
    shared_intermediate: int = 0
    window: int | None = None
    activation: str = "silu"
    dropout: float = 0.0
    softcap: bool = False
    """Whether attention's scores are capped, which only eager attention and flash-attn can."""
    other: int = 0
    other_linears: tuple[Linear, ...] = ()
    """Matrices among the `other` parameters: quantised and adapted like the rest, though text does not pass through them."""

    @property
    def queries(self) -> int:
        return self.heads * self.head_dim

    @property
    def keys(self) -> int:
        return self.kv_heads * self.head_dim

    @property
    def embedding(self) -> int:
        """Elements of the token embedding, which is also the size of the output head."""
        return self.vocab * self.hidden

    @property
    def norm_parameters(self) -> int:
        """Norm weights and biases of one block."""
        each = self.hidden * (2 if self.family.norm == "layer" and self.model_type != "cohere" else 1)
        heads = {"head": 2 * self.head_dim, "all": self.queries + self.keys, None: 0}[self.family.qk_norm]
        return self.family.norms * each + heads

    @property
    def block(self) -> int:
        """Parameters of one block."""
        router = self.experts * (self.hidden + (self.model_type == "gpt_oss"))
        gate = self.hidden if self.shared_intermediate else 0
        sinks = self.heads if self.family.sinks else 0
        return sum(one.parameters for one in self.linears) + self.norm_parameters + router + gate + sinks

    @property
    def outside(self) -> int:
        """Parameters outside the blocks: embeddings, head, last norm."""
        norm = self.hidden * (2 if self.family.norm == "layer" else 1)
        positions = self.context * self.hidden if self.family.learned_positions else 0
        head = 0 if self.tied else self.embedding
        return self.embedding + head + positions + norm + self.family.head_bias * self.vocab

    @property
    def parameters(self) -> int:
        """All of them, tied ones counted once."""
        return self.layers * self.block + self.outside + self.other


def shape(config: dict[str, Any], counted: int | None = None) -> Shape:
    """The shape that a config.json describes. `counted` is how many elements the weights on disk have, if known.

    Raises UnknownArchitecture for a family that the closed form does not know, ModelError for nonsense.
    """
    text = _section(config, "text_config") or config
    kind = str(text.get("model_type") or config.get("model_type") or "")
    if kind in ("gemma3", "mistral3", "mistral4"):
        kind = "gemma3_text" if kind == "gemma3" else "mistral"
    family = FAMILIES.get(kind)
    if family is None:
        raise UnknownArchitecture(
            "The closed form does not know this architecture",
            f"model_type is {kind or 'missing'}; known: {', '.join(FAMILIES)}.",
            "Ask for a trace of the real step: tunedeck plan ... --exact",
        )
    read = _Reader({**_DEFAULTS.get(kind, {}), **{k: v for k, v in text.items() if v is not None}})
    hidden, heads = read.size("hidden_size"), read.size("num_attention_heads")
    kv = 1 if kind == "falcon" and read.flag("multi_query", True) else heads
    if kind == "falcon" and read.flag("new_decoder_architecture", False):
        kv = read.size("num_kv_heads", heads)
        family = replace(family, norms=2)
    if kind not in ("falcon", "gpt_neox", "gpt2"):  # those do not read it
        kv = read.size("num_key_value_heads", kv)
    experts = _experts(kind, read)
    made = Shape(
        model_type=kind,
        family=family,
        vocab=read.size("vocab_size"),
        hidden=hidden,
        layers=read.size("num_hidden_layers"),
        heads=heads,
        kv_heads=kv,
        head_dim=read.size("head_dim", max(1, hidden // heads)),
        intermediate=read.size("intermediate_size", 4 * hidden),
        context=read.size("max_position_embeddings", 2048),
        tied=bool(config.get("tie_word_embeddings", text.get("tie_word_embeddings", family.tied))),
        linears=(),
        window=_window(text),
        activation=str(text.get("hidden_activation") or text.get("hidden_act") or text.get("activation_function")
                       or family.activation),
        softcap=bool(text.get("attn_logit_softcapping", kind == "gemma2")),
        dropout=read.share("resid_pdrop", 0.1 if kind == "gpt2" else read.share("hidden_dropout", 0.0)),
        experts=experts[0],
        active=experts[1],
        expert_intermediate=experts[2],
        shared_intermediate=experts[3],
    )  # fmt: skip
    if made.heads % made.kv_heads:
        raise _nonsense(f"{made.heads} attention heads are no multiple of {made.kv_heads} key-value heads")
    linears = tuple(replace(one, quantizable=family.quantizable and not one.experts) for one in _linears(made, text))
    made = replace(made, linears=linears)
    if not _section(config, "vision_config"):
        return made
    linears, parameters = _vision(config)
    return replace(made, other_linears=linears, other=max(parameters, (counted or 0) - made.parameters))


def attention_names(config: dict[str, Any]) -> list[str]:
    """What the projections of attention are called in this family: q_proj, k_proj, v_proj, o_proj where it is unknown."""
    text = config.get("text_config") or config
    family = FAMILIES.get(str(text.get("model_type")), _LLAMA)
    return list(dict.fromkeys(family.names[: 2 if family.qkv == "fused" else 4]))


def feeds_forward(made: Shape, one: Linear) -> bool:
    """Whether a matrix belongs to the MLP: IA3 scales what goes into it, not what comes out."""
    return one not in made.linears[: 2 if made.family.qkv == "fused" else 4]


def ia3_names(config: dict[str, Any]) -> list[str]:
    """What (IA)^3 scales: keys, values and what goes into the last matrix of the MLP (Liu et al. 2022, 3.3). Where one matrix
    makes queries, keys and values, all of them, as peft has it for these families.

    Raises SpecError for a family that the closed form does not know: which of its matrices those are has to be said.
    """
    text = config.get("text_config") or config
    kind = str(text.get("model_type"))
    family = FAMILIES.get(kind)
    if family is None:
        raise SpecError(
            "It is not known what IA3 would scale here",
            f"model_type is {kind}; its keys, values and the last matrix of its MLP are wanted.",
            "Name them: method.targets=[k_proj,v_proj,down_proj].",
        )
    attention = list(family.names[:1] if family.qkv == "fused" else family.names[1:3])
    if kind in MIXTURES:  # the experts' matrices are one parameter, which peft cannot scale
        return attention
    last = family.names[-1]
    return [*attention, f"mlp.{last}" if last in family.names[:-1] else last]


class _Reader:
    """Sizes by any of the names that config.json files use for them."""

    def __init__(self, values: dict[str, Any]) -> None:
        self.values = values

    def size(self, name: str, default: int | None = None) -> int:
        names = (name, *_OTHER_NAMES.get(name, ()))
        value = next((self.values[n] for n in names if n in self.values), default)
        if value is None:
            raise ModelError(
                "The model's config.json is incomplete", f"It lacks {name}.", "Copy config.json again from the hub."
            )
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or not 0 < value < 2**40
            or value != int(value)
        ):
            raise _nonsense(f"{name} is {str(value)[:40]}")
        return int(value)

    def share(self, name: str, default: float) -> float:
        value = self.values.get(name, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
            raise _nonsense(f"{name} is {str(value)[:40]}")
        return float(value)

    def flag(self, name: str, default: bool) -> bool:
        return bool(self.values.get(name, default))


def _section(config: dict[str, Any], name: str) -> dict[str, Any]:
    """A part of the config that is itself a mapping; empty if it is absent or null."""
    part = config.get(name) or {}
    if not isinstance(part, dict):
        raise _nonsense(f"{name} is {str(part)[:40]}")
    return part


def _nonsense(what: str) -> ModelError:
    return ModelError("The model's config.json makes no sense", f"{what}.", "Copy config.json again from the hub.")


def _window(text: dict[str, Any]) -> int | None:
    window = text.get("sliding_window")
    return int(window) if isinstance(window, int) and window > 0 and text.get("use_sliding_window", True) else None


def _experts(kind: str, read: _Reader) -> tuple[int, int, int, int]:
    """How many experts there are, how many see a token, how wide they are, how wide the shared one is."""
    if kind not in MIXTURES:
        return 0, 0, 0, 0
    own = kind in ("mixtral", "gpt_oss")
    experts = read.size(
        "num_local_experts" if own else "num_experts", {"mixtral": 8, "qwen2_moe": 60, "qwen3_moe": 128}.get(kind)
    )
    active = read.size("num_experts_per_tok", {"mixtral": 2, "qwen2_moe": 4}.get(kind, 8))
    width = read.size("intermediate_size" if own else "moe_intermediate_size",
                      None if own else 768 if kind == "qwen3_moe" else 1408)  # fmt: skip
    shared = read.size("shared_expert_intermediate_size", 5632) if kind == "qwen2_moe" else 0
    return experts, min(experts, active), width, shared


def _linears(made: Shape, text: dict[str, Any]) -> list[Linear]:
    family = made.family
    values = {**_DEFAULTS.get(made.model_type, {}), **text}
    qkv, out, mlp = (bool(values.get(b, False)) if isinstance(b, str) else b for b in family.bias)
    names, h, f = family.names, made.hidden, made.intermediate
    if family.qkv == "fused":
        found = [Linear(names[0], h, made.queries + 2 * made.keys, qkv), Linear(names[1], made.queries, h, out)]
        rest = names[2:]
    else:
        sizes = (made.queries, made.keys, made.keys)
        found = [Linear(name, h, size, qkv) for name, size in zip(names, sizes, strict=False)]
        found.append(Linear(names[3], made.queries, h, out))
        rest = names[4:]
    if made.experts:
        e, bias = made.expert_intermediate, made.model_type == "gpt_oss"
        found += [Linear("experts", h, 2 * e, bias, made.experts), Linear("experts", e, h, bias, made.experts)]
        s = made.shared_intermediate
        if s:
            found += [Linear("gate_proj", h, s), Linear("up_proj", h, s), Linear("down_proj", s, h)]
    elif family.mlp == "gated":
        found += [Linear(rest[0], h, f, mlp), Linear(rest[1], h, f, mlp), Linear(rest[2], f, h, mlp)]
    elif family.mlp == "fused":
        found += [Linear(rest[0], h, 2 * f, mlp), Linear(rest[1], f, h, mlp)]
    else:
        found += [Linear(rest[0], h, f, mlp), Linear(rest[1], f, h, mlp)]
    return found


def _vision(config: dict[str, Any]) -> tuple[tuple[Linear, ...], int]:
    """Matrices and parameters of a SigLIP tower and its projector, as Gemma 3 has them (transformers' Siglip and Gemma3)."""
    vision, text = _Reader(config["vision_config"]), _Reader(config.get("text_config") or config)
    h, f = vision.size("hidden_size", 1152), vision.size("intermediate_size", 4304)
    layers, patch = vision.size("num_hidden_layers", 27), vision.size("patch_size", 14)
    patches = (vision.size("image_size", 896) // patch) ** 2
    mlp = (Linear("fc1", h, f, True), Linear("fc2", f, h, True))
    names = ("k_proj", "v_proj", "q_proj", "out_proj")
    linears = (*(Linear(name, h, h, True) for name in names), *mlp) * layers
    outside = 4 * h * layers + 3 * patch * patch * h + h + patches * h + 2 * h
    if vision.flag("vision_use_head", True):  # a probe, its own attention, a norm and an MLP
        linears += mlp
        outside += h + 4 * h * h + 4 * h + 2 * h
    projector = h * text.size("hidden_size", 2304) + h
    return linears, sum(one.parameters for one in linears) + outside + projector
