"""The client against a real server on a real socket that answers well, badly, late or not at all."""

import asyncio
import json
import socket
import time
from collections.abc import Callable

import httpx
import pytest

from engine.judging import client as module
from engine.judging.client import Client, EndpointError, Reply, asked_wait, short, told
from engine.judging.endpoint import Endpoint
from tests.engine.judge_server import Asked, JudgeServer, Raw, completion, serving

KEY = "sk-secret-0123456789"
HELLO = [{"role": "system", "content": "be kind"}, {"role": "user", "content": "hello"}]


@pytest.fixture(autouse=True)
def quick_and_direct(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(module, "FIRST_DELAY", 0.01)


async def ask(url: str, model: str = "judge-1", timeout: float = 20, key: str = KEY, said: list[str] | None = None) -> Reply:  # fmt: skip
    say: Callable[[str], object] = print if said is None else said.append
    async with Client(Endpoint(url, model, key), timeout, 50, say) as client:
        return await client.ask(HELLO)


async def fails(url: str, **options: object) -> EndpointError:
    with pytest.raises(EndpointError) as caught:
        await ask(url, **options)  # type: ignore[arg-type]
    assert KEY not in f"{caught.value} {caught.value.hint}"
    return caught.value


def in_turn(*replies: str | Raw) -> Callable[[Asked], str | Raw]:
    return lambda asked: replies[min(asked.number, len(replies)) - 1]


async def test_it_asks_as_the_protocol_says() -> None:
    with serving(lambda _: "good day", KEY) as server:
        reply = await ask(server.url)
    (call,) = server.calls
    assert call.body["messages"] == HELLO
    assert (call.body["model"], call.body["temperature"], call.body["max_tokens"]) == ("judge-1", 0, 50)
    assert call.headers["Authorization"] == f"Bearer {KEY}"
    assert (reply.text, reply.cut, reply.prompt, reply.completion) == ("good day", False, 100, 20)


async def test_without_a_key_none_is_sent() -> None:
    with serving(lambda _: "good day") as server:
        await ask(server.url, key="")
    assert "Authorization" not in server.calls[0].headers


async def test_an_endpoint_that_is_busy_is_asked_again_when_it_says() -> None:
    busy = Raw(429, '{"error": {"message": "slow down"}}', {"Retry-After": "1"})
    said: list[str] = []
    with serving(in_turn(busy, "good day")) as server:
        began = time.monotonic()
        reply = await ask(server.url, said=said)
        assert time.monotonic() - began >= 1.0  # not sooner than it said
    assert (reply.text, len(server.calls)) == ("good day", 2)
    assert said == ["the judge is busy; again in 1 s"]


async def test_while_it_waits_nobody_else_asks() -> None:
    busy = Raw(429, "{}", {"Retry-After": "1"})
    with serving(in_turn(busy, "good day")) as server:
        async with Client(Endpoint(server.url, "judge-1"), 20) as client:
            first = asyncio.create_task(client.ask(HELLO))
            while not server.calls or not client._not_before:
                await asyncio.sleep(0.005)
            second = asyncio.create_task(client.ask(HELLO))
            await asyncio.sleep(0.2)
            assert len(server.calls) == 1
            await asyncio.gather(first, second)
    assert len(server.calls) == 3


async def test_one_that_wants_us_to_wait_for_hours_is_not_waited_for() -> None:
    with serving(in_turn(Raw(429, '{"error": {"message": "daily limit"}}', {"Retry-After": "7200"}))) as server:
        error = await fails(server.url)
    assert "daily limit" in error.message
    assert len(server.calls) == 1


@pytest.mark.parametrize("status", [500, 502, 503, 408])
async def test_errors_of_its_own_pass(status: int) -> None:
    with serving(in_turn(Raw(status, "oops"), Raw(status, "<html>bad gateway</html>"), "good day")) as server:
        assert (await ask(server.url)).text == "good day"
    assert len(server.calls) == 3


async def test_errors_of_its_own_that_do_not_pass() -> None:
    with serving(in_turn(Raw(500, "out of luck"))) as server:
        error = await fails(server.url)
    assert len(server.calls) == module.TRIES
    assert "500" in error.message
    assert "out of luck" in error.message
    assert not error.fatal


@pytest.mark.parametrize("status", [401, 403])
async def test_a_key_that_is_refused_and_echoed_is_masked(status: int) -> None:
    echo = json.dumps({"error": {"message": f"Incorrect API key provided: {KEY}"}})
    with serving(in_turn(Raw(status, echo))) as server:
        error = await fails(server.url)
    assert (len(server.calls), error.fatal) == (1, True)
    assert "Incorrect API key provided: [key]" in error.message
    assert "TUNEDECK_JUDGE_KEY" in error.hint


@pytest.mark.parametrize(
    "body", ['{"detail": "KEY"}', "KEY", '["KEY"]', '{"choices": [], "KEY": 1}', "<html>KEY</html>"]
)
@pytest.mark.parametrize("status", [200, 400, 404, 500, 302])
async def test_an_echoed_key_is_nowhere(status: int, body: str) -> None:
    raw = Raw(status, body.replace("KEY", KEY), {"Location": f"http://x/{KEY}?key={KEY}"})
    with serving(in_turn(raw)) as server:
        await fails(server.url)


@pytest.mark.parametrize("status", [200, 400, 401, 404, 500])
@pytest.mark.parametrize("inside", ["\x1b[0m", "\u200b"])
async def test_an_echoed_key_that_is_in_disguise_is_nowhere(status: int, inside: str) -> None:
    hidden = KEY[:5] + inside + KEY[5:]
    for body in (
        json.dumps({"error": {"message": hidden}}),
        hidden,
        json.dumps({"error": KEY}).replace("s", "\\u0073"),
    ):
        with serving(in_turn(Raw(status, body))) as server:
            await fails(server.url)


async def test_an_echoed_key_in_an_answer_is_masked() -> None:
    with serving(lambda _: f"your key is {KEY}") as server:
        assert (await ask(server.url)).text == "your key is [key]"


async def test_a_model_that_is_not_there() -> None:
    with serving(lambda _: "x") as server:
        error = await fails(server.url, model="other")
    assert error.fatal
    assert "The model other does not exist" in error.message
    assert "--model" in error.hint


async def test_a_path_that_is_not_there() -> None:
    with serving(lambda _: "x") as server:
        error = await fails(server.url.removesuffix("/v1"))
    assert error.fatal
    assert "/v1" in error.hint


async def test_a_web_page_instead_of_an_api() -> None:
    with serving(in_turn(Raw(200, "<!doctype html><html>Welcome", {"Content-Type": "text/html"}))) as server:
        error = await fails(server.url)
    assert "a web page" in error.message
    assert len(server.calls) == 1


@pytest.mark.parametrize(
    "body",
    ["", "[]", "{}", '{"choices": []}', '{"choices": [1]}', '{"choices": [{"text": "x"}]}', '{"choices"', "null"],
)
async def test_json_that_is_no_answer(body: str) -> None:
    with serving(in_turn(Raw(200, body))) as server:
        error = await fails(server.url)
    assert error.title in ("The judge's reply has no answer", "The judge's address does not answer in JSON")


async def test_an_answer_without_a_text_and_without_a_count_of_tokens() -> None:
    with serving(in_turn(Raw(200, completion(None, "length", usage={"prompt_tokens": "many"})))) as server:
        reply = await ask(server.url)
    assert (reply.text, reply.cut, reply.prompt, reply.completion) == ("", True, None, None)


async def test_a_question_that_is_refused_is_not_asked_again() -> None:
    long = '{"error": {"message": "maximum context length is 512 tokens"}}'
    with serving(in_turn(Raw(400, long))) as server:
        error = await fails(server.url)
    assert (len(server.calls), error.fatal) == (1, False)
    assert "maximum context length" in error.message


async def test_settings_that_a_model_does_not_take_are_left_out() -> None:
    def picky(asked: Asked) -> str | Raw:
        if "max_tokens" in asked.body:
            return Raw(400, '{"error": {"message": "Unsupported parameter: max_tokens, use max_completion_tokens"}}')
        if "temperature" in asked.body:
            return Raw(400, '{"error": {"message": "Unsupported value: temperature does not support 0"}}')
        return "good day"

    with serving(picky) as server:
        async with Client(Endpoint(server.url, "judge-1"), 20, 50) as client:
            assert (await client.ask(HELLO)).text == "good day"
            assert (await client.ask(HELLO)).text == "good day"
    assert len(server.calls) == 4  # the second question knows what the first has learned
    assert server.calls[-1].body["max_completion_tokens"] == 50


@pytest.mark.parametrize(
    "told", ["response_format is not supported", "json_schema unavailable", "extra inputs: response_format"]
)
async def test_the_form_of_a_reply_is_seen_to_where_the_endpoint_can(told: str) -> None:
    def plain(asked: Asked) -> str | Raw:
        return Raw(422, json.dumps({"detail": told})) if "response_format" in asked.body else "good day"

    schema = {"type": "object"}
    with serving(lambda _: "{}") as server:
        async with Client(Endpoint(server.url, "judge-1"), 20) as client:
            await client.ask(HELLO, schema)
            await client.ask(HELLO)
        assert server.calls[0].body["response_format"]["json_schema"]["schema"] == schema
        assert "response_format" not in server.calls[1].body
    with serving(plain) as server:
        async with Client(Endpoint(server.url, "judge-1"), 20) as client:
            assert (await client.ask(HELLO, schema)).text == "good day"
            assert (await client.ask(HELLO, schema)).text == "good day"
    assert len(server.calls) == 3


async def test_an_endpoint_that_hangs() -> None:
    with serving(in_turn(Raw(waits=True))) as server:
        error = await fails(server.url, timeout=0.3)
    assert "0.3 s" in error.message
    assert len(server.calls) == module.HANGS


async def test_an_endpoint_that_drips_has_one_deadline_for_the_whole_answer() -> None:
    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
        while not writer.is_closing():
            writer.write(b" ")
            await asyncio.sleep(0.05)

    server = await asyncio.start_server(drip, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    error = await fails(f"http://127.0.0.1:{port}/v1", timeout=0.5)
    server.close()
    assert error.title == "The judge takes too long"


async def test_an_endpoint_without_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LARGEST", 1000)
    with serving(in_turn(Raw(200, "x" * 5000))) as server:
        error = await fails(server.url)
    assert error.title == "The judge's reply is too long"


async def test_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as place:
        port = place.getsockname()[1]
    error = await fails(f"http://127.0.0.1:{port}/v1")
    assert error.title == "Nobody answers at the judge's address"
    assert f"127.0.0.1:{port}" in error.message


async def test_a_host_without_an_address() -> None:
    error = await fails("http://no-such-host.invalid/v1")
    assert "no-such-host.invalid" in error.message
    assert error.title == "The judge's host is not known"


async def test_tls_where_there_is_none() -> None:
    with serving(lambda _: "x") as server:
        error = await fails(server.url.replace("http:", "https:"))
    assert error.title == "The judge's connection is not safe"
    assert error.fatal


async def test_a_connection_that_breaks() -> None:
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.close()

    server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    error = await fails(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1")
    server.close()
    assert error.title == "The connection to the judge broke"


async def test_an_endpoint_that_has_moved_does_not_get_the_key() -> None:
    with serving(lambda _: "x") as other, serving(in_turn(Raw(307, "", {"Location": other.url}))) as server:
        error = await fails(server.url)
        assert other.url in error.message
        assert not other.calls
    assert error.fatal


async def test_nothing_left_to_pay_with() -> None:
    with serving(in_turn(Raw(429, '{"error": {"code": "insufficient_quota", "message": "no quota"}}'))) as server:
        error = await fails(server.url)
    assert (len(server.calls), error.fatal) == (1, True)


async def test_its_models() -> None:
    with serving(lambda _: "x", models=("b", "a")) as server:
        async with Client(Endpoint(server.url, ""), 20) as client:
            assert await client.models() == ["b", "a"]


def test_how_long_it_asks_us_to_wait() -> None:
    def wait(value: str, now: float = 0.0) -> float | None:
        return asked_wait(httpx.Headers({"retry-after": value}), now)

    assert wait("12") == 12
    assert wait("-3") == 0
    assert wait("Thu, 01 Jan 1970 00:01:30 GMT", 60.0) == 30
    assert wait("soon") is None
    assert wait("nan") is None
    assert asked_wait(httpx.Headers({})) is None


def test_what_an_endpoint_tells() -> None:
    assert told('{"error": {"message": "no"}}') == "no"
    assert told('{"detail": [{"loc": 1}]}') == '[{"loc": 1}]'
    assert told('{"error": "plain"}') == "plain"
    assert told("<html>") == ""
    assert short("a\x1b[31m\nb") == "a b"
    assert len(short("x" * 1000)) == 200


def test_a_server_of_this_kind_is_closed_in_the_end() -> None:
    with serving(lambda _: "x") as server:
        assert isinstance(server, JudgeServer)
        port = server.server_address[1]
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", port), 5)
