"""Asks the Workload API for everything py-spiffe can ask for, and prints one line per answer."""

import sys

from spiffe import WorkloadApiClient

socket, audience = sys.argv[1], sys.argv[2]
with WorkloadApiClient(socket) as client:
    context = client.fetch_x509_context()
    svid = context.default_svid
    print("x509", svid.spiffe_id)
    domain = svid.spiffe_id.trust_domain
    bundle = context.x509_bundle_set.get_bundle_for_trust_domain(domain)
    print("authorities", len(bundle.x509_authorities))
    # A second request on the connection sends the header block by dynamic table index.
    client.fetch_x509_context()
    token = client.fetch_jwt_svid({audience})
    print("jwt", token.spiffe_id)
    print("validated", client.validate_jwt_svid(token.token, audience).spiffe_id)
    bundles = client.fetch_jwt_bundles()
    print("jwt-bundles", len(bundles.get_bundle_for_trust_domain(domain).jwt_authorities))
