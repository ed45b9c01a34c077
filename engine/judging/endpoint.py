"""Where the judge is: an address, a model, a key. The key comes from the environment only, and is written nowhere."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit, urlunsplit

from engine.errors import RunError

URLS = ("TUNEDECK_JUDGE_URL", "OPENAI_BASE_URL")
OPENAI, OPENAI_KEY = "api.openai.com", "OPENAI_API_KEY"
KEYS = ("TUNEDECK_JUDGE_KEY", OPENAI_KEY)
"""Variables of the environment; the first that is set counts, also if it is empty: then no key is sent."""
MASK = "[key]"
WITHOUT = "Give the bare address, and the key in $TUNEDECK_JUDGE_KEY."
LOCAL = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True)
class Endpoint:
    """`url` ends before /chat/completions; `key` is never shown, and "" where none is sent."""

    url: str
    model: str
    key: str = field(default="", repr=False)

    @property
    def host(self) -> str:
        """What it is called in messages: `api.example.com`, `localhost:8000`."""
        return urlsplit(self.url).netloc

    @property
    def in_clear(self) -> bool:
        """Whether the key and the texts go unencrypted over a network."""
        parts = urlsplit(self.url)
        return parts.scheme == "http" and parts.hostname not in LOCAL

    def mask(self, text: str) -> str:
        """The text without the key, should the other side have echoed it."""
        return text.replace(self.key, MASK) if self.key else text


def address(text: str) -> str:
    """An endpoint's address as it is stored and called. Raises RunError, which never repeats what was given."""
    try:
        parts = urlsplit(text.strip())
        port = parts.port
    except ValueError:
        raise RunError(
            "The judge's address cannot be read", "It is no URL.", "Example: http://localhost:8000/v1"
        ) from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise RunError("The judge's address cannot be read", "It has to begin with http:// or https:// and name a host.",
                       "Example: http://localhost:8000/v1")  # fmt: skip
    if "@" in parts.netloc:
        raise RunError("The judge's address holds a user or a password", "It is stored with the run: no secret belongs there.", WITHOUT)  # fmt: skip
    if parts.query or parts.fragment:
        raise RunError("The judge's address has parts behind ? or #", "It is stored with the run, and such parts often are secrets.", WITHOUT)  # fmt: skip
    if not text.isascii() or not text.strip().isprintable() or " " in text.strip() or port == 0:
        raise RunError("The judge's address cannot be read", "It has characters that no address has.", "Example: http://localhost:8000/v1")  # fmt: skip
    path = parts.path.rstrip("/").removesuffix("/chat/completions").rstrip("/")
    return urlunsplit((parts.scheme, parts.netloc, path, "", ""))


def find_address(given: str | None, environment: Mapping[str, str] = os.environ) -> str:
    """The address that was given, else the environment's. Raises RunError."""
    found = given or next((environment[name] for name in URLS if environment.get(name)), None)
    if not found:
        raise RunError(
            "Which judge?",
            "No address of an endpoint is known.",
            "Give --url http://localhost:8000/v1, say, or set $TUNEDECK_JUDGE_URL.",
        )
    return address(found)


def find_key(url: str, environment: Mapping[str, str] = os.environ) -> tuple[str, str]:
    """(the variable that holds it, the key), both "" without one. Raises RunError for what cannot be sent.

    $OPENAI_API_KEY goes to OpenAI, or to where $OPENAI_BASE_URL points: nobody else is told it.
    """
    theirs = {OPENAI, urlsplit(environment.get("OPENAI_BASE_URL", "")).netloc}
    known = [name for name in KEYS if name in environment and (name != OPENAI_KEY or urlsplit(url).netloc in theirs)]
    name = known[0] if known else ""
    key = environment.get(name, "").strip()
    if not key:
        return "", ""
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise RunError("The judge's key cannot be sent", f"${name} has blanks or characters that no key has.", "Set it anew.")  # fmt: skip
    return name, key


def refuse_key(key: str, *texts: str) -> None:
    """Raises RunError if the key stands in what will be stored with the run."""
    if key and any(key in text for text in texts):
        raise RunError("The judge's key stands where it would be stored", "The address, the model's name or the criteria hold it.",
                       "Leave it in the environment only.")  # fmt: skip
