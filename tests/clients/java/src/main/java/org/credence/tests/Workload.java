package org.credence.tests;

import io.spiffe.bundle.x509bundle.X509Bundle;
import io.spiffe.spiffeid.TrustDomain;
import io.spiffe.svid.jwtsvid.JwtSvid;
import io.spiffe.svid.x509svid.X509Svid;
import io.spiffe.workloadapi.DefaultWorkloadApiClient;
import io.spiffe.workloadapi.WorkloadApiClient;

/** Asks the Workload API for everything java-spiffe can ask for, and prints one line per answer. */
public final class Workload {
    public static void main(String[] args) throws Exception {
        String audience = args[1];
        var options = DefaultWorkloadApiClient.ClientOptions.builder().spiffeSocketPath(args[0]).build();
        try (WorkloadApiClient client = DefaultWorkloadApiClient.newClient(options)) {
            var context = client.fetchX509Context();
            X509Svid svid = context.getDefaultSvid();
            System.out.println("x509 " + svid.getSpiffeId());
            TrustDomain domain = svid.getSpiffeId().getTrustDomain();
            X509Bundle bundle = context.getX509BundleSet().getBundleForTrustDomain(domain);
            System.out.println("authorities " + bundle.getX509Authorities().size());
            // A second request on the connection sends the header block by dynamic table index.
            client.fetchX509Context();
            JwtSvid jwt = client.fetchJwtSvid(audience);
            System.out.println("jwt " + jwt.getSpiffeId());
            System.out.println("validated " + client.validateJwtSvid(jwt.getToken(), audience).getSpiffeId());
            System.out.println("jwt-bundles " + client.fetchJwtBundles().getBundleForTrustDomain(domain).getJwtAuthorities().size());
        }
    }
}
