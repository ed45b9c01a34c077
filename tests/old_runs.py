"""`python -m tests.old_runs DIR MODEL`: what real tools leave behind. TRL, TensorBoard's writer and Trackio, each for real.

trl/            an SFT with LoRA, resumed once in the same directory, reported to TensorBoard and Trackio
trackio/        the databases: project `old` (of TRL's callback) and `own` (of trackio.init and trackio.log)
tb/plain        scalars, NaN, a histogram and an image, several files, settings by add_hparams
tb/sweep        nothing but settings and results, a directory for each
"""

import json
import math
import os
import sys
from pathlib import Path


def main(place: Path, model: str) -> None:
    os.environ |= {"TRACKIO_DIR": str(place / "trackio"), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    import torch

    torch.set_num_threads(1)
    train(place, model)
    track()
    write(place / "tb")


def train(place: Path, model: str) -> None:
    """Four steps, a checkpoint, and four more from it. What the trainer itself had logged is in `history.json`."""
    from datasets import Dataset
    from peft import LoraConfig
    from trl import SFTConfig, SFTTrainer

    def trainer(steps: int) -> SFTTrainer:
        rows = Dataset.from_list([{"prompt": f"Say {i}", "completion": f"{i} it is."} for i in range(24)])
        args = SFTConfig(
            output_dir=str(place / "trl"), max_steps=steps, per_device_train_batch_size=2, logging_steps=1, save_steps=4,
            eval_strategy="steps", eval_steps=4, report_to=["tensorboard", "trackio"], learning_rate=2e-4, use_cpu=True,
            run_name="support", project="old", bf16=False, seed=7, disable_tqdm=True, lr_scheduler_type="constant",
        )  # fmt: skip
        lora = LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj"])
        return SFTTrainer(model=model, args=args, train_dataset=rows.select(range(16)),
                          eval_dataset=rows.select(range(16, 24)), peft_config=lora)  # fmt: skip

    trainer(4).train()
    second = trainer(8)
    second.train(resume_from_checkpoint=str(place / "trl" / "checkpoint-4"))
    second.save_model()
    (place / "history.json").write_text(json.dumps(second.state.log_history))


def track() -> None:
    """A run of the user's own, with what is not finite, a nested value, and a step that comes twice."""
    import trackio

    run = trackio.init(project="own", name="by hand", config={"lr": 0.1, "layers": [1, 2], "api_key": "do-not-keep"})
    for step, loss in enumerate((3.0, math.nan, math.inf, -math.inf, 1.0)):
        trackio.log({"train/loss": loss, "reward": step, "nested": {"a": step}}, step=step)
    trackio.log({"train/loss": 0.5}, step=4)
    assert run
    trackio.finish()


def write(place: Path) -> None:
    """As people use PyTorch's SummaryWriter."""
    import torch
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(place / "plain")) as writer:
        for step in range(20):
            writer.add_scalar("train/loss", 2.0 / (step + 1), step, walltime=1_600_000_000 + step)
            writer.add_scalar("val/acc", math.nan if step == 3 else step / 20, step, walltime=1_600_000_000 + step)
        writer.add_scalar("new style", 7.5, 3, new_style=True, walltime=1_600_000_003, double_precision=True)
        writer.add_histogram("weights", torch.zeros(4), 1)
        writer.add_text("about", "a text", 1)
        writer.add_hparams({"lr": 0.1, "opt": "adam", "nesterov": True}, {"hparam/acc": 0.95})
    with SummaryWriter(str(place / "plain")) as writer:  # started again from step 10
        for step in range(10, 25):
            writer.add_scalar("train/loss", 1.0 / (step + 1), step, walltime=1_600_001_000 + step)
    with SummaryWriter(str(place / "sweep")) as writer:
        for i in range(3):
            writer.add_hparams({"lr": 0.1 * (i + 1)}, {"hparam/acc": i / 10}, run_name=f"try{i}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
