"""Tries every door: as the service that this process is, or as impostors with what they could have got hold of.

Reads {"ports", "rows"} from standard input. A row is null for our own SVID; else "svids" (files with certificate and
key, by door) and "tokens" (by door). Prints for each row the answers, and the tokens that were shown."""

import json
import sys
from concurrent.futures import ThreadPoolExecutor

import redis
from spiffe.errors import PySpiffeError

from identity import Identity, feature_store, get, named, token_for

asked = json.load(sys.stdin)
ports = asked["ports"]


class Impostor(Identity):
    def __init__(self, svid):
        self._mine = open(svid, "rb").read() if svid else b""
        self._authorities = open(asked["bundle"]).read()

    def material(self):
        return self._mine, self._authorities

    def dial(self, port, expected):
        connection = super().dial(port, expected)
        if port in (ports["jwt"], ports["model"]):
            return connection
        # A server of TLS 1.3 judges our certificate when we think that all is done. Its verdict comes before any data.
        connection.settimeout(3)
        try:
            connection.recv(1)
        except TimeoutError:
            connection.settimeout(10)
        return connection


def verdict(error):
    """How we were refused; an error that isn't a refusal is no answer."""
    while error:
        name, reason = type(error).__name__, getattr(error, "reason", None) or ""
        if name == "NoPermissionError":
            return "NOPERM"
        if "ALERT" in reason:
            return reason.partition("ALERT_")[2].lower().replace("_", " ")
        if name in ("ConnectionResetError", "BrokenPipeError", "SSLEOFError", "RemoteDisconnected"):
            return "closed"
        if isinstance(error, redis.ConnectionError) and "closed by server" in str(error):
            return "closed"
        last, error = error, error.__cause__ or error.__context__
    return f"no answer: {last!r}"


def store(identity, door, command):
    connection = feature_store(identity, ports[door])
    command(connection)
    return "yes"


def http(connection, path, token, wanted):
    status, body = get(connection, path, token)
    return "yes" if status == 200 and body == wanted else str(status)


def attempts(row):
    own = Identity() if row is None else None
    tokens = {} if own else row["tokens"]

    def identity(door):
        return own or Impostor(row["svids"].get(door))

    def token(door, service):
        if own:
            tokens[door] = token_for(service)
        return tokens.get(door)

    def write(connection):
        connection.hset("features:item:7", mapping={"visits": 70, "sold": 15})

    def read(connection):
        assert connection.hgetall("features:item:7") == {"visits": "70", "sold": "15"}

    def predict(door, token=None):
        connection = identity(door).dial(ports[door], named("inference"))
        return http(connection, "/predict/7", token, {"item": 7, "sold": 15.0})

    def model():
        connection = identity("model").dial(ports["model"], named("trainer"))
        return http(connection, "/model", token("model", "trainer"), {"slope": 0.2, "intercept": 1.0})

    doors = {
        "write": lambda: store(identity("write"), "write", write),
        "read": lambda: store(identity("read"), "read", read),
        "write by read": lambda: store(identity("read"), "read", write),
        "mtls": lambda: predict("mtls"),
        "sidecar": lambda: predict("sidecar"),
        "jwt": lambda: predict("jwt", token("jwt", "inference")),
        "model": model,
    }
    def answer(door):
        try:
            return doors[door]()
        except Exception as error:
            return verdict(error)

    tried = [door for door in doors if own or door in row["doors"]]
    with ThreadPoolExecutor() as pool:
        return {"answers": dict(zip(tried, pool.map(answer, tried))), "tokens": tokens}


if None not in asked["rows"]:
    # Impostors run under a uid without an entry, to which the agent gives nothing.
    try:
        token_for("inference")
        sys.exit("a stranger got a token")
    except PySpiffeError:
        pass
json.dump([attempts(row) for row in asked["rows"]], sys.stdout)
