"""The methods of fine-tuning and what each lets one set. What goes with what is in engine/compatibility.py.

Names are the field's; `peft` is peft's own (PeftType). A test compares the fields with those of the installed peft.
"""

from typing import NamedTuple


class Method(NamedTuple):
    """`peft`: the PeftType, "" for full fine-tuning. `fields`: what of the specification's method section it has."""

    peft: str
    fields: frozenset[str]
    title: str


def _method(peft: str, fields: str, title: str) -> Method:
    return Method(peft, frozenset(fields.split()), title)


_PLACED = "targets modules_to_save"
METHODS: dict[str, Method] = {
    "full": _method("", "", "full fine-tuning: every weight"),
    "lora": _method("LORA", f"rank alpha dropout variant {_PLACED}", "LoRA (Hu et al. 2021)"),
    "qlora": _method(
        "LORA", f"rank alpha dropout variant {_PLACED}", "LoRA on a quantised base (Dettmers et al. 2023)"
    ),
    "adalora": _method("ADALORA", f"rank alpha dropout {_PLACED}", "LoRA that moves its rank to where it helps (2023)"),
    "ia3": _method("IA3", _PLACED, "scales of keys, values and feed-forward (Liu et al. 2022)"),
    "prefix": _method("PREFIX_TUNING", "virtual_tokens", "keys and values before every layer (Li & Liang 2021)"),
    "prompt": _method("PROMPT_TUNING", "virtual_tokens", "learned tokens before the text (Lester et al. 2021)"),
    "ptuning": _method("P_TUNING", "virtual_tokens", "learned tokens through an encoder (Liu et al. 2021)"),
    "vera": _method("VERA", f"rank {_PLACED}", "vectors on shared random matrices (Kopiczko et al. 2024)"),
    "oft": _method("OFT", _PLACED, "orthogonal turns of the weights (Qiu et al. 2023)"),
    "boft": _method("BOFT", _PLACED, "orthogonal turns as butterflies (Liu et al. 2024)"),
    "loha": _method("LOHA", f"rank alpha {_PLACED}", "Hadamard product of two low ranks (Hyeon-Woo et al. 2022)"),
    "lokr": _method("LOKR", f"rank alpha {_PLACED}", "Kronecker product of low ranks (Edalati et al. 2022)"),
    "hra": _method("HRA", f"rank {_PLACED}", "Householder reflections (Yuan et al. 2024)"),
    "randlora": _method("RANDLORA", f"rank {_PLACED}", "full-rank updates from random bases (Albert et al. 2025)"),
    "shira": _method("SHIRA", f"rank {_PLACED}", "a few of the weights themselves (Bhardwaj et al. 2024)"),
    "miss": _method("MISS", f"rank {_PLACED}", "one matrix in shards (Kang & Yin 2024)"),
    "delora": _method("DELORA", f"rank {_PLACED}", "LoRA with angle and strength apart (Bini et al. 2025)"),
    "road": _method("ROAD", _PLACED, "rotations in two dimensions (Liao & Monz 2024)"),
    "fourierft": _method("FOURIERFT", _PLACED, "a sparse spectrum of the update (Gao et al. 2024)"),
    "ln_tuning": _method("LN_TUNING", "modules_to_save", "the norms alone (Zhao et al. 2023)"),
}
METHOD_NAMES = {"prefix_tuning": "prefix", "prefix-tuning": "prefix", "prompt_tuning": "prompt", "prompt-tuning": "prompt",
                "p_tuning": "ptuning", "p-tuning": "ptuning", "(ia)3": "ia3"}  # fmt: skip
"""Other spellings that people use."""
VIRTUAL = ("prefix", "prompt", "ptuning")
"""Methods that put learned tokens before the text: they cannot be merged into the weights."""
OPTIMIZERS = (
    "adamw_torch", "adamw_torch_fused", "adamw_torch_xla", "adamw_torch_npu_fused", "adafactor", "adamw_anyprecision",
    "adamw_torch_4bit", "adamw_torch_8bit", "ademamix", "sgd", "adagrad", "adamw_bnb_8bit", "adamw_8bit", "ademamix_8bit",
    "lion_8bit", "lion_32bit", "paged_adamw_32bit", "paged_adamw_8bit", "paged_ademamix_32bit", "paged_ademamix_8bit",
    "paged_lion_32bit", "paged_lion_8bit", "rmsprop", "rmsprop_bnb", "rmsprop_bnb_8bit", "rmsprop_bnb_32bit", "galore_adamw",
    "galore_adamw_8bit", "galore_adafactor", "galore_adamw_layerwise", "galore_adamw_8bit_layerwise",
    "galore_adafactor_layerwise", "lomo", "adalomo", "grokadamw", "schedule_free_radam", "schedule_free_adamw",
    "schedule_free_sgd", "apollo_adamw", "apollo_adamw_layerwise", "stable_adamw",
)  # fmt: skip
SCHEDULES = ("linear", "cosine", "cosine_with_restarts", "polynomial", "constant", "constant_with_warmup", "inverse_sqrt",
             "reduce_lr_on_plateau", "cosine_with_min_lr", "cosine_warmup_with_min_lr", "warmup_stable_decay", "greedy")  # fmt: skip
"""As transformers names them (OptimizerNames, SchedulerType); a test compares them with the installed ones."""


def with_field(name: str) -> list[str]:
    """The methods that have a field of the specification's method section."""
    return [kind for kind, method in METHODS.items() if name in method.fields]
