"""Small tokenizers, built on the spot: one token for each byte, or for each known word."""

import json
from pathlib import Path
from typing import Any

START, END, NOTHING, BEGIN = "<|im_start|>", "<|im_end|>", "<|pad|>", "<s>"
SPECIALS = (NOTHING, BEGIN, START, END)

CHATML = (
    "{%- for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{%- endif %}"
)
"""Writes nothing but contents; no tools."""
FULL = (
    "{%- if tools %}{{ '<|im_start|>system\n' }}{%- for t in tools %}{{ t | tojson }}{%- endfor %}{{ '<|im_end|>\n' }}{%- endif %}"
    "{%- for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' }}"
    "{%- if m['reasoning_content'] %}{{ '<think>' + m['reasoning_content'] + '</think>' }}{%- endif %}{{ m['content'] }}"
    "{%- for c in m['tool_calls'] or [] %}{{ '<tool>' + c['function']['name'] + ' ' }}{{ c['function']['arguments'] | tojson }}"
    "{{ '</tool>' }}{%- endfor %}{{ '<|im_end|>\n' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{%- endif %}"
)
"""Writes everything: thoughts, calls and descriptions of tools."""


def tokenizer(directory: Path, template: str | None, words: str = "", **specials: str | None) -> Path:
    """A directory with tokenizer.json and tokenizer_config.json.

    Without `words` each byte is a token; else each of these words is one, and what else there is is `<unk>`. `specials` are
    the names of special tokens, as eos_token; None leaves one out.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    directory.mkdir(parents=True, exist_ok=True)
    if words:
        known = ["<unk>", *SPECIALS, *dict.fromkeys(words.split())]
        made = Tokenizer(models.WordLevel({word: i for i, word in enumerate(known)}, "<unk>"))
        made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    else:
        alphabet = [*SPECIALS, *sorted(pre_tokenizers.ByteLevel.alphabet())]
        made = Tokenizer(models.BPE({token: i for i, token in enumerate(alphabet)}, []))
        made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        made.decoder = decoders.ByteLevel()
    made.add_special_tokens(list(SPECIALS))
    made.save(str(directory / "tokenizer.json"))
    named: dict[str, Any] = (
        {"eos_token": END, "pad_token": NOTHING} | ({"unk_token": "<unk>"} if words else {}) | specials
    )
    settings = {name: token for name, token in named.items() if token is not None}
    settings |= {"chat_template": template} if template else {}
    (directory / "tokenizer_config.json").write_text(json.dumps(settings))
    return directory


def begins_with(directory: Path, token: str) -> Path:
    """The same tokenizer, which puts this token before every text that is no conversation, as Llama's does."""
    from tokenizers import Tokenizer, processors

    file = str(directory / "tokenizer.json")
    made = Tokenizer.from_file(file)
    made.post_processor = processors.TemplateProcessing(
        single=f"{token} $A", special_tokens=[(token, made.token_to_id(token))]
    )
    made.save(file)
    return directory
