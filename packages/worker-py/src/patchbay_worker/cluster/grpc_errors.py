"""How our gRPC servers say no: the catalogue's error as JSON in a trailer, a fitting status beside it, and the check of
bearer tokens. Also the options all of our servers share.
"""

from __future__ import annotations

import hmac
import json
from typing import Any, Final, NoReturn

import grpc
import grpc.aio

from patchbay_worker.errors import PatchbayError, catalogue, error

ERROR_TRAILER: Final = "patchbay-error-bin"
_MAX_MESSAGE_BYTES: Final = 64 << 20

SERVER_OPTIONS: Final[list[tuple[str, Any]]] = [
    ("grpc.so_reuseport", 0),  # else a second server on the port starts without an error and takes half of the calls
    ("grpc.keepalive_permit_without_calls", 1),  # idle channels are the normal case here
    ("grpc.http2.min_ping_interval_without_data_ms", 1_000),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 1_000),
    ("grpc.http2.max_ping_strikes", 0),
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.max_receive_message_length", _MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", _MAX_MESSAGE_BYTES),
]

_STATUS: Final = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND,
    409: grpc.StatusCode.FAILED_PRECONDITION,
    422: grpc.StatusCode.INVALID_ARGUMENT,
    503: grpc.StatusCode.UNAVAILABLE,
    504: grpc.StatusCode.DEADLINE_EXCEEDED,
}


async def abort(context: grpc.aio.ServicerContext[Any, Any], problem: PatchbayError) -> NoReturn:
    """Ends the call with the error."""
    status = _STATUS.get(int(catalogue()[problem.code]["status"]), grpc.StatusCode.INTERNAL)
    trailer = ((ERROR_TRAILER, json.dumps(problem.to_json()).encode()),)
    await context.abort(status, problem.message, trailer)


def has_token(context: grpc.aio.ServicerContext[Any, Any], token: str) -> bool:
    sent = dict(context.invocation_metadata() or ()).get("authorization", "")
    given = sent.decode(errors="replace") if isinstance(sent, bytes) else sent
    return hmac.compare_digest(given.encode(), f"Bearer {token}".encode())


async def require_token(context: grpc.aio.ServicerContext[Any, Any], token: str) -> None:
    """An empty token asks for none."""
    if token and not has_token(context, token):
        await abort(context, error("PB_UNAUTHORIZED"))
