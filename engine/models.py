"""Facts about a base model, read from its files without loading it and without torch."""

import contextlib
import dataclasses
import functools
import json
import math
import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine import catalog
from engine.errors import ModelError
from engine.gguf_header import read_header
from engine.text import clean

HUB_SECONDS = 10


@dataclass(frozen=True)
class ModelFacts:
    """What a base model's files say. `size` is bytes on disk; None is unknown."""

    path: str
    source: str
    name: str
    architecture: str
    parameters: int | None
    hidden: int
    layers: int
    intermediate: int
    heads: int
    kv_heads: int
    vocab: int
    context: int | None
    dtype: str | None
    size: int
    has_template: bool
    local: bool = True
    licence: str | None = None
    config: dict[str, Any] = dataclasses.field(default_factory=dict, repr=False, compare=False)

    @property
    def label(self) -> str:
        """Name and size in a few characters: `SmolLM2-135M-Instruct`."""
        return clean(self.name, keep_lines=False)


def inspect_model(path: str, revision: str | None = None, weights: bool = True) -> ModelFacts:
    """The facts of a directory, a `.gguf` file, a hub id in the cache, a name in the catalog, or a hub id elsewhere.

    Without `weights` a config.json is enough, and the catalog answers before the network is asked: that is for planning.
    Raises ModelError for a model that cannot be found, read, or trained on.
    """
    local = Path(path).expanduser()
    if local.is_dir():
        return _from_directory(local, weights=weights)
    if local.is_file():
        return _from_gguf(local)
    if path.startswith(("/", ".", "~")) or path.count("/") > 1 or path.endswith(".gguf"):
        raise ModelError(
            "The model was not found", f"There is no file or directory {clean(path, False)}.", "Check the path."
        )
    return _from_hub(path, revision, weights)


def _from_directory(path: Path, name: str | None = None, source: str = "directory", weights: bool = True) -> ModelFacts:
    if not (path / "config.json").is_file():
        files = sorted(path.glob("*.gguf"))
        if len(files) == 1:
            return _from_gguf(files[0])
        more = (
            f"It holds {len(files)} GGUF files: name one of them."
            if files
            else "Give the directory that holds config.json."
        )
        raise ModelError("This directory holds no model", f"{path} has no config.json.", more)
    try:
        config = json.loads((path / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(
            "The model's config.json cannot be read", f"{path}: {error}", "Copy the model again."
        ) from None
    if not isinstance(config, dict):
        raise ModelError("The model's config.json makes no sense", f"{path}: it is no object.", "Copy the model again.")
    try:
        files = _weight_files(path)
    except ModelError:
        if weights:
            raise
        files = []
    return _from_config(config, path=path, name=name or path.resolve().name, source=source, weights=files)


def _weight_files(path: Path) -> list[Path]:
    """The safetensors files that the index names, or all there are. Raises ModelError if there is none, or one lacks."""
    index = path / "model.safetensors.index.json"
    if index.is_file():
        try:
            names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        except (ValueError, KeyError, TypeError, AttributeError):
            raise ModelError("The index of the weights cannot be read", str(index), "Copy the model again.") from None
        lacking = [name for name in names if not (path / name).is_file()]
        if lacking:
            raise ModelError("Weights are missing", f"{path} lacks {', '.join(lacking[:3])}.", "Finish the download.")
        return [path / name for name in names]
    files = sorted(path.glob("*.safetensors"))
    if not files:
        pickled = list(path.glob("*.bin")) + list(path.glob("*.pt"))
        raise ModelError(
            "The model has no weights",
            f"{path} has config.json but no .safetensors file" + (", only pickled weights." if pickled else "."),
            "Convert the model to safetensors: pickled weights can run code." if pickled else "Finish the download.",
        )
    return files


def _from_config(config: dict[str, Any], path: Path, name: str, source: str, weights: list[Path]) -> ModelFacts:
    try:
        text = config.get("text_config") or config
        heads = _positive(text, "num_attention_heads", "n_head")
        hidden = _positive(text, "hidden_size", "n_embd")
        return ModelFacts(
            path=str(path),
            source=source,
            name=name,
            architecture=str((config.get("architectures") or [config.get("model_type", "unknown")])[0]),
            parameters=_count_parameters(weights),
            hidden=hidden,
            layers=int(text.get("num_hidden_layers") or text["n_layer"]),
            intermediate=int(text.get("intermediate_size") or text.get("n_inner") or 4 * hidden),
            heads=heads,
            kv_heads=int(text.get("num_key_value_heads") or heads),
            vocab=int(text["vocab_size"]),
            context=text.get("max_position_embeddings") or text.get("n_positions"),
            dtype=config.get("dtype") or config.get("torch_dtype"),
            size=sum(file.stat().st_size for file in weights),
            has_template=_has_template(path),
            config=config,
        )
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise ModelError(
            "This is not a language model that TuneDeck can read",
            f"{path}/config.json lacks or garbles {error}.",
            "Give a decoder-only model (Llama, Qwen, Mistral, Gemma, ...).",
        ) from None


def _positive(config: dict[str, Any], *names: str) -> int:
    """The first of the names that is there, a number. Raises ModelError if it is not above zero, KeyError without any."""
    name = next((name for name in names if config.get(name) is not None), names[0])
    value = int(config[name])
    if value < 1:
        raise ModelError("The model's config.json makes no sense", f"{name} is {value}.", "Copy the model again.")
    return value


def _count_parameters(weights: list[Path]) -> int | None:
    """Elements in the safetensors headers, or None if a header is unreadable. Raises ModelError for a file cut short."""
    total = 0
    for file in weights:
        try:
            with file.open("rb") as stream:
                (length,) = struct.unpack("<Q", stream.read(8))
                header = json.loads(stream.read(min(length, 100 << 20)))
            tensors = [tensor for name, tensor in header.items() if name != "__metadata__"]
            total += sum(math.prod(tensor["shape"]) for tensor in tensors)
            end = 8 + length + max((tensor["data_offsets"][1] for tensor in tensors), default=0)
        except (OSError, ValueError, struct.error, AttributeError, KeyError, TypeError, IndexError):
            return None
        if file.stat().st_size < end:
            raise ModelError(
                "Weights are cut short", f"{file} has {file.stat().st_size:,} of {end:,} bytes.", "Copy it again."
            )
    return total


def _has_template(path: Path) -> bool:
    if (path / "chat_template.jinja").is_file():
        return True
    try:
        return bool(json.loads((path / "tokenizer_config.json").read_text(encoding="utf-8")).get("chat_template"))
    except (OSError, ValueError, AttributeError):
        return False


def _from_gguf(path: Path) -> ModelFacts:
    if path.suffix != ".gguf":
        raise ModelError(
            "This file is not a model",
            f"{path} is neither a directory nor a .gguf file.",
            "Give the model's directory.",
        )
    stat = path.stat()
    return _read_gguf(path, stat.st_size, stat.st_mtime_ns)


@functools.lru_cache(maxsize=16)
def _read_gguf(path: Path, size: int, _modified: int) -> ModelFacts:
    try:
        header = read_header(path)

        def value(key: str, default: Any = None) -> Any:
            return header.values.get(key, default)

        arch = str(value("general.architecture"))
        vocab = header.lengths["tokenizer.ggml.tokens"]
        if size < header.end:
            raise ValueError(f"it has {size:,} of {header.end:,} bytes")
        if f"{arch}.attention.head_count_kv" in header.lengths:
            raise ValueError("its heads differ from layer to layer")
        return ModelFacts(
            path=str(path),
            source="gguf",
            name=path.stem,
            architecture=arch,
            parameters=sum(header.tensors.values()),
            hidden=int(value(f"{arch}.embedding_length")),
            layers=int(value(f"{arch}.block_count")),
            intermediate=int(value(f"{arch}.feed_forward_length")),
            heads=int(value(f"{arch}.attention.head_count")),
            kv_heads=int(value(f"{arch}.attention.head_count_kv", value(f"{arch}.attention.head_count"))),
            vocab=vocab,
            context=value(f"{arch}.context_length"),
            dtype="gguf",
            size=size,
            has_template=bool(value("tokenizer.chat_template")),
            config=_gguf_config(arch, value, vocab, set(header.tensors)),
        )
    except (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise ModelError(
            "The GGUF file cannot be read", f"{path}: {clean(str(error), False)[:200]}", "Copy it again."
        ) from None


GGUF_TYPES = {"falcon": "falcon", "gemma": "gemma", "gemma2": "gemma2", "gemma3": "gemma3_text", "gpt2": "gpt2", "llama": "llama",
              "olmo2": "olmo2", "phi3": "phi3", "qwen2": "qwen2", "qwen3": "qwen3", "smollm3": "smollm3"}  # fmt: skip
"""llama.cpp's names of architectures in transformers' words; Mistral's is llama."""


def _gguf_config(arch: str, value: Any, vocab: int, tensors: set[str]) -> dict[str, Any]:
    """As much of a config.json as a GGUF file tells."""
    known = {
        "model_type": GGUF_TYPES.get(arch, arch),
        "hidden_size": value(f"{arch}.embedding_length"),
        "num_hidden_layers": value(f"{arch}.block_count"),
        "intermediate_size": value(f"{arch}.feed_forward_length"),
        "num_attention_heads": value(f"{arch}.attention.head_count"),
        "num_key_value_heads": value(f"{arch}.attention.head_count_kv"),
        "head_dim": value(f"{arch}.attention.key_length"),
        "max_position_embeddings": value(f"{arch}.context_length"),
        "vocab_size": vocab,
        "tie_word_embeddings": "output.weight" not in tensors,
    }
    return {name: fact for name, fact in known.items() if fact is not None}


def hub_cache() -> Path:
    """Where huggingface_hub keeps what it downloads."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    home = Path(os.environ.get("HF_HOME") or cache / "huggingface").expanduser()
    return Path(os.environ.get("HF_HUB_CACHE") or home / "hub")


def cached_snapshot(model_id: str, revision: str | None = None) -> Path | None:
    """The directory of a model in the hub cache, or None."""
    folder = hub_cache() / ("models--" + model_id.replace("/", "--"))
    try:
        commit = (folder / "refs" / (revision or "main")).read_text().strip()
    except OSError:
        commit = revision or ""
    snapshot = folder / "snapshots" / commit
    return snapshot if commit and snapshot.is_dir() else None


def on_this_machine(path: str, revision: str | None = None) -> bool:
    """Whether the model's files are here: if not, only the hub can tell more."""
    return Path(path).expanduser().exists() or cached_snapshot(path, revision) is not None


def _from_hub(model_id: str, revision: str | None, weights: bool) -> ModelFacts:
    known = catalog.find_model(model_id)
    if known:
        model_id = known.id
    snapshot = cached_snapshot(model_id, revision)
    if snapshot:
        with contextlib.suppress(ModelError):  # a download that was cut off: the hub has the rest
            return _from_directory(snapshot, name=model_id, source="hub cache", weights=weights)
    if known and not weights and revision is None:
        facts = _from_config(known.config, path=Path(known.id), name=known.id, source="catalog", weights=[])
        return dataclasses.replace(
            facts, path=known.id, parameters=known.parameters, licence=known.licence, context=known.context,
            has_template=known.template, local=False,
        )  # fmt: skip
    facts = _from_config(_hub_config(model_id, revision), path=Path(model_id), name=model_id, source="hub", weights=[])
    return dataclasses.replace(facts, path=model_id, parameters=None, has_template=True, local=False)


def _hub_config(model_id: str, revision: str | None) -> dict[str, Any]:
    """The model's config.json as the hub has it: one request, no retries. Raises ModelError."""
    import huggingface_hub  # no torch in it
    from huggingface_hub.utils import build_hf_headers, get_session

    try:
        url = huggingface_hub.hf_hub_url(model_id, "config.json", revision=revision)
        answer = get_session().get(url, headers=build_hf_headers(), timeout=HUB_SECONDS, follow_redirects=True)
        answer.raise_for_status()
        config = answer.json()
        if not isinstance(config, dict):
            raise ValueError("config.json is no object")
        return config
    except Exception as error:  # the hub's own errors, httpx's, OSError: all mean that it is not to be had
        reason = clean(str(error).strip().split("\n")[0], False)[:160]
        raise ModelError(
            "The model was not found",
            f"{clean(model_id, False)} is no directory here and not in the hub cache, and the hub says: {reason}",
            "Check the name, log in with `hf auth login` if it is gated, or give a directory.",
        ) from None


def known_models() -> list[str]:
    """Models on this machine: hub ids in the cache that have weights."""
    found = []
    for folder in sorted(hub_cache().glob("models--*")):
        if any(folder.glob("snapshots/*/*.safetensors")):
            found.append(folder.name.removeprefix("models--").replace("--", "/"))
    return found
