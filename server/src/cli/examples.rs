//! What the help of each command ends with.

use credence_command::help::Example;

/// Lines as they can be typed; a command may have several.
pub(super) const EXAMPLES: &[Example] = &[
    ("run", "-config conf/server/server.conf"),
    ("validate", "-config conf/server/server.conf -expandEnv"),
    ("healthcheck", "-verbose"),
    (
        "entry create",
        "-node -spiffeID spiffe://example.org/nodes -selector x509pop:subject:cn:node1",
    ),
    (
        "entry create",
        "-parentID spiffe://example.org/nodes -spiffeID spiffe://example.org/web -selector unix:uid:1000 -dns web",
    ),
    ("entry create", "-data entries.json -output json"),
    (
        "entry update",
        "-entryID web-1 -parentID spiffe://example.org/nodes -spiffeID spiffe://example.org/web -selector unix:uid:1001",
    ),
    ("entry show", "-spiffeID spiffe://example.org/web"),
    (
        "entry show",
        "-selector unix:uid:1000 -matchSelectorsOn any -output yaml",
    ),
    ("entry count", "-parentID spiffe://example.org/nodes"),
    ("entry delete", "-entryID web-1"),
    ("agent list", "-attestationType x509pop -banned false"),
    (
        "agent show",
        "-spiffeID spiffe://example.org/spire/agent/x509pop/node1",
    ),
    ("agent count", "-canReattest true"),
    (
        "agent ban",
        "-spiffeID spiffe://example.org/spire/agent/x509pop/node1",
    ),
    (
        "agent evict",
        "-spiffeID spiffe://example.org/spire/agent/x509pop/node1",
    ),
    ("agent purge", "-expiredFor 720h -dryRun"),
    ("token generate", "-spiffeID spiffe://example.org/nodes -ttl 600"),
    ("bundle show", "-format spiffe"),
    ("bundle count", ""),
    ("bundle list", "-id spiffe://other.test -format spiffe"),
    (
        "bundle set",
        "-id spiffe://other.test -format spiffe -path other.json",
    ),
    ("bundle delete", "-id spiffe://other.test -mode dissociate"),
    (
        "federation create",
        "-trustDomain other.test -bundleEndpointURL https://other.test:8443 -bundleEndpointProfile https_web",
    ),
    (
        "federation create",
        "-trustDomain other.test -bundleEndpointURL https://other.test:8443 -bundleEndpointProfile https_spiffe \
         -endpointSpiffeID spiffe://other.test/spire/server -trustDomainBundlePath other.pem",
    ),
    (
        "federation update",
        "-trustDomain other.test -bundleEndpointURL https://new.other.test -bundleEndpointProfile https_web",
    ),
    ("federation delete", "-id other.test"),
    ("federation list", "-output yaml"),
    ("federation show", "-trustDomain other.test"),
    (
        "x509 mint",
        "-spiffeID spiffe://example.org/operator -ttl 1h -dns operator -write .",
    ),
    (
        "jwt mint",
        "-spiffeID spiffe://example.org/operator -audience https://api.example.org -ttl 5m",
    ),
    (
        "wit mint",
        "-spiffeID spiffe://example.org/operator -ttl 1h -write .",
    ),
    ("debug getinfo", "-output json"),
    ("logger get", ""),
    ("logger set", "-level debug"),
    ("logger reset", ""),
    ("localauthority x509 show", ""),
    ("localauthority x509 prepare", ""),
    (
        "localauthority x509 activate",
        "-authorityID 2b3f7f6c0f1e5d4a99c0a3a2c1b7d6e5f4031221",
    ),
    (
        "localauthority x509 taint",
        "-authorityID 2b3f7f6c0f1e5d4a99c0a3a2c1b7d6e5f4031221",
    ),
    (
        "localauthority x509 revoke",
        "-authorityID 2b3f7f6c0f1e5d4a99c0a3a2c1b7d6e5f4031221",
    ),
    ("localauthority jwt show", "-output yaml"),
    ("localauthority jwt prepare", ""),
    (
        "localauthority jwt activate",
        "-authorityID pN8vGqLw3sXcYb7TzK1dRfH5mJ2uE9aQ",
    ),
    (
        "localauthority jwt taint",
        "-authorityID pN8vGqLw3sXcYb7TzK1dRfH5mJ2uE9aQ",
    ),
    (
        "localauthority jwt revoke",
        "-authorityID pN8vGqLw3sXcYb7TzK1dRfH5mJ2uE9aQ -force",
    ),
];
