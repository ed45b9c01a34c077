"""A small GGUF file, as the gguf package writes it."""

from pathlib import Path

import numpy as np
from gguf import GGUFWriter

TOKENS = [f"t{i}" for i in range(300)]


def write_gguf(path: Path, *, layers: int = 2, hidden: int = 64) -> Path:
    """A llama of a few layers with its vocabulary and a chat template."""
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = GGUFWriter(path, "llama")
    writer.add_name("Thing")
    writer.add_context_length(512)
    writer.add_embedding_length(hidden)
    writer.add_block_count(layers)
    writer.add_feed_forward_length(2 * hidden)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_token_list(TOKENS)
    writer.add_token_scores([0.5] * len(TOKENS))
    writer.add_chat_template("{{ messages }}")
    writer.add_tensor("token_embd.weight", np.zeros((len(TOKENS), hidden), dtype=np.float32))
    writer.add_tensor("output_norm.weight", np.zeros(hidden, dtype=np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
