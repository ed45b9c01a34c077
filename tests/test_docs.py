"""The README tells the truth: its commands parse, its pictures and targets exist, its example is accepted."""

import re
import shlex
import sqlite3
from pathlib import Path

import pytest
import yaml

from engine import config
from engine.cli import build_parser
from engine.data.formats import NAMES, SHAPES
from engine.defaults import problems
from engine.spec import RunSpec, parse
from tests.engine.test_markers import TEXT

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
COMMANDS = [line.removeprefix("$ ").split("  #")[0].strip() for line in re.findall(r"^\$ tunedeck.*$", README, re.M)]
INLINE = [c for c in re.findall(r"`(tunedeck [^`]+)`", README) if not c.startswith("tunedeck --theme")]


@pytest.mark.parametrize("command", [*COMMANDS, *INLINE])
def test_every_command_is_one_that_the_program_takes(command: str) -> None:
    build_parser().parse_args(shlex.split(command)[1:])


def test_every_verb_is_in_the_readme() -> None:
    verbs = next(a.choices for a in build_parser()._actions if isinstance(a.choices, dict))
    assert len(verbs) >= 9
    assert [v for v in verbs if f"tunedeck {v}" not in README] == []


def test_every_picture_and_file_is_there() -> None:
    targets = re.findall(r"\]\(([^)]+)\)", README)
    assert len(targets) >= 4
    assert [t for t in targets if not (ROOT / t).exists()] == []


def test_every_make_target_is_in_the_makefile() -> None:
    targets = set(re.findall(r"\bmake ([a-z]+)\b", README))
    assert {"demo", "test"} <= targets
    assert {t for t in targets if not re.search(rf"^{t}:", (ROOT / "Makefile").read_text(), re.M)} == set()


EXAMPLES = re.findall(r"```yaml\n(.*?)```", README, re.S)
CONFIGS = [one for one in EXAMPLES if "on_end:" in one]


def test_the_example_of_a_config_is_accepted() -> None:
    (example,) = CONFIGS
    raw = yaml.safe_load(example)
    read = config.checked(Path("config.yaml"), raw)
    assert not read.problems
    assert not problems(read.defaults)
    assert set(raw) == set(config.CHECKS)


@pytest.mark.parametrize("example", [one for one in EXAMPLES if one not in CONFIGS])
def test_every_example_of_a_specification_is_accepted(example: str) -> None:
    assert isinstance(parse({"model": {"path": "m"}} | yaml.safe_load(example)), RunSpec)


def test_every_format_is_in_the_table_with_its_columns() -> None:
    table = dict(re.findall(r"^\| `(\w+)` \| (.*?) \| ", README.split("## Your data, before")[1].split("## ")[0], re.M))
    assert set(table) == set(NAMES)
    assert {name: [c for c in SHAPES[name][0] if f"`{c}`" not in columns] for name, columns in table.items()} == {
        n: [] for n in NAMES
    }


def test_the_number_of_templates_is_that_of_the_tests() -> None:
    (number,) = re.findall(r"tested on all (\d+) text templates", README)
    assert int(number) == len(TEXT)


def test_the_query_runs() -> None:
    (query,) = re.findall(r'^\$ sqlite3 experiments.db "(.*)"$', README, re.M)
    db = sqlite3.connect(f"file:{ROOT / 'experiments.db.example'}?mode=ro&immutable=1", uri=True)
    assert len(db.execute(query).fetchall()) >= 8


def test_the_figures_of_accuracy_are_those_that_the_benchmark_printed() -> None:
    printed = sorted((ROOT / "bench" / "results").glob("*-vram-published.txt"))[-1].read_text()
    summary = dict(re.findall(r"^(TuneDeck|accelerate|16 bytes) {2,}(\d.*%)$", printed, re.M))
    section = README.split("## What fits")[1].split("\n## ")[0]
    shown = re.findall(r"^\| (TuneDeck|`accelerate|16 bytes)[^|]*\|(.*)\|$", section, re.M)
    assert len(shown) == 3
    for name, figures in shown:
        assert [f.strip() for f in figures.split("|")] == re.split(r" {2,}", summary[name.strip("`")])


def test_the_figures_of_training_are_those_that_the_benchmark_printed() -> None:
    printed = sorted((ROOT / "bench" / "results").glob("*-train.txt"))[-1].read_text()
    rows = re.findall(r"^SmolLM2-135M +(.+?) {2,}(\d+) \(.*?\) +([\d.]+) \(.*?\) +([\d.]+) +–$", printed, re.M)
    section = README.split("## Measured")[1].split("## ")[0]
    shown = re.findall(r"^\| `?([^|`]+?)`? \| (\d+) \| x?([\d.]+) \| ([\d.]+) \|$", section, re.M)
    assert len(shown) == 4
    assert [tuple(cells) for cells in shown] == rows


def test_the_number_of_methods_is_that_of_the_engine() -> None:
    from engine.methods import METHODS

    row = next(line for line in README.splitlines() if "more of PEFT's" in line)
    named = re.findall(r"`(\w+)`", row.split("|")[1])
    (more,) = re.findall(r"and (\d+) more of PEFT's", row)
    assert int(more) == len(METHODS) - len({"full", "lora", "qlora", *named})
