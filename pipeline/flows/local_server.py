"""Prefect's server for one machine, which rejects requests of other sites' pages.

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
    """Rejects requests from other origins, also those of web sockets, which Prefect does not check.

    A content security policy limits Prefect's own pages to this server, for requests and images;
    without it they connect to amplitude.com even if analytics are disabled.

    Args:
        app: the application to protect.
        origins: allowed origins, such as http://127.0.0.1:4200. Their hosts are the only allowed
            values of the header Host, which prevents DNS rebinding.
    """

    def __init__(self, app: ASGIApp, origins: list[str]) -> None:
        self._app = app
        self._origins = origins
        self._hosts = [urlsplit(origin).netloc for origin in origins]
        sockets = [origin.replace("http", "ws", 1) for origin in origins]
        self._policy = f"connect-src {' '.join([*origins, *sockets])}; img-src 'self' data: blob:"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Forward a request, or reject it with status 403."""
        if scope["type"] == "lifespan" or self._is_same_origin(Headers(scope=scope)):
            await self._app(scope, receive, self._with_policy(send))
        elif scope["type"] == "websocket":
            await WebSocketClose(code=1008)(scope, receive, send)  # 403 before it is accepted
        else:
            message = f"only pages of {' and '.join(self._origins)} may send requests\n"
            await PlainTextResponse(message, status_code=403)(scope, receive, send)

    def _with_policy(self, send: Send) -> Send:
        async def send_with_policy(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["Content-Security-Policy"] = self._policy
            await send(message)

        return send_with_policy

    def _is_same_origin(self, headers: Headers) -> bool:
        origin = headers.get("origin")  # clients other than browsers send none
        return headers.get("host") in self._hosts and (origin is None or origin in self._origins)


def application() -> ASGIApp:
    """Return Prefect's application, limited to the CORS origins that Prefect's settings allow."""
    origins = PREFECT_SERVER_CORS_ALLOWED_ORIGINS.value().split(",")
    return SameOriginMiddleware(create_app(final=True), origins)
