-- The tables that SPIRE's schema version 25 has, as far as a reader sees them: names, order and types of the columns.
CREATE TABLE migrations (id integer PRIMARY KEY AUTOINCREMENT, created_at datetime, updated_at datetime, version integer, code_version varchar(255));
CREATE TABLE bundles (id integer PRIMARY KEY AUTOINCREMENT, created_at datetime, updated_at datetime, trust_domain varchar(255) NOT NULL UNIQUE, data blob);
CREATE TABLE federated_trust_domains (id integer PRIMARY KEY AUTOINCREMENT, created_at datetime, updated_at datetime, trust_domain varchar(255) NOT NULL UNIQUE, bundle_endpoint_url varchar(255), bundle_endpoint_profile varchar(255), endpoint_spiffe_id varchar(255), implicit bool);
CREATE TABLE registered_entries (id integer PRIMARY KEY AUTOINCREMENT, created_at datetime, updated_at datetime, entry_id varchar(255) UNIQUE, spiffe_id varchar(255), parent_id varchar(255), ttl integer, admin bool, downstream bool, expiry bigint, revision_number bigint, store_svid bool, hint varchar(255), jwt_svid_ttl integer, additional_attributes blob);
CREATE TABLE federated_registration_entries (bundle_id integer, registered_entry_id integer, PRIMARY KEY (bundle_id, registered_entry_id));
CREATE TABLE selectors (id integer PRIMARY KEY AUTOINCREMENT, created_at datetime, updated_at datetime, registered_entry_id integer, type varchar(255), value varchar(255), UNIQUE (registered_entry_id, type, value));
CREATE TABLE dns_names (id integer PRIMARY KEY AUTOINCREMENT, created_at datetime, updated_at datetime, registered_entry_id integer, value varchar(255), UNIQUE (registered_entry_id, value));
CREATE TABLE registered_entries_events (id integer PRIMARY KEY AUTOINCREMENT, created_at datetime, updated_at datetime, entry_id varchar(255));
CREATE TABLE attested_node_entries (id integer PRIMARY KEY AUTOINCREMENT, created_at datetime, updated_at datetime, spiffe_id varchar(255) UNIQUE, data_type varchar(255), serial_number varchar(255), expires_at datetime, new_serial_number varchar(255), new_expires_at datetime, can_reattest bool, agent_version varchar(255));
CREATE TABLE attested_node_entries_events (id integer PRIMARY KEY AUTOINCREMENT, created_at datetime, updated_at datetime, spiffe_id varchar(255));
CREATE TABLE node_resolver_map_entries (id integer PRIMARY KEY AUTOINCREMENT, created_at datetime, updated_at datetime, spiffe_id varchar(255), type varchar(255), value varchar(255), UNIQUE (spiffe_id, type, value));
CREATE TABLE join_tokens (id integer PRIMARY KEY AUTOINCREMENT, created_at datetime, updated_at datetime, token varchar(255) UNIQUE, expiry bigint);
CREATE TABLE ca_journals (id integer PRIMARY KEY AUTOINCREMENT, created_at datetime, updated_at datetime, data blob, active_x509_authority_id varchar(255), active_jwt_authority_id varchar(255));
INSERT INTO migrations VALUES (1, '2026-01-01 00:00:00+00:00', '2026-01-01 00:00:00+00:00', 25, '1.15.3');
