"""The text of a script that trains as a run did, with TRL and without TuneDeck.

The arguments are those that training makes of the specification, by the same functions; pieces of code that TRL does not
have (a loss, a callback) are copied out of this package.
"""

import dataclasses
import importlib.metadata
import inspect
from pathlib import Path
from typing import Any

from engine.data.tokens import Tokens, stop_token
from engine.spec import RunSpec
from engine.worker import adapters, guards, head, load, pairs
from engine.worker.adapters import peft_config
from engine.worker.script_code import Code, bitsandbytes_arguments, call, differing, read_template, reward_modules, uses
from engine.worker.script_rows import Rows
from engine.worker.training import objective_module

TRAINERS = {"sft": "SFT", "text": "SFT", "dpo": "DPO", "kto": "KTO", "reward": "Reward", "orpo": "ORPO", "cpo": "CPO",
            "grpo": "GRPO"}  # fmt: skip
PACKAGES = ("torch", "transformers", "trl", "peft", "datasets", "accelerate", "bitsandbytes")
IMPORTED = {
    "accelerate.utils": ("send_to_device",),
    "datasets": ("Dataset", "load_dataset"),
    "peft.optimizers": ("create_loraplus_optimizer",),
    "transformers": ("AutoModelForCausalLM", "AutoModelForSequenceClassification", "AutoTokenizer", "BitsAndBytesConfig",
                     "EarlyStoppingCallback", "GgufConfig", "TrainerCallback", "set_seed"),
    "transformers.trainer_pt_utils": ("LengthGroupedSampler",),
    "plain_head": ("use_head",),
}  # fmt: skip
"""Where the script gets its names from."""


class Script:
    """The text of the script, made of what the specification asks for."""

    def __init__(
        self, spec: RunSpec, rows: Rows, tokenizer: Any, config: dict[str, Any], about: dict[str, Any]
    ) -> None:
        self.spec, self.rows, self.about = spec, rows, about
        self.tokenizer = tokenizer
        self.adapter = peft_config(spec, config)
        self.kind, self.loading = load.model_call(spec)
        self.module = objective_module(spec)
        self.name = TRAINERS[spec.objective or "sft"]
        self.cpu = spec.compute.devices == "cpu"
        self.gguf = spec.model.path.endswith(".gguf")

    def files(self) -> dict[str, str]:
        """Every text file beside the rows, by its name."""
        made = {self.about["script"]: self.text(), "requirements.txt": self.requirements()}
        if self.spec.training.fused_head is False:
            made["plain_head.py"] = inspect.getsource(head)
        if self.spec.data.template:
            made["chat_template.jinja"] = self.tokenizer.chat_template
        if self.rows.template and self.rows.template != self.tokenizer.chat_template:
            made["training_template.jinja"] = self.rows.template
        return made

    def requirements(self) -> str:
        """The versions that the run had, else those that are installed."""
        known = self.about["versions"]
        found = {name: known.get(name) or importlib.metadata.version(name) for name in PACKAGES}
        found |= {"gguf": importlib.metadata.version("gguf")} if self.gguf else {}
        return "".join(f"{name}=={version.partition('+')[0]}\n" for name, version in found.items())

    def text(self) -> str:
        """The whole script."""
        steps = [self._tokenizer(), self._data(), self._arguments(), self._model(), self._trainer(), self._end()]
        body = "\n\n".join([*self._copied(), *steps])
        return "\n\n".join([self._head(), self._imports(body), body]) + "\n"

    def _head(self) -> str:
        lines = [f'"""{self.about["title"]}', "", *self.about["lines"], '"""']
        return "\n".join(lines)

    def _imports(self, body: str) -> str:
        """What the rest of the script uses."""
        trl = f"trl.experimental.{self.spec.objective}" if self.spec.objective in ("orpo", "cpo") else "trl"
        one_card = not self.cpu and self.spec.compute.processes == 1 and self.spec.compute.sharding != "layers"
        modules = ("functools", "json", "os", "shutil")
        needed = [name for name in modules if f"{name}." in body or (name == "os" and one_card)]
        lines = [*(f"import {name}" for name in needed), "from pathlib import Path"]
        lines += ["from typing import Any", ""] if uses(body, "Any") else [""]
        if one_card:
            lines += ['os.environ.setdefault("CUDA_VISIBLE_DEVICES", "0")  # TRL refuses several without torchrun', ""]
        lines += ["import torch"] if uses(body, "torch") else []
        for module, names in IMPORTED.items():
            used = [name for name in names if uses(body, name)]
            lines += [f"from {module} import {', '.join(used)}"] if used else []
        if self.adapter is not None:
            lines.append(f"from peft import {type(self.adapter).__name__}")
        lines.append(f"from {trl} import {self.name}Config, {self.name}Trainer")
        lines += [f"import {module}" for module in reward_modules(self.spec).values()]
        return "\n".join([*lines, "", "HERE = Path(__file__).resolve().parent"])

    def _callbacks(self) -> list[Any]:
        """Classes of callbacks that are copied into the script."""
        budget = [adapters.Budget] if self.spec.method.kind == "adalora" else []
        return budget + ([guards.DataOrder] if self.spec.training.group_by_length else [])

    def _copied(self) -> list[str]:
        """Code of this package that the script needs."""
        wanted: list[Any] = []
        if self.gguf:
            wanted.append(load._dequantise)
        if self.spec.method.kind == "adalora":
            wanted += [adapters._unwrapped, adapters.Budget, adapters._regularise, adapters._skew]
        if self.spec.method.kind in adapters.AROUND_ONE:
            wanted.append(adapters._widen)
        if self.layers:
            wanted.append(adapters._come_home)
        if self.spec.training.group_by_length:
            wanted.append(guards.DataOrder)
        if self.spec.objective == "grpo":
            wanted.append(self.module._decoded)
        if self.prepared:
            wanted += [pairs.tokenized_pair] if self.name in ("ORPO", "CPO") else []
            wanted += [self.module._mismatched] if self.name == "KTO" else []
            wanted.append(getattr(self.module, f"Prepared{self.name}Trainer"))
        constant = [f"IGNORED = {pairs.IGNORED}"] if pairs.tokenized_pair in wanted else []
        return [*constant, *("\n" + inspect.getsource(one).rstrip() + "\n" for one in wanted)]

    @property
    def layers(self) -> bool:
        """Whether the model lies on several cards, and TRL's head leaves the loss on another than the first."""
        return self.spec.compute.sharding == "layers" and self.spec.objective != "reward"

    @property
    def prepared(self) -> bool:
        """Whether the rows are ids and the trainer would tokenize them again."""
        return self.rows.ids and self.name in ("DPO", "KTO", "ORPO", "CPO")

    def _tokenizer(self) -> str:
        spec = self.spec
        path: Any = Code('str(HERE / "base")') if self.gguf else spec.model.path
        lines = [f"MODEL = {path!r}"]
        if self.gguf:
            lines += ['if not (HERE / "base").is_dir():', f'    _dequantise(Path({spec.model.path!r}), HERE / "base")']
        named = {"revision": spec.model.revision, "trust_remote_code": spec.model.trust_remote_code}
        given = "".join(f", {key}={value!r}" for key, value in named.items() if value)
        lines.append(f"tokenizer = AutoTokenizer.from_pretrained(MODEL{given})")
        if spec.data.template:
            lines.append(read_template("chat_template.jinja"))
        lines.append("own_template = tokenizer.chat_template")
        if self.rows.template and self.rows.template != self.tokenizer.chat_template:
            lines.append(read_template("training_template.jinja") + "  # the same, with the answers marked")
        return "\n".join(lines)

    def _data(self) -> str:
        files = [name for name in ("train", "validation") if getattr(self.rows, name)]
        if self.spec.objective == "grpo":
            lines = ["def rows(name: str) -> Dataset:",
                     '    """Rows stay JSON until they are used: Arrow would give all of them the same keys."""',
                     '    lines = (HERE / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()',
                     '    return Dataset.from_dict({"row": lines}).with_transform(_decoded)', "", ""]  # fmt: skip
            return "\n".join(["", *lines, *(f'{name} = rows("{name}")' for name in files)])
        lines = [
            f'{name} = load_dataset("json", data_files=str(HERE / "{name}.jsonl"), split="train")' for name in files
        ]
        if self.rows.ids and self.name == "Reward":  # a reward model reads prompt and answer as one
            most = self.spec.training.max_length
            whole = f"{{n: (row['prompt_ids'] + row[n])[:{most}] for n in ('chosen_ids', 'rejected_ids')}}"
            lines += [f'{name} = {name}.map(lambda row: {whole}, remove_columns="prompt_ids")' for name in files]
        return "\n".join(lines)

    def _arguments(self) -> str:
        made = dict(self.module.trainer_arguments(self.spec, Path("output"), self.rows.train, self.rows.validation > 0))
        for name in ("run_name", "project", "disable_tqdm"):
            made.pop(name, None)
        made |= {
            "output_dir": Code('str(HERE / "output")'), "report_to": "none", "use_cpu": self.cpu,
            "dataloader_pin_memory": not self.cpu, "save_total_limit": self.spec.saving.keep,
        }  # fmt: skip
        if self.rows.form == "messages":
            made["assistant_only_loss"] = True
        fields = {f.name: f.default for f in dataclasses.fields(getattr(self.module, f"{self.name}Config"))}
        given = {name: value for name, value in made.items() if value is not None or fields[name] is not None}
        return f"arguments = {call(f'{self.name}Config', given)}"

    def _model(self) -> str:
        loading = {name: value for name, value in self.loading.items() if value not in (None, False)}
        if "quantization_config" in loading:
            settings = loading["quantization_config"].to_diff_dict()
            loading["quantization_config"] = call("BitsAndBytesConfig", bitsandbytes_arguments(settings), "    ")
        device = loading.get("device_map")
        if isinstance(device, dict) and not self.cpu and self.spec.compute.sharding != "fsdp":
            loading["device_map"] = Code("""{"": f"cuda:{os.environ.get('LOCAL_RANK', 0)}"}""")
        lines = [f"set_seed({self.spec.training.seed})  # the score's weights are random"] * (self.name == "Reward")
        made = call(f"{self.kind.__name__}.from_pretrained", loading, first="MODEL")
        return "\n".join([*lines, f"model = {made}", *self._ending()])

    def _ending(self) -> list[str]:
        """The token that ends an answer, where the template is not the model's own: as load.stops_at has it."""
        if not self.spec.data.template:
            return []
        tokens = Tokens(
            self.tokenizer.backend_tokenizer, self.tokenizer.special_tokens_map, self.tokenizer.chat_template
        )
        end, token = tokens.id_of(stop_token(tokens)), stop_token(tokens)
        if end is None:
            return []
        lines = ["ends = model.generation_config.eos_token_id",
                 "ends = ends if isinstance(ends, list) else [] if ends is None else [ends]",
                 f"if {end} not in ends:", f"    model.generation_config.eos_token_id = [{end}, *ends]"]  # fmt: skip
        return lines + [f"    tokenizer.eos_token = {token!r}"] * (self.rows.conversational or self.rows.ids)

    def _trainer(self) -> str:
        spec = self.spec
        lines = ["use_head(plain=True)  # the loss from plain logits, as the run had it"] * (
            spec.training.fused_head is False
        )
        callbacks = [
            Code(f"{one.__name__}({'' if one is guards.DataOrder else repr('')})") for one in self._callbacks()
        ]
        if spec.evaluation.early_stopping:
            callbacks.append(Code(f"EarlyStoppingCallback({spec.evaluation.early_stopping})"))
        modules = reward_modules(spec)
        split = [named.rpartition(":") for named in spec.objective_options.rewards]
        rewards = [Code(f"{modules[file]}.{function}") for file, _, function in split]
        given: dict[str, Any] = {"model": Code("model"), "args": Code("arguments")}
        given |= {"reward_funcs": rewards} if rewards else {}
        given |= {"train_dataset": Code("train")}
        given |= {"eval_dataset": Code("validation")} if self.rows.validation else {}
        given |= {"processing_class": Code("tokenizer")}
        if self.adapter is not None:
            lines.append(f"adapter = {call(type(self.adapter).__name__, differing(self.adapter))}")
            given["peft_config"] = Code("adapter")
        given |= {"callbacks": callbacks} if callbacks else {}
        name = f"{'Prepared' if self.prepared else ''}{self.name}Trainer"
        return "\n".join([*lines, f"trainer = {call(name, given)}", *self._attached()])

    def _attached(self) -> list[str]:
        """As adapters.attach has it."""
        spec = self.spec
        home = ["_come_home(trainer)"] * self.layers
        if spec.method.variant == "lora+":
            given = {
                "loraplus_lr_ratio": adapters.LORA_PLUS_RATIO,
                "loraplus_weight_decay": Code("arguments.weight_decay"),
            }
            made = ", ".join(f"{key}={value!r}" for key, value in given.items())
            return [*home, "cls, settings = trainer.get_optimizer_cls_and_kwargs(trainer.args, trainer.model)",
                    f"trainer.optimizer = create_loraplus_optimizer(trainer.model, cls, **settings, {made})"]  # fmt: skip
        if spec.method.kind in adapters.AROUND_ONE:
            return [*home, "_widen(trainer)"]
        if spec.method.kind == "adalora":
            return ["_regularise(trainer)"]
        if self.converted:
            begin = 'trainer.model.save_pretrained(str(HERE / "output" / "pissa"))  # to tell what was learned from it'
            return [*home, begin]
        return home

    @property
    def converted(self) -> bool:
        """As adapters.save_adapter has it: PiSSA beside modules that are saved whole stays as it is."""
        whole = self.spec.objective == "reward" or self.spec.method.modules_to_save
        return self.spec.method.variant == "pissa" and not whole

    def _end(self) -> str:
        lines = [
            "trainer.train()",
            'trainer.save_model(str(HERE / "output" / "model"))',
            "trainer.save_state()  # output/trainer_state.json: the loss of each step",
        ]
        if self.converted:
            lines += ["trainer.accelerator.unwrap_model(trainer.model).save_pretrained(",
                      '    str(HERE / "output" / "model"),',
                      '    path_initial_model_for_weight_conversion=str(HERE / "output" / "pissa"),', ")"]  # fmt: skip
        return "\n".join([*lines, "tokenizer.chat_template = own_template",
                          'tokenizer.save_pretrained(str(HERE / "output" / "model"))'])  # fmt: skip
