"""HTTP server of the page and its requests."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from medvlp.app.desk import Desk
from medvlp.errors import LeftOutError, UserError

FOLDER = Path(__file__).parent
PAGE = {"/": "page.html", "/page.css": "page.css", "/page.js": "page.js"}
# Greatest number of bytes of an image file, five times that of the largest radiographs, and of other requests.
LARGEST, LONGEST = 256 << 20, 1 << 20
# The page may load from and send to this server only, and nothing stays in the browser's cache.
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def make_server(desk: Desk, hosts: Sequence[str]) -> Starlette:
    """Return the application.

    Args:
        desk: The session that answers requests.
        hosts: Accepted host names. Another name that resolves to this machine indicates an attack by DNS rebinding.
    """

    async def read(request: Request) -> Response:
        """Open the image file in the body."""
        return JSONResponse(await run_in_threadpool(desk.put, await body(request, LARGEST)))

    async def synthetic(request: Request) -> Response:
        return JSONResponse(await run_in_threadpool(desk.put_synthetic))

    async def about(request: Request) -> Response:
        return JSONResponse(await run_in_threadpool(desk.about))

    def asked(answer: Callable[..., dict[str, Any]], *names: str) -> Callable[[Request], Awaitable[Response]]:
        """Return a handler that calls `answer` with the strings of these names in the JSON body."""

        async def respond(request: Request) -> Response:
            content = await body(request, LONGEST)
            try:
                given = json.loads(content)
                # Tokenizers refuse lone surrogates.
                values = [str(given[name]).encode(errors="replace").decode() for name in names]
            except (ValueError, TypeError, KeyError, RecursionError):
                raise HTTPException(400, f"A JSON object with {', '.join(names)} is expected.") from None
            return JSONResponse(await run_in_threadpool(answer, *values))

        return respond

    def page(name: str) -> Callable[[Request], Awaitable[Response]]:
        async def respond(request: Request) -> Response:
            return FileResponse(FOLDER / name)

        return respond

    return Starlette(
        routes=[
            *(Route(path, page(name)) for path, name in PAGE.items()),
            Route("/about", about),
            Route("/image", read, methods=["POST"]),
            Route("/synthetic", synthetic, methods=["POST"]),
            Route("/scores", asked(desk.scores, "key", "findings"), methods=["POST"]),
            Route("/heat_map", asked(desk.heat_map, "key", "text", "source"), methods=["POST"]),
        ],
        middleware=[
            Middleware(TrustedHostMiddleware, allowed_hosts=list(hosts), www_redirect=False),
            Middleware(BaseHTTPMiddleware, dispatch=guard),
        ],
        exception_handlers={UserError: complain, LeftOutError: complain, HTTPException: complain},
    )


async def body(request: Request, largest: int) -> bytes:
    """Return the body of a request; stop reading it beyond `largest` bytes.

    Raises:
        HTTPException: If the body is longer, with status 413.
    """
    content = bytearray()
    async for chunk in request.stream():
        content += chunk
        if len(content) > largest:
            raise HTTPException(413, f"More than {largest >> 20} MB are not read.")
    return bytes(content)


async def guard(request: Request, respond: Callable[[Request], Awaitable[Response]]) -> Response:
    """Refuse requests that the browser sends for other pages, and add the headers to responses."""
    origin = request.headers.get("origin")
    if origin is not None and urlsplit(origin).netloc != request.headers.get("host"):
        return JSONResponse({"error": "This comes from another page."}, 403, HEADERS)
    response = await respond(request)
    response.headers.update(HEADERS)
    return response


async def complain(request: Request, error: Exception) -> Response:
    """Return a response with the message of an error."""
    if isinstance(error, HTTPException):
        return JSONResponse({"error": error.detail}, error.status_code)
    reason = str(error)
    if isinstance(error, LeftOutError):
        reason = f"This file cannot be read: {reason.removeprefix('unreadable image: ')}."
    return JSONResponse({"error": reason[:1].upper() + reason[1:]}, 422)
