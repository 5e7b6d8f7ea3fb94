"""Prefect's server for one machine: it answers programs here and its own pages, no other site's.

uvicorn --factory pipeline.flows.local_server:application --host 127.0.0.1 --port 4200
"""

from urllib.parse import urlsplit

from prefect.server.api.server import create_app
from prefect.settings import PREFECT_SERVER_CORS_ALLOWED_ORIGINS
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocketClose


class SameOriginMiddleware:
    """Refuses what a page of another site sends: Prefect's own check leaves out web sockets.

    Its own pages may ask this server alone, pictures too: Prefect's ask amplitude.com, analytics on
    or off.

    Args:
        app: what to guard.
        origins: of the pages that may ask, http://127.0.0.1:4200; their hosts are the names under
            which this server is known. Another name, though it leads here, is a foreign page's.
    """

    def __init__(self, app: ASGIApp, origins: list[str]) -> None:
        self._app = app
        self._origins = origins
        self._hosts = [urlsplit(origin).netloc for origin in origins]
        sockets = [origin.replace("http", "ws", 1) for origin in origins]
        asked = " ".join([*origins, *sockets])
        self._policy = f"connect-src {asked}; img-src 'self' data: blob:"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it: status 403."""
        if scope["type"] == "lifespan" or self._is_same_origin(Headers(scope=scope)):
            await self._app(scope, receive, self._with_policy(send))
        elif scope["type"] == "websocket":
            await WebSocketClose(code=1008)(scope, receive, send)  # before it is open: 403
        else:
            why = f"only pages of {' and '.join(self._origins)} may ask\n"
            await PlainTextResponse(why, status_code=403)(scope, receive, send)

    def _with_policy(self, send: Send) -> Send:
        async def sent(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["Content-Security-Policy"] = self._policy
            await send(message)

        return sent

    def _is_same_origin(self, headers: Headers) -> bool:
        origin = headers.get("origin")  # programs send none
        return headers.get("host") in self._hosts and (origin is None or origin in self._origins)


def application() -> ASGIApp:
    """Make the application, for the origins that the environment allows."""
    allowed = PREFECT_SERVER_CORS_ALLOWED_ORIGINS.value().split(",")
    return SameOriginMiddleware(create_app(final=True), allowed)
