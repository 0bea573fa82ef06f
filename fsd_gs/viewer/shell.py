"""What is added to viser's page on its way to the browser: a style for phones."""

from __future__ import annotations

import gzip
from functools import lru_cache
from importlib import resources
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from websockets.http11 import Response


def dressed(response: Response) -> Response:
    """``response`` with our style if it is the page, else as it is."""
    if response.status_code != 200 or not response.headers.get("Content-Type", "").startswith("text/html"):
        return response
    response.body = _with_style(bytes(response.body or b""), response.headers.get("Content-Encoding") == "gzip")
    del response.headers["Content-Length"]
    response.headers["Content-Length"] = str(len(response.body))
    return response


@lru_cache(maxsize=2)  # zipped and not
def _with_style(page: bytes, zipped: bool) -> bytes:
    style = resources.files("fsd_gs.viewer").joinpath("phone.css").read_bytes()
    page = gzip.decompress(page) if zipped else page
    page = page.replace(b"</head>", b"<style>" + style + b"</style></head>", 1)
    return gzip.compress(page, mtime=0) if zipped else page
