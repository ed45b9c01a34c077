"""How answers of a chat are drawn."""

import dataclasses
from dataclasses import dataclass
from typing import Any

from engine.errors import SpecError

NAMES = {"temperature": "temperature", "top-p": "top_p", "max-new-tokens": "max_new_tokens", "seed": "seed"}
"""Field by the name that people type."""


@dataclass(frozen=True)
class Settings:
    """A temperature of 0 takes the likeliest token always; then top-p and seed say nothing."""

    temperature: float = 0.7
    top_p: float = 0.9
    max_new_tokens: int = 256
    seed: int = 42

    def check(self) -> None:
        """Raises SpecError with all that makes no sense."""
        problems = []
        if not 0 <= self.temperature <= 10:
            problems.append(f"temperature is {self.temperature:g}: 0 to 10")
        if not 0 < self.top_p <= 1:
            problems.append(f"top-p is {self.top_p:g}: above 0, at most 1")
        if not 1 <= self.max_new_tokens <= 1_000_000:
            problems.append(f"max-new-tokens is {self.max_new_tokens}: 1 to 1,000,000")
        if not 0 <= self.seed < 2**63:
            problems.append(f"seed is {self.seed}: 0 to 2^63 - 1")
        if problems:
            raise SpecError("The settings of the chat make no sense", "; ".join(problems) + ".", "")

    def having(self, name: str, value: str) -> "Settings":
        """With one of them as somebody typed it. Raises SpecError."""
        field = NAMES.get(name.replace("_", "-"))
        if field is None:
            raise SpecError("There is no such setting", f"{name} is none.", f"There are {', '.join(NAMES)}.")
        try:
            number: Any = float(value) if field in ("temperature", "top_p") else int(value)
        except ValueError:
            raise SpecError("That is no number", f"{name} cannot be {value}.", "As in: /set temperature 0.7") from None
        made = dataclasses.replace(self, **{field: number})
        made.check()
        return made

    def sentence(self) -> str:
        """All of them on a line."""
        how = f"temperature {self.temperature:g}   top-p {self.top_p:g}   seed {self.seed}"
        greedy = "temperature 0: always the likeliest token"
        return f"{how if self.temperature else greedy}   at most {self.max_new_tokens} tokens"
