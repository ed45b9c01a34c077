"""Asks the judge: POST {url}/chat/completions, with a deadline, retries, and errors that say what is wrong with the endpoint."""

import asyncio
import email.utils
import json
import random
import re
import socket
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn

import httpx

from engine.errors import RunError
from engine.judging.endpoint import Endpoint
from engine.text import clean

CONNECT = 10.0
"""Seconds for a connection."""
TRIES = 5
HANGS = 2
"""How often an endpoint is asked that takes too long: each time costs the whole deadline."""
FIRST_DELAY, LONGEST_DELAY = 1.0, 30.0
LONGEST_WAIT = 120.0
"""Seconds that an endpoint may ask us to wait (Retry-After); beyond it the call fails."""
LARGEST = 4 << 20
"""Bytes of a reply that are read."""
AGAIN = (408, 409, 425, 429)
"""States besides 5xx after which it is asked again."""
KEY_HINT = "Set $TUNEDECK_JUDGE_KEY (for OpenAI $OPENAI_API_KEY) to a key that is valid there."


class EndpointError(RunError):
    """The endpoint gave no answer that could be used. `fatal`: nor will it to any other question."""

    def __init__(self, title: str, message: str, hint: str = "", fatal: bool = False) -> None:
        super().__init__(title, message, hint)
        self.fatal = fatal


class Passing(Exception):
    """It may go better in a moment: `wait` is what the endpoint asked for, seconds; `tries` how often it may be tried."""

    def __init__(self, error: EndpointError, wait: float | None = None, tries: int = TRIES) -> None:
        super().__init__(str(error))
        self.error, self.wait, self.tries = error, wait, tries


class Disliked(Exception):
    """The model does not take one of our settings, which is left out from now on."""


@dataclass(frozen=True)
class Reply:
    """`cut`: it hit the limit of tokens. `prompt` and `completion` are tokens, None if the endpoint does not tell."""

    text: str
    cut: bool
    prompt: int | None
    completion: int | None
    seconds: float


class Client:
    """`async with Client(...) as client`. `timeout` in seconds; `say` is told about each wait."""

    def __init__(
        self, endpoint: Endpoint, timeout: float = 120.0, max_tokens: int = 1024,
        say: Callable[[str], object] = lambda text: None, tries: int = TRIES,
    ) -> None:  # fmt: skip
        self.endpoint, self.timeout, self.say, self.tries = endpoint, timeout, say, tries
        self.settings: dict[str, Any] = {"temperature": 0, "max_tokens": max_tokens}
        self._not_before, self._takes_schemas = 0.0, True
        headers = {"Authorization": f"Bearer {endpoint.key}"} if endpoint.key else {}
        try:
            self._http = httpx.AsyncClient(headers=headers, timeout=httpx.Timeout(timeout, connect=CONNECT))
        except (ImportError, ValueError) as error:  # of $ALL_PROXY and the like, which may hold a password
            raise EndpointError("The proxy of the environment cannot be used", f"{type(error).__name__} while it was set up.",
                                "Look at $HTTPS_PROXY and $ALL_PROXY, or set $NO_PROXY.", fatal=True) from None  # fmt: skip

    async def __aenter__(self) -> "Client":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    async def ask(self, messages: list[dict[str, str]], schema: dict[str, Any] | None = None) -> Reply:
        """The judge's reply to messages, in JSON of a schema where the endpoint can see to that. Raises EndpointError."""
        began, tried = time.monotonic(), 0
        while True:
            await asyncio.sleep(max(0.0, self._not_before - time.monotonic()))
            tried += 1
            try:
                document = await self._once(messages, schema)
            except Passing as passing:
                await self._wait(passing, tried)
            except Disliked:
                tried -= 1  # that was no trouble of the endpoint's
            else:
                return self._reply(document, time.monotonic() - began)

    async def models(self) -> list[str]:
        """The models that the endpoint says it has. Raises EndpointError."""
        try:
            document = self._document(*await self._send("GET", "/models"))
        except Passing as passing:
            raise passing.error from None
        found = document.get("data") if isinstance(document, dict) else None
        names = [one.get("id") for one in found if isinstance(one, dict)] if isinstance(found, list) else []
        return [self.endpoint.mask(clean(name, False)) for name in names if isinstance(name, str)]

    async def _wait(self, passing: Passing, tried: int) -> None:
        """Wait before the next try. Raises its error if that was the last, or the wait that is asked for too long."""
        if tried >= min(self.tries, passing.tries) or (passing.wait or 0.0) > LONGEST_WAIT:
            raise passing.error from None
        delay = min(LONGEST_DELAY, FIRST_DELAY * 2 ** (tried - 1)) * random.uniform(0.75, 1.25)
        if passing.wait is not None:
            delay = passing.wait
            self._not_before = max(self._not_before, time.monotonic() + delay)  # it speaks to all that ask
        self.say(f"{passing.error.title.lower()}; again in {delay:.0f} s")
        await asyncio.sleep(delay)

    async def _once(self, messages: list[dict[str, str]], schema: dict[str, Any] | None) -> Any:
        """What it replied, JSON. Raises Disliked, Passing, EndpointError."""
        sent = dict(self.settings)
        if schema and self._takes_schemas:
            sent["response_format"] = {"type": "json_schema", "json_schema": {"name": "verdict", "strict": True, "schema": schema}}  # fmt: skip
        body = {"model": self.endpoint.model, "messages": messages, "stream": False, **sent}
        status, headers, data = await self._send("POST", "/chat/completions", body)
        if status in (400, 422) and self._without(sent, data.decode(errors="replace")):
            raise Disliked
        return self._document(status, headers, data)

    async def _send(self, method: str, path: str, body: Any = None) -> tuple[int, httpx.Headers, bytes]:
        """(status, headers, body), all within the deadline. Raises Passing, EndpointError."""
        content = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        try:
            async with (
                asyncio.timeout(self.timeout),
                self._http.stream(method, self.endpoint.url + path, content=content, headers=headers) as response,
            ):
                data = b""
                async for chunk in response.aiter_bytes():
                    data += chunk
                    if len(data) > LARGEST:
                        raise EndpointError("The judge's reply is too long", f"{self.endpoint.host} sent more than {LARGEST >> 20} MiB.")  # fmt: skip
                return response.status_code, response.headers, data
        except (TimeoutError, httpx.TimeoutException) as error:
            raise Passing(self._hangs(isinstance(error, httpx.ConnectTimeout)), tries=HANGS) from None
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError) as error:
            explained = self._unreachable(error)
            raise explained if explained.fatal else Passing(explained) from None

    def _without(self, sent: dict[str, Any], told: str) -> bool:
        """Whether the endpoint names one of our settings as what it does not take: some models know others."""
        if "max_tokens" in sent and "max_tokens" in told:
            if "max_tokens" in self.settings:
                self.settings["max_completion_tokens"] = self.settings.pop("max_tokens")
            return True
        if "response_format" in sent and re.search("response_format|schema|structured|guided", told):
            self._takes_schemas = False
            return True
        if "temperature" in sent and "temperature" in told:
            self.settings.pop("temperature", None)
            return True
        return False

    def _document(self, status: int, headers: httpx.Headers, data: bytes) -> Any:
        """The JSON of a good reply. Raises Passing, EndpointError."""
        text = self.endpoint.mask(data.decode(errors="replace"))
        if status != 200:
            self._refuse(status, headers, text)
        try:
            return json.loads(text)
        except ValueError:
            page = "html" in headers.get("content-type", "") or text.lstrip()[:1] == "<"
            what = "a web page" if page else f"'{self.endpoint.mask(short(text))}'" if text.strip() else "nothing"
            raise EndpointError("The judge's address does not answer in JSON", f"{self.endpoint.url} sent {what}.",
                                "Is it the address of an API? Most end in /v1.") from None  # fmt: skip

    def _refuse(self, status: int, headers: httpx.Headers, text: str) -> NoReturn:
        host, said = self.endpoint.host, self.endpoint.mask(told(text))  # again: read, it may be the key after all
        if status in (401, 403):
            sent = "the key that was sent" if self.endpoint.key else "a question without a key"
            raise EndpointError("The judge does not let us in", f"{host} refused {sent} ({status}). {said}", KEY_HINT, fatal=True)  # fmt: skip
        if status == 404:
            raise EndpointError("The judge is not there", f"{self.endpoint.url} knows no model {clean(self.endpoint.model, False)}, or is not the "
                                f"address of an API (404). {said}", "Most addresses end in /v1. Give the model's name with --model.", fatal=True)  # fmt: skip
        if status == 402 or (status == 429 and "insufficient_quota" in text):
            raise EndpointError("The judge wants money", f"{host} says that nothing is left to pay with ({status}). {said}", "Top up there, then let the job go on.", fatal=True)  # fmt: skip
        if 300 <= status < 400:
            target = short(headers.get("location", "?").partition("?")[0])
            raise EndpointError("The judge has moved", f"{host} points to {self.endpoint.mask(target)} ({status}), and a key is not sent on.", "Give the new address with --url.", fatal=True)  # fmt: skip
        if status in AGAIN or status >= 500:
            title = "The judge is busy" if status == 429 else "The judge has an error of its own"
            raise Passing(EndpointError(title, f"{host} answered {status}. {said}", "Try again later."), asked_wait(headers))  # fmt: skip
        raise EndpointError("The judge refused a question", f"{host} answered {status}. {said}", "Its context may be too short for the row.")  # fmt: skip

    def _reply(self, document: Any, seconds: float) -> Reply:
        """Raises EndpointError if there is no answer in it."""
        choices = document.get("choices") if isinstance(document, dict) else None
        first = choices[0] if isinstance(choices, list) and choices else None
        message = first.get("message") if isinstance(first, dict) else None
        if not isinstance(first, dict) or not isinstance(message, dict):
            error = self.endpoint.mask(told(json.dumps(document)))
            raise EndpointError("The judge's reply has no answer", f"{self.endpoint.host} sent JSON without choices: {error}", "Is it the address of a chat API?")  # fmt: skip
        content, usage = message.get("content"), document.get("usage")
        usage = usage if isinstance(usage, dict) else {}
        prompt, completion = (
            n if isinstance(n := usage.get(k), int) and n >= 0 else None for k in ("prompt_tokens", "completion_tokens")
        )
        text = self.endpoint.mask(content) if isinstance(content, str) else ""
        return Reply(text, first.get("finish_reason") == "length", prompt, completion, seconds)

    def _hangs(self, connecting: bool) -> EndpointError:
        if connecting:
            return EndpointError("The judge cannot be reached", f"{self.endpoint.host} did not take the connection within {CONNECT:.0f} s.",
                                 "Is the address right, and does a firewall stand between?")  # fmt: skip
        return EndpointError("The judge takes too long", f"{self.endpoint.host} gave no whole answer within {self.timeout:g} s.",
                             "Allow more with --timeout, or lower --concurrency.")  # fmt: skip

    def _unreachable(self, error: Exception) -> EndpointError:
        """What a failed connection means, by what led to it."""
        host, chain = self.endpoint.host, causes(error)
        if any(isinstance(one, socket.gaierror) for one in chain):
            return EndpointError("The judge's host is not known", f"No address was found for {host}.", "Is its name right, and is there a network?")  # fmt: skip
        tls = next((one for one in chain if isinstance(one, ssl.SSLError)), None)
        if tls is not None:
            why = getattr(tls, "verify_message", "") or tls.reason or "the handshake failed"
            return EndpointError("The judge's connection is not safe", f"TLS with {host}: {why}.", "Is it https at all? A certificate of your own: set $SSL_CERT_FILE.", fatal=True)  # fmt: skip
        if any(isinstance(one, ConnectionRefusedError) for one in chain):
            return EndpointError("Nobody answers at the judge's address", f"{host} refused the connection.", "Start the server, or give another --url.")  # fmt: skip
        said = self.endpoint.mask(short(str(error))) or type(error).__name__
        return EndpointError("The connection to the judge broke", f"{host}: {said}.", "Try again later.")


def causes(error: BaseException) -> list[BaseException]:
    """An error and all that led to it."""
    found = [error]
    while (inner := found[-1].__cause__ or found[-1].__context__) is not None and inner not in found:
        found.append(inner)
    return found


def told(text: str) -> str:
    """What an endpoint says is wrong: the message of its JSON, or the beginning of its text; of a web page nothing."""
    try:
        document = json.loads(text)
    except ValueError:
        return "" if text.lstrip()[:1] == "<" else short(text)
    error = document.get("error", document) if isinstance(document, dict) else document
    message = next((error[k] for k in ("message", "detail") if error.get(k)), error) if isinstance(error, dict) else error  # fmt: skip
    return short(message if isinstance(message, str) else json.dumps(message))


def short(text: str, limit: int = 200) -> str:
    """A foreign text in a sentence of ours."""
    line = re.sub(r"\s+", " ", clean(text[: 4 * limit], keep_lines=False)).strip()
    return line if len(line) <= limit else line[: limit - 1] + "…"


def asked_wait(headers: httpx.Headers, now: float | None = None) -> float | None:
    """Seconds to wait by the header Retry-After (a number or a date); None without one."""
    value = headers.get("retry-after", "").strip()
    try:
        seconds = float(value)
    except ValueError:
        try:
            moment = email.utils.parsedate_to_datetime(value).timestamp()
        except (ValueError, TypeError):
            return None
        seconds = moment - (time.time() if now is None else now)
    return max(0.0, seconds) if seconds == seconds else None
