"""A client that sends requests exactly as they are given, each followed by another one that shows where the first has ended."""

import socket
from contextlib import suppress
from typing import Any, BinaryIO

from jsonschema import Draft202012Validator

from tests.cluster.conftest import Answer, Program

CANARY = b"GET /v1/info HTTP/1.1\r\nHost: localhost\r\n\r\n"
BODILESS = (204, 304)


def read_answer(stream: BinaryIO, method: str) -> Answer:
    """Read one answer strictly; names of headers in one spelling."""
    status = int(stream.readline().split()[1])
    headers: dict[str, str] = {}
    while line := stream.readline().strip().decode("latin-1"):
        name, _, value = line.partition(": ")
        name = "ETag" if name.lower() == "etag" else name.title()  # names have no case
        assert name not in headers
        headers[name] = value
    if status in BODILESS:
        assert not {"Content-Length", "Content-Type", "Transfer-Encoding"} & set(headers)
        return Answer(status, headers, b"")
    return Answer(status, headers, b"" if method == "HEAD" else stream.read(int(headers["Content-Length"])))


def request(method: str, target: bytes | str, body: bytes | None = None, **headers: str) -> bytes:
    """Return the bytes of a request; `_` in a header's name stands for `-`."""
    target = target if isinstance(target, bytes) else target.encode("ascii")
    lines = [method.encode() + b" " + target + b" HTTP/1.1", b"Host: localhost"]
    lines += [f"{name.replace('_', '-')}: {value}".encode("latin-1") for name, value in headers.items()]
    if body is not None:
        lines.append(b"Content-Length: %d" % len(body))
    return b"\r\n".join(lines) + b"\r\n\r\n" + (body or b"")


def ask(
    program: Program, method: str, target: bytes | str, body: bytes | None = None, *, alone: bool = False, **headers: str
) -> Answer:
    """Send one request, and another behind it, which must be answered too; return the answer to the first.

    The other one comes in the same packet, or, when the first is to be `alone`, after its answer.
    """
    data = request(method, target, body, **headers)
    with socket.create_connection(("127.0.0.1", program.port), timeout=20) as connection:
        connection.sendall(data if alone else data + CANARY)
        stream = connection.makefile("rb")
        answer = read_answer(stream, method)
        if alone:
            connection.sendall(CANARY)
        assert b'"role"' in read_answer(stream, "GET").body
    return answer


def refused(program: Program, data: bytes) -> Answer:
    """Send bytes, and a request behind them that must not be answered; return the one answer."""
    with socket.create_connection(("127.0.0.1", program.port), timeout=20) as connection:
        with suppress(BrokenPipeError, ConnectionResetError):
            connection.sendall(data + CANARY)
        stream = connection.makefile("rb")
        answer = read_answer(stream, "GET")
        assert answer.headers["Connection"] == "close"
        with suppress(ConnectionResetError):
            assert stream.read() == b""
    return answer


def keeps_to(document: dict[str, Any], method: str, path: str, answer: Answer) -> None:
    """Check that an OpenAPI document has this answer: its status, its type, its headers and its shape."""
    response = document["paths"][path][method.lower()]["responses"][str(answer.status)]
    response = resolved(document, response)
    headers = {name.lower(): value for name, value in answer.headers.items()}
    for name, header in response["headers"].items():
        described = resolved(document, header)
        if name.lower() not in headers and not described["required"]:
            continue
        schema, value = described["schema"], headers[name.lower()]
        Draft202012Validator(schema).validate(int(value) if schema["type"] == "integer" else value)
    if "content" in response:
        content = response["content"][answer.headers["Content-Type"]]
        Draft202012Validator(content["schema"] | {"components": document["components"]}).validate(answer.json)


def resolved(document: dict[str, Any], node: dict[str, Any]) -> dict[str, Any]:
    """Return what a reference in a document stands for, or what is no reference as it is."""
    while "$ref" in node:
        kind, name = node["$ref"].removeprefix("#/components/").split("/")
        node = document["components"][kind][name]
    return node


def problem(answer: Answer, status: int, code: str) -> None:
    """Check that it is this error, and says what is wrong."""
    assert (answer.status, answer.headers["Content-Type"]) == (status, "application/problem+json")
    assert (answer.json["status"], answer.json["type"]) == (status, f"urn:gkv:problem:{code}")
    assert answer.json["detail"]
    assert answer.json["instance"] == answer.headers["X-Request-Id"]
