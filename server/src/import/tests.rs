//! Databases as SPIRE leaves them, made here from a script; SPIRE's own are `tests/dropin`'s.

mod crash;
mod live;
mod refused;

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::Duration;

use credence_crypto::x509::X509Ca;
use credence_crypto::{KeyType, hex};
use credence_identity::{BundleEndpointProfile, Entry, SpiffeId};
use credence_runtime::clock::{Clock, ManualClock, StepWatch};
use credence_runtime::supervisor::Supervisor;
use prost::Message;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection};
use tempfile::TempDir;

use super::*;
use crate::ca::{self, Authority};
use crate::keymanager::KeyManager;
use crate::registry::{self, Registry};
use crate::store::{Change, Journal, Snapshot, Store};

const NOW: Timestamp = Timestamp::from_unix_seconds(1_790_000_000);
const HOUR: Duration = Duration::from_secs(3600);

/// A folder with SPIRE's files.
struct Folder {
    dir: TempDir,
    database: SqliteOptions,
    keys: PathBuf,
}

impl Folder {
    fn empty() -> Self {
        let dir = TempDir::new().unwrap();
        Self {
            database: SqliteOptions::new(dir.path().join("datastore.sqlite3")),
            keys: dir.path().join("keys.json"),
            dir,
        }
    }

    /// With keys, and a database that holds everything.
    async fn full() -> Self {
        let folder = Self::empty();
        let mut database = folder.raw().await;
        let script = [
            include_str!("tests/schema_25.sql"),
            include_str!("tests/records.sql"),
        ]
        .concat();
        sqlx::raw_sql(AssertSqlSafe(script))
            .execute(&mut database)
            .await
            .unwrap();
        let (own, foreign, journal, active) = folder.authorities().await;
        for (id, domain, data) in [
            (1, "example.org", own),
            (2, "two.test", foreign),
            (3, "three.test", Vec::new()),
        ] {
            sqlx::query("INSERT INTO bundles VALUES (?, NULL, NULL, ?, ?)")
                .bind(id)
                .bind(format!("spiffe://{domain}"))
                .bind(data)
                .execute(&mut database)
                .await
                .unwrap();
        }
        // A journal of another server's came first.
        for (data, active) in [(b"\xff".to_vec(), "other".to_owned()), (journal, active)] {
            sqlx::query("INSERT INTO ca_journals (data, active_x509_authority_id) VALUES (?, ?)")
                .bind(data)
                .bind(active)
                .execute(&mut database)
                .await
                .unwrap();
        }
        database.close().await.unwrap();
        folder
    }

    /// Makes keys, and returns the own bundle, a foreign one, the journal and the id of the active X.509 authority.
    async fn authorities(&self) -> (Vec<u8>, Vec<u8>, Vec<u8>, String) {
        let keys = DiskKeyManager::open(&self.keys).unwrap();
        let x509 = keys.generate("x509-CA-B", KeyType::EcP256).await.unwrap();
        let jwt = keys.generate("JWT-Signer-A", KeyType::EcP256).await.unwrap();
        let wit = keys.generate("WIT-Signer-B", KeyType::EcP256).await.unwrap();
        let id = hex(&x509.public_key().key_id());
        let domain = "example.org".parse().unwrap();
        let (start, end) = (NOW - HOUR, NOW + 23 * HOUR);
        let subject = ca::Settings::defaults("example.org".parse().unwrap()).ca_subject;
        let ca = X509Ca::self_sign(x509, &domain, &subject, start, end).unwrap();
        let certificate = ca.certificate().der().to_vec();
        let spki = jwt.public_key().spki_der().to_vec();
        let wit_spki = wit.public_key().spki_der().to_vec();
        let root = |tainted_key| wire::Certificate {
            der_bytes: certificate.clone(),
            tainted_key,
        };
        let signing_key = wire::PublicKey {
            pkix_bytes: spki.clone(),
            kid: "kid-a".to_owned(),
            not_after: end.unix_seconds(),
            tainted_key: false,
        };
        let own = wire::Bundle {
            root_cas: vec![root(false)],
            jwt_signing_keys: vec![signing_key.clone()],
            wit_signing_keys: vec![wire::PublicKey {
                kid: "kid-w".to_owned(),
                pkix_bytes: wit_spki.clone(),
                ..signing_key.clone()
            }],
            refresh_hint: 300,
            sequence_number: 12,
        };
        let foreign = wire::Bundle {
            root_cas: vec![wire::Certificate {
                der_bytes: [&*certificate, &*certificate].concat(),
                tainted_key: true,
            }],
            jwt_signing_keys: vec![wire::PublicKey {
                not_after: 0,
                tainted_key: true,
                ..signing_key
            }],
            wit_signing_keys: Vec::new(),
            refresh_hint: 0,
            sequence_number: 0,
        };
        let x509_entry = |slot_id: &str, status| wire::X509CaEntry {
            slot_id: slot_id.to_owned(),
            issued_at: start.unix_seconds(),
            certificate: certificate.clone(),
            status,
        };
        let token_entry = |slot_id: &str, kid: &str, public_key| wire::TokenKeyEntry {
            slot_id: slot_id.to_owned(),
            issued_at: start.unix_seconds(),
            not_after: end.unix_seconds(),
            kid: kid.to_owned(),
            public_key,
            status: wire::status::ACTIVE,
        };
        let journal = wire::Journal {
            x509_cas: vec![
                x509_entry("A", wire::status::OLD),
                x509_entry("B", wire::status::ACTIVE),
            ],
            jwt_keys: vec![token_entry("A", "kid-a", spki)],
            wit_keys: vec![token_entry("B", "kid-w", wit_spki)],
        };
        (
            own.encode_to_vec(),
            foreign.encode_to_vec(),
            journal.encode_to_vec(),
            id,
        )
    }

    async fn raw(&self) -> SqliteConnection {
        SqliteConnectOptions::new()
            .filename(&self.database.path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .foreign_keys(false)
            .connect()
            .await
            .unwrap()
    }

    async fn execute(&self, statements: &'static str) {
        let mut database = self.raw().await;
        sqlx::raw_sql(statements).execute(&mut database).await.unwrap();
        database.close().await.unwrap();
    }

    /// The files that a start would work with.
    async fn settle(&self) -> Result<(SqliteOptions, PathBuf), ImportError> {
        let (mut database, mut keys) = (self.database.clone(), self.keys.clone());
        let trust_domain = "example.org".parse().unwrap();
        settle(&mut database, Some(&mut keys), &trust_domain, NOW).await?;
        Ok((database, keys))
    }

    /// Everything in the database that a start would work with, which must be ours.
    async fn taken_over(&self) -> Snapshot {
        let (database, keys) = self.settle().await.unwrap();
        assert_eq!(database.path, self.dir.path().join("datastore.sqlite3.credence"));
        assert_eq!(keys, self.dir.path().join("keys.json.credence"));
        let mut store = SqliteStore::open(&database).await.unwrap();
        let snapshot = store.load().await.unwrap();
        store.close().await;
        snapshot
    }

    /// Each file with its content.
    fn files(&self) -> BTreeMap<String, Vec<u8>> {
        let files = fs::read_dir(self.dir.path()).unwrap().map(|file| {
            let file = file.unwrap();
            (
                file.file_name().into_string().unwrap(),
                fs::read(file.path()).unwrap(),
            )
        });
        files.collect()
    }
}

#[tokio::test]
async fn spires_files_stay_as_they_are() {
    let folder = Folder::full().await;
    let before = folder.files();
    folder.taken_over().await;
    let mut after = folder.files();
    assert_eq!(
        after.remove("keys.json.credence"),
        before.get("keys.json").cloned()
    );
    assert!(after.remove("datastore.sqlite3.credence").is_some());
    assert!(after == before, "only two files were added: {:?}", after.keys());
    for name in ["keys.json.credence", "datastore.sqlite3.credence"] {
        let mode = fs::metadata(folder.dir.path().join(name))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
}

#[tokio::test]
async fn everything_is_taken_over() {
    let folder = Folder::full().await;
    let held = folder.taken_over().await;

    let entries: Vec<&Entry> = held.entries.iter().map(|(_, entry)| &**entry).collect();
    let [full, sparse] = entries[..] else {
        panic!("{entries:?}")
    };
    assert_eq!(
        *full,
        Entry {
            id: "full".parse().unwrap(),
            spiffe_id: "spiffe://example.org/full".parse().unwrap(),
            parent_id: "spiffe://example.org/spire/server".parse().unwrap(),
            selectors: vec!["unix:uid:0".parse().unwrap(), "unix:gid:0".parse().unwrap()],
            x509_svid_ttl: 77,
            jwt_svid_ttl: 88,
            federates_with: vec!["three.test".parse().unwrap(), "two.test".parse().unwrap()],
            admin: true,
            downstream: true,
            store_svid: true,
            expires_at: Some(Timestamp::from_unix_seconds(4_000_000_000)),
            dns_names: vec!["b.org".into(), "a.org".into()],
            hint: "external".into(),
            disable_x509_svid_prefetch: true,
            jwt_svid_include_jti: true,
            revision_number: 7,
            created_at: Timestamp::from_unix_seconds(1_767_323_045),
        }
    );
    assert_eq!(sparse.selectors, ["k8s:ns:a:b".parse().unwrap()]);
    assert_eq!(
        sparse.created_at,
        Timestamp::from_unix_seconds(1_767_323_046),
        "half a second is rounded up, and the offset counts"
    );
    assert_eq!(
        (sparse.x509_svid_ttl, sparse.revision_number, sparse.expires_at),
        (0, 0, None)
    );

    let [(_, node), (_, banned)] = &held.nodes[..] else {
        panic!("{:?}", held.nodes)
    };
    assert_eq!(node.serial, "123456789012345678901234567890");
    assert_eq!(node.new_serial.as_deref(), Some("99"));
    assert_eq!(
        node.new_not_after,
        Some(Timestamp::from_unix_seconds(1_782_864_000))
    );
    assert_eq!((&*node.agent_version, node.can_reattest), ("1.15.3", false));
    assert!(banned.is_banned() && banned.can_reattest && banned.new_serial.is_none());
    assert_eq!(
        banned.selectors,
        [
            "x509pop:subject:cn:z".parse().unwrap(),
            "x509pop:ca:fingerprint:a".parse().unwrap()
        ]
    );

    let tokens: Vec<_> = held.join_tokens.iter().map(|token| &*token.token).collect();
    assert_eq!(tokens, ["unspent"]);
    let bundles: Vec<_> = held.bundles.iter().map(|(_, bundle)| bundle).collect();
    let [own, two, three] = bundles[..] else {
        panic!("{bundles:?}")
    };
    assert_eq!(
        (own.sequence_number, own.refresh_hint),
        (12, Some(Duration::from_secs(300)))
    );
    assert!(!own.x509_authorities[0].tainted && own.jwt_authorities[0].expires_at.is_some());
    assert_eq!(&*own.wit_authorities[0].key_id, "kid-w");
    assert_eq!(two.x509_authorities.len(), 2, "two certificates in one value");
    assert!(two.x509_authorities[1].tainted && two.jwt_authorities[0].tainted);
    assert_eq!(
        (two.jwt_authorities[0].expires_at, two.refresh_hint),
        (None, None)
    );
    assert_eq!(three.trust_domain.as_str(), "three.test");
    let profiles: Vec<_> = held
        .relationships
        .iter()
        .map(|(_, relationship)| relationship.bundle_endpoint_profile.clone())
        .collect();
    let endpoint_spiffe_id: SpiffeId = "spiffe://three.test/spire/server".parse().unwrap();
    assert_eq!(
        profiles,
        [
            BundleEndpointProfile::HttpsWeb,
            BundleEndpointProfile::HttpsSpiffe { endpoint_spiffe_id }
        ]
    );
}

#[tokio::test]
async fn the_same_authorities_go_on_signing() {
    let folder = Folder::full().await;
    let (database, keys) = folder.settle().await.unwrap();
    let (supervisor, steps) = (Supervisor::new(), StepWatch::never());
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::new(NOW));
    let settings = ca::Settings {
        wit: Some(ca::WitSettings {
            key_type: KeyType::EcP256,
            issuer: None,
        }),
        ..ca::Settings::defaults("example.org".parse().unwrap())
    };
    let registry = Registry::open(
        SqliteStore::open(&database).await.unwrap(),
        registry::Settings {
            trust_domain: settings.trust_domain.clone(),
            node_pruning: None,
        },
        Arc::clone(&clock),
        &steps,
        &supervisor,
    )
    .await
    .unwrap();
    let revision = registry.read().revision();
    let keys = Arc::new(DiskKeyManager::open(&keys).unwrap());
    let authority = Authority::start(settings, registry.clone(), keys, clock, &steps, &supervisor)
        .await
        .unwrap();
    assert_eq!(registry.read().revision(), revision, "nothing had to be prepared");
    let own = registry.read().own_bundle().cloned().unwrap();
    let svid = authority.server_svid().borrow().clone();
    let issuer = credence_crypto::x509::Certificate::from_der(&own.x509_authorities[0].der).unwrap();
    assert_eq!(
        credence_crypto::x509::Certificate::from_der(&svid.svid.chain[0])
            .unwrap()
            .authority_key_id(),
        issuer.subject_key_id()
    );
    supervisor.shutdown();
    supervisor.wait().await.unwrap();
}

#[tokio::test]
async fn older_schemas_lack_columns() {
    for (version, statements) in [
        (
            24,
            "ALTER TABLE registered_entries DROP COLUMN additional_attributes; UPDATE migrations SET version = 24",
        ),
        (
            23,
            "ALTER TABLE registered_entries DROP COLUMN additional_attributes; \
             ALTER TABLE attested_node_entries DROP COLUMN agent_version; UPDATE migrations SET version = 23",
        ),
    ] {
        let folder = Folder::full().await;
        folder.execute(statements).await;
        let held = folder.taken_over().await;
        assert_eq!(
            (held.entries.len(), held.nodes.len()),
            (2, 2),
            "version {version}"
        );
        assert!(!held.entries[0].1.jwt_svid_include_jti);
        assert_eq!(held.nodes[0].1.agent_version.is_empty(), version == 23);
    }
}

#[tokio::test]
async fn a_later_start_goes_on_with_what_was_made_even_when_spires_files_are_gone() {
    let folder = Folder::full().await;
    let held = folder.taken_over().await;
    assert_eq!(folder.taken_over().await.revision, held.revision);
    let (database, _) = folder.settle().await.unwrap();
    let mut store = SqliteStore::open(&database).await.unwrap();
    let ours = [Change::JournalPut(Journal(b"{}".as_slice().into()))];
    let moved = store.commit(held.revision, &ours, NOW).await.unwrap();
    store.close().await;
    assert_eq!(folder.taken_over().await.revision, moved);
    // SPIRE that starts and changes nothing leaves other bytes and the same records.
    folder.execute("VACUUM").await;
    assert_eq!(folder.taken_over().await.revision, moved);
    fs::remove_file(&folder.database.path).unwrap();
    fs::remove_file(&folder.keys).unwrap();
    assert_eq!(folder.taken_over().await.revision, moved);
}

#[tokio::test]
async fn what_spire_changes_is_taken_over_anew_until_both_have_gone_on() {
    let folder = Folder::full().await;
    let held = folder.taken_over().await;
    folder
        .execute("UPDATE registered_entries SET revision_number = 8")
        .await;
    let again = folder.taken_over().await;
    assert_eq!(again.entries[0].1.revision_number, 8);
    assert_eq!(again.revision, held.revision);

    let (database, _) = folder.settle().await.unwrap();
    let mut store = SqliteStore::open(&database).await.unwrap();
    let ours = [Change::JournalPut(Journal(b"{}".as_slice().into()))];
    store.commit(again.revision, &ours, NOW).await.unwrap();
    store.close().await;
    folder.execute("DELETE FROM join_tokens").await;
    let before = folder.files();
    let error = folder.settle().await.unwrap_err();
    assert!(matches!(error, ImportError::Parted { .. }), "{error}");
    assert!(
        error
            .to_string()
            .contains("move the files that end with .credence away"),
        "{error}"
    );
    assert!(folder.files() == before);
}

#[tokio::test]
async fn keys_in_memory_or_of_another_server_leave_the_old_authorities_in_the_bundle() {
    let folder = Folder::full().await;
    fs::write(&folder.keys, r#"{"keys":{}}"#).unwrap();
    let held = folder.taken_over().await;
    assert!(held.journal.is_none());
    assert_eq!(held.bundles[0].1.x509_authorities.len(), 1);
}

#[tokio::test]
async fn without_spires_files_nothing_changes() {
    let folder = Folder::empty();
    let (database, keys) = folder.settle().await.unwrap();
    assert_eq!((&database.path, &keys), (&folder.database.path, &folder.keys));
    SqliteStore::open(&database).await.unwrap().close().await;
    let (database, _) = folder.settle().await.unwrap();
    assert_eq!(
        database.path, folder.database.path,
        "ours, under the name of the configuration"
    );
    assert_eq!(folder.files().len(), 1);
}
