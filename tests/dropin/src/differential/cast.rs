//! The callers of a side: each an SVID, got from the side's own server.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use credence_crypto::x509::{X509Svid, X509SvidKey};
use credence_crypto::{KeyType, PrivateKey, csr};
use credence_identity::{Bundle, SpiffeId, TrustDomain, X509Authority};
use credence_runtime::clock::SystemClock;
use credence_runtime::grpc::connect::connect_tls;
use credence_runtime::tls::{BundleLookup, KeyExchange, client_config};
use serde_json::{Value, json};
use tokio::sync::watch;
use tonic::transport::Channel;

use super::call::call;

/// The tokens by which callers attest; they are part of their SPIFFE IDs.
const TOKEN: &str = "11111111-token-of-the-suite";
const BANNED: &str = "22222222-token-of-the-suite";
const EVICTED: &str = "33333333-token-of-the-suite";

/// Connections by the name of their caller.
#[derive(Debug)]
pub(super) struct Cast {
    port: u16,
    bundle: Arc<Bundle>,
    svids: BTreeMap<&'static str, Arc<X509SvidKey>>,
}

impl Cast {
    /// Registers the callers on the socket `local` and gets each its SVID; with `outcasts`, an agent that is banned then
    /// and one that is evicted.
    pub(super) async fn assemble(local: &Channel, port: u16, outcasts: bool) -> Self {
        let bundle = call(local.clone(), "Bundle/GetBundle", &json!({}), false).await;
        let mut own = Bundle::empty(TrustDomain::parse("example.org").expect("a trust domain"));
        for authority in answer(&bundle, "/x509_authorities")
            .as_array()
            .into_iter()
            .flatten()
        {
            own.x509_authorities.push(X509Authority {
                der: bytes(authority.get("asn1")).into(),
                tainted: false,
            });
        }
        let mut cast = Self {
            port,
            bundle: Arc::new(own),
            svids: BTreeMap::new(),
        };
        for (name, privilege) in [
            ("workload", None),
            ("admin", Some("admin")),
            ("downstream", Some("downstream")),
        ] {
            let mut entry = json!({
                "id": format!("caller-{name}"),
                "spiffe_id": {"trust_domain": "example.org", "path": format!("/{name}")},
                "parent_id": {"trust_domain": "example.org", "path": "/callers"},
                "selectors": [{"type": "caller", "value": name}],
            });
            if let (Some(members), Some(privilege)) = (entry.as_object_mut(), privilege) {
                members.insert(privilege.to_owned(), Value::Bool(true));
            }
            let request = json!({ "entries": [entry] });
            let created = call(local.clone(), "Entry/BatchCreateEntry", &request, false).await;
            assert_eq!(answer(&created, "/results/0/status/code"), &json!(0), "{created}");
            let key = PrivateKey::generate(KeyType::EcP256).expect("a key");
            let id = SpiffeId::parse(&format!("spiffe://example.org/{name}")).expect("an ID");
            let csr = csr::create(&key, Some(&id), &[]).expect("a CSR");
            let minted = call(
                local.clone(),
                "SVID/MintX509SVID",
                &json!({"csr": STANDARD.encode(csr)}),
                false,
            )
            .await;
            cast.take(name, &minted, "/svid/cert_chain", key);
        }
        cast.attest(local, "agent", TOKEN).await;
        if outcasts {
            for (name, token, method) in [
                ("banned", BANNED, "Agent/BanAgent"),
                ("evicted", EVICTED, "Agent/DeleteAgent"),
            ] {
                cast.attest(local, name, token).await;
                let path = format!("/spire/agent/join_token/{token}");
                let request = json!({"id": {"trust_domain": "example.org", "path": path}});
                let done = call(local.clone(), method, &request, false).await;
                assert_eq!(done.get("code"), Some(&json!("Ok")), "{done}");
            }
        }
        cast
    }

    async fn attest(&mut self, local: &Channel, name: &'static str, token: &str) {
        let create = json!({"ttl": 600, "token": token});
        drop(call(local.clone(), "Agent/CreateJoinToken", &create, false).await);
        let key = PrivateKey::generate(KeyType::EcP256).expect("a key");
        let csr = csr::create(&key, None, &[]).expect("a CSR");
        let request = json!({"params": {
            "data": {"type": "join_token", "payload": STANDARD.encode(token)},
            "params": {"csr": STANDARD.encode(csr)},
        }});
        let channel = self.connect("anonymous").await;
        let attested = call(channel, "Agent/AttestAgent", &json!([request]), false).await;
        self.take(name, &attested, "/result/svid/cert_chain", key);
    }

    fn take(&mut self, name: &'static str, said: &Value, path: &str, key: PrivateKey) {
        let chain: Vec<Vec<u8>> = answer(said, path)
            .as_array()
            .unwrap_or_else(|| panic!("no SVID for {name}: {said}"))
            .iter()
            .map(|der| bytes(Some(der)))
            .collect();
        let svid = X509Svid::from_der_chain(&chain).expect("an SVID");
        self.svids
            .insert(name, Arc::new(X509SvidKey::new(svid, key).expect("its key")));
    }

    /// A new connection of the caller `name` to the server's TCP endpoint; `anonymous` shows no certificate.
    pub(super) async fn connect(&self, name: &str) -> Channel {
        let known = Arc::clone(&self.bundle);
        let bundles: BundleLookup =
            Arc::new(move |name| (*name == known.trust_domain).then(|| Arc::clone(&known)));
        let own = (name != "anonymous").then(|| {
            let svid = self.svids.get(name).unwrap_or_else(|| panic!("no caller {name}"));
            watch::Sender::new(Arc::clone(svid)).subscribe()
        });
        let server = SpiffeId::server(&self.bundle.trust_domain);
        let config = client_config(
            own,
            server,
            bundles,
            Arc::new(SystemClock),
            KeyExchange::default(),
        )
        .expect("TLS");
        connect_tls("127.0.0.1", self.port, config)
            .await
            .expect("connect to the server")
    }
}

fn answer<'a>(said: &'a Value, path: &str) -> &'a Value {
    said.pointer(&format!("/answers/0{path}")).unwrap_or(&Value::Null)
}

fn bytes(value: Option<&Value>) -> Vec<u8> {
    let text = value.and_then(Value::as_str).expect("bytes in base64");
    STANDARD.decode(text).expect("bytes in base64")
}
