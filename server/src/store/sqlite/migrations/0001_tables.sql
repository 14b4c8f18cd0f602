-- Times are milliseconds since the Unix epoch. Lists are JSON arrays of texts.

-- The revision of the last change. A row of its own and no automatic key: no gaps, no reordering.
CREATE TABLE log_head (
    id INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
    revision INTEGER NOT NULL
) STRICT;
INSERT INTO log_head (id, revision) VALUES (1, 0);

-- The tail of the log: what changed, not how.
CREATE TABLE changes (
    revision INTEGER NOT NULL PRIMARY KEY,
    kind TEXT NOT NULL,
    object TEXT NOT NULL,
    changed_at INTEGER NOT NULL
) STRICT;

CREATE TABLE entries (
    row INTEGER NOT NULL PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    spiffe_id TEXT NOT NULL,
    parent_id TEXT NOT NULL,
    selectors TEXT NOT NULL,
    x509_svid_ttl INTEGER NOT NULL,
    jwt_svid_ttl INTEGER NOT NULL,
    -- 1 admin, 2 downstream, 4 store_svid, 8 disable_x509_svid_prefetch, 16 jwt_svid_include_jti
    flags INTEGER NOT NULL,
    expires_at INTEGER,
    dns_names TEXT,
    hint TEXT NOT NULL,
    revision_number INTEGER NOT NULL,
    created_at INTEGER NOT NULL
) STRICT;

CREATE TABLE bundles (
    trust_domain TEXT NOT NULL PRIMARY KEY,
    authorities TEXT NOT NULL,
    refresh_hint INTEGER,
    sequence_number INTEGER NOT NULL
) STRICT;

-- Checked at commit, so that the order of changes within a transaction does not matter.
CREATE TABLE federations (
    entry_id TEXT NOT NULL REFERENCES entries (id) ON DELETE CASCADE,
    position INTEGER NOT NULL,
    trust_domain TEXT NOT NULL REFERENCES bundles (trust_domain) DEFERRABLE INITIALLY DEFERRED,
    PRIMARY KEY (entry_id, position)
) STRICT;
CREATE INDEX federations_by_trust_domain ON federations (trust_domain);

CREATE TABLE nodes (
    row INTEGER NOT NULL PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    attestation_type TEXT NOT NULL,
    serial TEXT NOT NULL,
    not_after INTEGER NOT NULL,
    new_serial TEXT,
    new_not_after INTEGER,
    can_reattest INTEGER NOT NULL,
    selectors TEXT NOT NULL,
    agent_version TEXT NOT NULL
) STRICT;

CREATE TABLE join_tokens (
    token TEXT NOT NULL PRIMARY KEY,
    expires_at INTEGER NOT NULL
) STRICT;

CREATE TABLE authority_journal (
    id INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
    body BLOB NOT NULL
) STRICT;
