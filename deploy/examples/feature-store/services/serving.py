"""FastAPI behind the three kinds of door, and who came through."""

import os
import socket
import ssl

import uvicorn
from fastapi import HTTPException, Request
from uvicorn.protocols.http.h11_impl import H11Protocol

from identity import Identity, peer


class PeerAware(H11Protocol):
    """Hands the verified peer of a connection to its requests: ASGI has no place for it."""

    def connection_made(self, transport):
        super().connection_made(transport)
        certificate = transport.get_extra_info("peercert")
        self.app_state = {**self.app_state, "peer": peer(certificate) if certificate else None}


def only(who, allowed):
    """A dependency that admits the callers in `allowed`; `who` tells the caller of a request."""

    def check(request: Request):
        caller = who(request)
        if caller is None:
            raise HTTPException(401)
        if caller not in allowed:
            raise HTTPException(403)
        return caller

    return check


def by_certificate(request):
    return request.state.peer


def by_token(bearer):
    return lambda request: bearer.subject(request.headers.get("authorization"))


def by_sidecar(request):
    # Only the sidecar can open our socket, and it drops what callers write here themselves.
    fields = request.headers.get("x-forwarded-client-cert", "").split(";")
    return next((field[4:] for field in fields if field.startswith("URI=")), None)


def serve(app, address, verify=None):
    """Serves `app` on a port by TLS, or on a Unix socket for the one group that may open its folder."""
    tls = {}
    if address.isdigit():
        listener = socket.create_server(("127.0.0.1", int(address)))
        identity = Identity()
        tls["ssl_context_factory"] = lambda *_: identity.listening(verify)
    else:
        listener = socket.socket(socket.AF_UNIX)
        os.umask(0o117)
        listener.bind(address)
    config = uvicorn.Config(app, http=PeerAware, ws="none", lifespan="off", server_header=False, **tls)
    uvicorn.Server(config).run(sockets=[listener])


MUTUAL, SERVER_ONLY = ssl.CERT_REQUIRED, ssl.CERT_NONE
