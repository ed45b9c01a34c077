"""Whether a GGUF file answers as the model does that it was made of: both asked in transformers, greedily, in float32."""

import gc
from pathlib import Path
from typing import Any

import psutil
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig, GgufConfig

from engine.after.target import size
from engine.after.trained import Trained
from engine.taking.answers import compared
from engine.taking.files import model_files, total
from engine.worker.job import Job

PROMPTS = (
    "What is the capital of France?",
    "How do I make tea?",
    "Write one sentence about the sea.",
    "What is 12 + 30?",
)
TOKENS = 24
Summary = dict[str, Any]


def check_answers(job: Job, trained: Trained, model: Path, file: Path, exact: bool) -> Summary:
    """What both answer, compared. `exact`: the file is in 16 bit or more, so its answers should be the same.

    Raises RunError if such a file answers differently altogether.
    """
    needed = total(model_files(model)) * 2 * 1.3
    free = psutil.virtual_memory().available
    if free < needed:
        why = f"It was not asked anything: that takes {size(needed)} of memory, {size(free)} are free."
        return {"said": "its header is right", "notes": [why]}
    prompts = [*(trained.spec.evaluation.prompts or [])[:2], *PROMPTS][:4]
    tokenizer = AutoTokenizer.from_pretrained(model)
    texts = [_rendered(tokenizer, prompt) for prompt in prompts]
    job.reporter.phase("check", "the model answers")
    job.stop()
    wanted = _answers(
        AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32, use_safetensors=True), tokenizer, texts
    )
    job.stop()
    job.reporter.phase("check", "the GGUF file answers")
    try:
        theirs = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
        loaded = AutoModelForCausalLM.from_pretrained(
            file.parent, gguf_file=file.name, dtype=torch.float32, quantization_config=GgufConfig(dequantize=True)
        )
    except (
        ValueError,
        NotImplementedError,
        KeyError,
        ImportError,
    ) as error:  # transformers reads some architectures only
        first = str(error).strip().split("\n")[0][:200]
        return {
            "said": "its header is right",
            "notes": [f"transformers cannot load the file, so it was not asked anything: {first}"],
        }
    got = _answers(loaded, tokenizer, texts)
    return compared(prompts, wanted, got, _same_ids(tokenizer, theirs, texts), exact)


def _rendered(tokenizer: Any, prompt: str) -> str:
    if not tokenizer.chat_template:
        return prompt
    return str(
        tokenizer.apply_chat_template([{"role": "user", "content": prompt}], tokenize=False, add_generation_prompt=True)
    )


def _answers(model: Any, tokenizer: Any, texts: list[str]) -> list[tuple[list[int], str]]:
    """Token ids and text of each greedy answer."""
    greedy = GenerationConfig(max_new_tokens=TOKENS, do_sample=False, eos_token_id=tokenizer.eos_token_id,
                              pad_token_id=tokenizer.pad_token_id or tokenizer.eos_token_id or 0)  # fmt: skip
    found = []
    with torch.no_grad():
        for text in texts:
            ids = tokenizer(text, add_special_tokens=not tokenizer.chat_template, return_tensors="pt").input_ids
            made = model.eval().generate(input_ids=ids, attention_mask=torch.ones_like(ids), generation_config=greedy)
            answer = made[0, ids.shape[1] :].tolist()
            found.append((answer, tokenizer.decode(answer, skip_special_tokens=True)))
    del model
    gc.collect()
    return found


def _same_ids(ours: Any, theirs: Any, texts: list[str]) -> bool:
    """Whether the tokenizer in the file makes the same tokens of the prompts."""
    return all(
        ours(text, add_special_tokens=False).input_ids == theirs(text, add_special_tokens=False).input_ids
        for text in texts
    )
