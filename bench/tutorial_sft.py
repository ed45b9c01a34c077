"""`python -m bench.tutorial_sft MODEL DATA STEPS BATCH LENGTH RANK`: the script that tutorials give for LoRA.

Alpaca rows as one text, padded to the longest length, loss on every token, float32, the plain Trainer. Prints one JSON line.
"""

import json
import sys
from typing import Any

import torch
from datasets import load_dataset
from peft import LoraConfig, get_peft_model
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    DataCollatorForLanguageModeling,
    Trainer,
    TrainingArguments,
)


def main() -> None:
    model_path, data, steps, batch, length, rank, folder = sys.argv[1:]
    tokenizer = AutoTokenizer.from_pretrained(model_path)
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token

    def tokenize(row: dict[str, str]) -> dict[str, Any]:
        messages = [{"role": "user", "content": row["instruction"]}, {"role": "assistant", "content": row["output"]}]
        text = tokenizer.apply_chat_template(messages, tokenize=False)
        return dict(tokenizer(text, truncation=True, padding="max_length", max_length=int(length)))

    rows = load_dataset("json", data_files=data, split="train")
    rows = rows.map(tokenize, remove_columns=rows.column_names)
    model = get_peft_model(
        AutoModelForCausalLM.from_pretrained(model_path, dtype="float32"),
        LoraConfig(
            r=int(rank), lora_alpha=2 * int(rank), lora_dropout=0.05, target_modules="all-linear", task_type="CAUSAL_LM"
        ),
    )
    arguments = TrainingArguments(
        folder, per_device_train_batch_size=int(batch), max_steps=int(steps), learning_rate=2e-4, logging_steps=1, report_to="none",
        save_strategy="no", use_cpu=not torch.cuda.is_available(), seed=42,
    )  # fmt: skip
    trainer = Trainer(
        model, arguments, train_dataset=rows, data_collator=DataCollatorForLanguageModeling(tokenizer, mlm=False)
    )
    real = [sum(mask) for mask in rows["attention_mask"]]
    result = trainer.train()
    seen = int(steps) * int(batch)
    tokens = sum(real) / len(real) * seen  # rows are drawn at random: their mean length
    print(json.dumps({"seconds": result.metrics["train_runtime"], "tokens": tokens}))


if __name__ == "__main__":
    main()
