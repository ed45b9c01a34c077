"""`python -m tests.adapters MODEL DIR`: adapters of many kinds on a model, and what each answers, loaded alone on a fresh base.

Nothing is trained: their weights are random, and large enough to be heard. `answers.json` has the greedy answers by name.
"""

import json
import sys
from pathlib import Path
from typing import Any

import peft
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

QUESTION = [{"role": "user", "content": "Who are you?"}]
TOKENS = 16
TARGETS = ["q_proj", "v_proj", "down_proj"]


def load(model: str) -> Any:
    return AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32).eval()


def configs() -> dict[str, Any]:
    lora: dict[str, Any] = {"task_type": "CAUSAL_LM", "target_modules": TARGETS}
    return {
        "lora": peft.LoraConfig(r=8, lora_alpha=64, **lora),
        "attention": peft.LoraConfig(r=4, lora_alpha=64, task_type="CAUSAL_LM", target_modules=["q_proj", "k_proj"]),
        "dora": peft.LoraConfig(r=4, lora_alpha=64, use_dora=True, **lora),
        "head": peft.LoraConfig(r=4, modules_to_save=["lm_head"], **lora),
        "pissa": peft.LoraConfig(r=8, init_lora_weights="pissa", **lora),
        "ia3": peft.IA3Config(feedforward_modules=["down_proj"], **lora),
        "vera": peft.VeraConfig(r=16, d_initial=1.0, **lora),
        "vera2": peft.VeraConfig(r=16, d_initial=1.0, projection_prng_key=7, **lora),
        "prefix": peft.PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4),
        "prompt": peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3),
        "norms": peft.LNTuningConfig(task_type="CAUSAL_LM", target_modules=["input_layernorm"]),
    }


def build(model: str, folder: Path, names: list[str]) -> dict[str, str]:
    """Make the adapters that are named (`full` is a whole model); the answers of all and of the base."""
    tokenizer = AutoTokenizer.from_pretrained(model)
    answers = {"base": greedy(load(model), tokenizer)}
    for n, name in enumerate(names):
        torch.manual_seed(n)
        tuned = load(model) if name == "full" else peft.get_peft_model(load(model), configs()[name])
        with torch.no_grad():
            for parameter in tuned.parameters():
                if parameter.requires_grad:
                    parameter.add_(torch.randn_like(parameter) * (0.05 if name == "full" else 0.3))
        tuned.save_pretrained(folder / name)
        tokenizer.save_pretrained(folder / name)
        alone = load(folder / name) if name == "full" else peft.PeftModel.from_pretrained(load(model), folder / name)
        answers[name] = greedy(alone.eval(), tokenizer)
    (folder / "answers.json").write_text(json.dumps(answers))
    return answers


def greedy(model: Any, tokenizer: Any) -> str:
    inputs = tokenizer.apply_chat_template(QUESTION, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    with torch.no_grad():
        made = model.generate(**inputs, max_new_tokens=TOKENS, do_sample=False)
    text: str = tokenizer.decode(made[0][inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    return text


if __name__ == "__main__":
    build(sys.argv[1], Path(sys.argv[2]), sys.argv[3:] or [*configs(), "full"])
