"""Reading another tool's settings: each is carried over to a path of our specification, or left with the reason why."""

from dataclasses import dataclass, field
from typing import Any

from engine.environment import REDACTED
from engine.spec import number

OFF: tuple[Any, ...] = (None, False, "", [], {})
"""Values that mean that a setting is not used: what is not used need not be carried over."""


@dataclass(frozen=True)
class Left:
    """A setting that could not be carried over, or only in part: why not, for a person."""

    key: str
    value: Any
    why: str


@dataclass
class Reading:
    """The settings that are still to be read, the specification so far, and what is left."""

    open: dict[str, Any]
    spec: dict[str, Any] = field(default_factory=dict)
    left: list[Left] = field(default_factory=list)

    def take(self, key: str, default: Any = None) -> Any:
        """The value of a setting, which is dealt with from here on; the default if it is absent or empty."""
        value = self.open.pop(key, None)
        if isinstance(value, str):
            value = number(value)  # YAML 1.1 reads 2e-4 as text
        return default if value is None else value

    def put(self, path: str, value: Any) -> None:
        """Set a field of the specification, unless there is nothing to set."""
        if value is None:
            return
        *sections, name = path.split(".")
        node = self.spec
        for section in sections:
            node = node.setdefault(section, {})
        node[name] = value

    def has(self, path: str) -> bool:
        node: Any = self.spec
        for part in path.split("."):
            node = node.get(part) if isinstance(node, dict) else None
        return node is not None

    def leave(self, key: str, value: Any, why: str) -> None:
        """Say that a setting is not carried over, unless it is not used. What it is shows, a secret does not."""
        if value not in OFF:
            secret = key.endswith(("hub_token", "auth_token", "api_key", "password", "secret"))
            self.left.append(Left(key, REDACTED if secret else value, why))

    def same(self, table: dict[str, str]) -> None:
        """Settings that have the same meaning here, by their name there."""
        for key, path in table.items():
            self.put(path, self.take(key))

    def fill(self, defaults: dict[str, Any]) -> None:
        """What the other tool does where its file says nothing: ours would be another choice."""
        for path, value in defaults.items():
            if not self.has(path):
                self.put(path, value)

    def rest(self, reasons: dict[str, str], otherwise: str) -> None:
        """Leave all that nobody took."""
        for key, value in self.open.items():
            self.leave(str(key), value, reasons.get(str(key), otherwise))
        self.open = {}


EPOCH = 0.99999
"""`every` of once an epoch: 1 would be every step."""


def every(share: float) -> float:
    """A share of an epoch as `every` has it: below 1."""
    return min(share, EPOCH)
