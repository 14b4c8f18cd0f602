"""TLS and tokens by this process's SVID. The Workload API knows who we are; no secret is configured here."""

import json
import os
import socket
import ssl
from http.client import HTTPConnection

import redis
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from spiffe import JwtSource, JwtSvid, TrustDomain, WorkloadApiClient, X509Source

TRUST_DOMAIN = "example.org"


def named(name):
    return f"spiffe://{TRUST_DOMAIN}/{name}"


def peer(certificate):
    """The SPIFFE ID in a verified certificate: its one URI name."""
    uris = [value for kind, value in certificate.get("subjectAltName", ()) if kind == "URI"]
    if len(uris) != 1:
        raise ssl.SSLCertVerificationError("the peer has no SPIFFE ID")
    return uris[0]


class Identity:
    """Renewed in the background, so ask for a context at each connection and keep none."""

    def __init__(self):
        self._source = X509Source(timeout_in_seconds=20)

    def material(self):
        """Certificate chain and key, and the authorities of our own trust domain only: a federated one can't vouch
        for our names."""
        now = self._source.get_x509_context()
        svid = now.default_svid
        bundle = now.x509_bundle_set.get_bundle_for_trust_domain(TrustDomain(TRUST_DOMAIN))
        chain = b"".join(each.public_bytes(Encoding.PEM) for each in svid.cert_chain)
        key = svid.private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        return chain + key, "".join(each.public_bytes(Encoding.PEM).decode() for each in bundle.x509_authorities)

    def context(self, protocol, verify=ssl.CERT_REQUIRED):
        mine, authorities = self.material()
        context = ssl.SSLContext(protocol)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        # Names are SPIFFE IDs, which callers of `peer` compare.
        context.check_hostname = False
        context.verify_mode = verify
        context.load_verify_locations(cadata=authorities)
        if mine:
            # Python's ssl reads keys from files only; this one is in memory and has no name.
            with open(os.memfd_create("svid"), "wb") as file:
                file.write(mine)
                file.flush()
                context.load_cert_chain(f"/proc/self/fd/{file.fileno()}")
        return context

    def listening(self, verify=ssl.CERT_REQUIRED):
        """A context for a server: each handshake gets the SVID and the authorities of its moment."""
        context = self.context(ssl.PROTOCOL_TLS_SERVER, verify)
        # A resumed session would be one whose certificate nobody has looked at again.
        context.num_tickets = 0

        def renew(connection, _name, _context):
            connection.context = self.context(ssl.PROTOCOL_TLS_SERVER, verify)

        context.sni_callback = renew
        return context

    def dial(self, port, expected):
        """A connection to `expected`, whom nothing is sent before it has proved to be that."""
        raw = socket.create_connection(("127.0.0.1", port), timeout=10)
        try:
            connection = self.context(ssl.PROTOCOL_TLS_CLIENT).wrap_socket(raw)
            if peer(connection.getpeercert()) != expected:
                raise ssl.SSLCertVerificationError(f"the peer isn't {expected}")
            return connection
        except BaseException:
            raw.close()
            raise


def feature_store(identity, port):
    """A Redis client whose connections are ours."""

    class Connection(redis.Connection):
        def _connect(self):
            return identity.dial(port, named("feature-store"))

    # Envoy's Redis proxy speaks RESP2 and takes no CLIENT SETINFO.
    pool = redis.ConnectionPool(connection_class=Connection, protocol=2, driver_info=None, decode_responses=True)
    return redis.Redis(connection_pool=pool)


def get(connection, path, token=None):
    """Status and body of a GET on a connection of ours, by which it ends."""
    http = HTTPConnection("localhost")
    http.sock = connection
    http.request("GET", path, headers={"Authorization": f"Bearer {token}"} if token else {})
    answer = http.getresponse()
    body = answer.read()
    http.close()
    return answer.status, json.loads(body) if answer.status == 200 else None


def token_for(service):
    """A JWT-SVID that this one service accepts and no other."""
    with WorkloadApiClient() as client:
        return client.fetch_jwt_svid({named(service)}, timeout=10).token


class Bearer:
    """Judges the bearer tokens that are shown to `service`."""

    def __init__(self, service):
        self._audience = {named(service)}
        self._source = JwtSource(timeout_in_seconds=20)

    def subject(self, header):
        """The SPIFFE ID of a token that is genuine, alive and meant for us; None for everything else."""
        scheme, _, token = (header or "").partition(" ")
        try:
            if scheme.lower() != "bearer":
                return None
            bundle = self._source.get_bundle_for_trust_domain(TrustDomain(TRUST_DOMAIN))
            return str(JwtSvid.parse_and_validate(token, bundle, self._audience).spiffe_id)
        except Exception:  # Whatever it stumbles over: a token that can't be judged is refused.
            return None
