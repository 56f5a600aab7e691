"""Ends with code 0 if the URL in HEALTH_URL answers 200 within two seconds, else with 1 and the reason; for HEALTHCHECK.

The certificate is not looked at: it is made out to a name, and this asks the process beside it, by its loopback address.
"""

import http.client
import os
import ssl
import sys
from urllib.parse import urlsplit


def answer(url: str) -> str:
    """Return why the URL is not well, "" if it is."""
    parts = urlsplit(url)
    try:
        if parts.scheme == "https":
            context = ssl._create_unverified_context()  # noqa: S323
            connection = http.client.HTTPSConnection(parts.netloc, timeout=2, context=context)
        else:
            connection = http.client.HTTPConnection(parts.netloc, timeout=2)
        connection.request("GET", parts.path)
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        return f"{url}: {error or type(error).__name__}"
    return "" if status == 200 else f"{url}: status {status}"


if __name__ == "__main__":
    sys.exit(answer(os.environ["HEALTH_URL"]) or 0)
