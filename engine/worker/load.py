"""Base model and tokenizer, in the precision and quantisation that the spec asks for."""

import fcntl
import hashlib
import os
import shutil
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BitsAndBytesConfig,
    GgufConfig,
    set_seed,
)

from engine.data.tokens import Tokens, stop_token, template_source
from engine.errors import ModelError
from engine.models import ModelFacts, inspect_model
from engine.paths import cache_directory
from engine.spec import QuantizationSpec, RunSpec
from engine.worker.reporter import Reporter


def ready_model(spec: RunSpec, reporter: Reporter) -> ModelFacts:
    """The model as transformers can load it: a GGUF file is dequantised once and kept in the cache."""
    facts = inspect_model(spec.model.path, spec.model.revision)
    if facts.source != "gguf":
        return facts
    return inspect_model(str(_dequantised(Path(facts.path), reporter)))


def _dequantised(file: Path, reporter: Reporter) -> Path:
    stat = file.stat()
    key = hashlib.sha256(f"{file.resolve()}:{stat.st_size}:{stat.st_mtime_ns}".encode()).hexdigest()[:12]
    target = cache_directory() / "dequantised" / f"{file.stem}-{key}"
    if target.is_dir():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with open(target.with_suffix(".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another run, or another rank, may be at it
        if not target.is_dir():
            reporter.phase("convert", f"{file.name} to bfloat16, once")
            _dequantise(file, target)
    return target


def _dequantise(file: Path, target: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    model = AutoModelForCausalLM.from_pretrained(
        file.parent, gguf_file=file.name, dtype=torch.bfloat16, quantization_config=GgufConfig(dequantize=True)
    )
    # What is saved is plain bfloat16, so nothing may claim that it is quantised
    model.hf_quantizer = None
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    unfinished = target.with_name(f"{target.name}.{os.getpid()}")
    shutil.rmtree(unfinished, ignore_errors=True)
    model.save_pretrained(unfinished)
    tokenizer.save_pretrained(unfinished)
    unfinished.rename(target)


def load_tokenizer(spec: RunSpec, facts: ModelFacts) -> Any:
    """The model's tokenizer with the template that the spec names, or the model's own, if there is one. Raises ModelError."""
    tokenizer = AutoTokenizer.from_pretrained(
        facts.path, revision=spec.model.revision, trust_remote_code=spec.model.trust_remote_code
    )
    own = tokenizer.chat_template
    own = own.get("default") or next(iter(own.values())) if isinstance(own, dict) else own or ""
    known = tokenizer.backend_tokenizer
    tokenizer.chat_template = template_source(spec.data.template, own, tokenizer.special_tokens_map, known) or None
    return tokenizer


def stops_at(model: Any, tokenizer: Any, spec: RunSpec) -> None:
    """With a template that is not the model's own, the token that ends its turns also ends what is generated."""
    if not spec.data.template:
        return
    tokens = Tokens(tokenizer.backend_tokenizer, tokenizer.special_tokens_map, tokenizer.chat_template)
    end = tokens.id_of(stop_token(tokens))
    ends = model.generation_config.eos_token_id
    ends = ends if isinstance(ends, list) else [] if ends is None else [ends]
    if end is not None and end not in ends:
        model.generation_config.eos_token_id = [end, *ends]
        tokenizer.eos_token = stop_token(tokens)


def model_call(spec: RunSpec) -> tuple[Any, dict[str, Any]]:
    """The class whose from_pretrained loads the base model, and its arguments: what a script needs as well."""
    dtype = torch.bfloat16 if spec.training.precision == "bf16" else torch.float32
    options: dict[str, Any] = {"dtype": dtype, "attn_implementation": spec.training.attention}
    if spec.method.base:
        sharded = spec.compute.sharding == "fsdp"
        options["quantization_config"] = quantization(spec)
        # FSDP moves its share to the card itself: a whole copy on each card first would be what does not fit
        options["device_map"] = {"": "cpu" if sharded else _device()}
    if spec.training.kernels == "hub":
        options["use_kernels"] = True
    if spec.compute.sharding == "layers":
        options["device_map"] = "auto"
    kind = AutoModelForCausalLM
    if spec.objective == "reward":
        kind, options["num_labels"] = AutoModelForSequenceClassification, 1
    named = {"revision": spec.model.revision, "trust_remote_code": spec.model.trust_remote_code}
    return kind, {**named, "use_safetensors": True, **options, **spec.extra.model}


def load_model(spec: RunSpec, facts: ModelFacts) -> Any:
    """The base model: bfloat16 weights (fp32 masters for precision mixed and fp32), quantised for QLoRA."""
    kind, options = model_call(spec)
    if spec.objective == "reward":
        set_seed(spec.training.seed)  # the score's weights are random
    try:
        return kind.from_pretrained(facts.path, **options)
    except (OSError, ValueError) as error:
        if facts.local:
            raise ModelError(
                "The model cannot be loaded", str(error).split("\n")[0][:300], "See output.log."
            ) from error
        raise


def quantization(spec: RunSpec) -> BitsAndBytesConfig:
    """4 or 8 bits. FSDP can only shard 4-bit weights that are stored in the type that it computes in."""
    base = spec.method.base or QuantizationSpec()
    whole = {"llm_int8_skip_modules": ["score"]} if spec.objective == "reward" else {}
    if base.bits == 8:
        return BitsAndBytesConfig(load_in_8bit=True, **whole)
    storage = {"bnb_4bit_quant_storage": torch.bfloat16} if spec.compute.sharding == "fsdp" else {}
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type=base.type,
        bnb_4bit_use_double_quant=base.double,
        bnb_4bit_compute_dtype=torch.bfloat16,
        **storage,
        **whole,
    )


def _device() -> str:
    return f"cuda:{os.environ.get('LOCAL_RANK', 0)}" if torch.cuda.is_available() else "cpu"
