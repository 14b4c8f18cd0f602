-- A trust domain with everything that can be in one. The own bundle and the journal are the test's.
INSERT INTO federated_trust_domains VALUES
    (1, NULL, NULL, 'two.test', 'https://two.test/bundle', 'https_web', '', 0),
    (2, NULL, NULL, 'three.test', 'https://three.test:8443', 'https_spiffe', 'spiffe://three.test/spire/server', 0);
INSERT INTO registered_entries VALUES
    (1, '2026-01-02 03:04:05.499999999+00:00', '2026-01-02 03:04:05+00:00', 'full', 'spiffe://example.org/full', 'spiffe://example.org/spire/server', 77, 1, 1, 4000000000, 7, 1, 'external', 88, X'08011001'),
    -- Rows that migrations went over have nulls; a server at the other end of the world wrote its own offset.
    (5, '2026-01-02 04:34:05.5+01:30', NULL, 'sparse', 'spiffe://example.org/sparse', 'spiffe://example.org/spire/agent/join_token/x', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
INSERT INTO selectors VALUES
    (1, NULL, NULL, 1, 'unix', 'uid:0'), (2, NULL, NULL, 1, 'unix', 'gid:0'), (3, NULL, NULL, 5, 'k8s', 'ns:a:b'),
    (4, NULL, NULL, 99, 'of', 'an entry that is gone');
INSERT INTO dns_names VALUES (1, NULL, NULL, 1, 'b.org'), (2, NULL, NULL, 1, 'a.org');
INSERT INTO federated_registration_entries VALUES (3, 1), (2, 1);
INSERT INTO attested_node_entries VALUES
    (1, NULL, NULL, 'spiffe://example.org/spire/agent/join_token/x', 'join_token', '123456789012345678901234567890', '2026-06-01 00:00:00+00:00', '99', '2026-07-01 02:00:00+02:00', 0, '1.15.3'),
    (2, NULL, NULL, 'spiffe://example.org/spire/agent/x509pop/banned', 'x509pop', '', '2026-06-01 00:00:00+00:00', '', NULL, 1, NULL);
INSERT INTO node_resolver_map_entries VALUES
    (1, NULL, NULL, 'spiffe://example.org/spire/agent/x509pop/banned', 'x509pop', 'subject:cn:z'),
    (2, NULL, NULL, 'spiffe://example.org/spire/agent/x509pop/banned', 'x509pop', 'ca:fingerprint:a'),
    (3, NULL, NULL, 'spiffe://example.org/spire/agent/gone', 'x509pop', 'subject:cn:gone');
INSERT INTO join_tokens VALUES (1, NULL, NULL, 'unspent', 1800000000), (2, NULL, NULL, 'expired', 1700000000);
