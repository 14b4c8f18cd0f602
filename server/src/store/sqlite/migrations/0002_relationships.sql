-- Bundles get a place in listings too. Numbers of rows are smaller than the revisions that made them, and as ascending.
ALTER TABLE bundles ADD COLUMN row INTEGER NOT NULL DEFAULT 0;
UPDATE bundles SET row = rowid;
CREATE UNIQUE INDEX bundles_by_row ON bundles (row);

CREATE TABLE relationships (
    row INTEGER NOT NULL PRIMARY KEY,
    trust_domain TEXT NOT NULL UNIQUE,
    bundle_endpoint_url TEXT NOT NULL,
    -- Of an https_spiffe endpoint; none for https_web.
    endpoint_spiffe_id TEXT
) STRICT;
