"""Bodies with a Content-Encoding: nobody here decodes one, so none is taken."""

from collections.abc import Mapping
from typing import Any

from gkv.errors import CodedBody


def refuse_coded(environ: Mapping[str, Any], body: bytes | None) -> None:
    """Raise CodedBody for a body with a Content-Encoding other than identity: it would be stored or read as what it is not.

    `body` is None where it has yet to be read. What has no body is refused as well if its method is to have one.
    """
    codings = {one.strip(" \t") for one in environ.get("HTTP_CONTENT_ENCODING", "").lower().split(",")}
    if codings <= {"", "identity"}:
        return
    length = int(environ.get("CONTENT_LENGTH") or 0) if body is None else len(body)
    if length or environ["REQUEST_METHOD"] in ("PUT", "POST", "PATCH"):
        raise CodedBody("a body is taken without Content-Encoding only")
