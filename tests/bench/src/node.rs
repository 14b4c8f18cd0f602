//! A node that is only a client: it attests as an agent does and then calls the server with its SVID.

use std::sync::Arc;

use anyhow::{Context, Result, bail};
use credence_crypto::x509::{X509Svid, X509SvidKey};
use credence_crypto::{KeyType, PrivateKey, csr};
use credence_identity::{Bundle as IdentityBundle, SpiffeId, TrustDomain, X509Authority};
use credence_proto::spire::api::server::agent::v1::agent_client::AgentClient;
use credence_proto::spire::api::server::agent::v1::attest_agent_request::{Params, Step};
use credence_proto::spire::api::server::agent::v1::{
    AgentX509svidParams, AttestAgentRequest, attest_agent_response,
};
use credence_proto::spire::api::server::bundle::v1::GetBundleRequest;
use credence_proto::spire::api::server::bundle::v1::bundle_client::BundleClient;
use credence_proto::spire::api::types::{AttestationData, Bundle};
use credence_runtime::clock::SystemClock;
use credence_runtime::grpc::connect::connect_tls;
use credence_runtime::tls::{BundleLookup, KeyExchange, client_config};
use tokio::sync::watch;
use tonic::transport::Channel;

use crate::field::Field;

/// An attested node.
pub(crate) struct Node {
    /// The path of its SPIFFE ID.
    pub(crate) path: String,
    svid: Arc<X509SvidKey>,
    bundle: Arc<IdentityBundle>,
}

impl Node {
    /// Attests with a fresh token.
    pub(crate) async fn attest(field: &Field, alias: Option<&str>) -> Result<Self> {
        let token = field.token(alias).await?;
        Self::attest_with(field, &field.bundle().await?, &token).await
    }

    /// One attestation: a connection without a certificate, AttestAgent, GetBundle.
    pub(crate) async fn attest_with(field: &Field, bundle: &Bundle, token: &str) -> Result<Self> {
        let bundle = Arc::new(identity_bundle(bundle)?);
        let channel = channel(field, &bundle, None).await?;
        let key = PrivateKey::generate(KeyType::EcP256)?;
        let params = Params {
            data: Some(AttestationData {
                r#type: "join_token".into(),
                payload: token.as_bytes().to_vec(),
            }),
            params: Some(AgentX509svidParams {
                csr: csr::create(&key, None, &[])?,
            }),
        };
        let request = AttestAgentRequest {
            step: Some(Step::Params(params)),
        };
        let mut answers = AgentClient::new(channel.clone())
            .attest_agent(tokio_stream::once(request))
            .await?
            .into_inner();
        let answer = answers.message().await?.and_then(|answer| answer.step);
        let Some(attest_agent_response::Step::Result(result)) = answer else {
            bail!("no result")
        };
        BundleClient::new(channel)
            .get_bundle(GetBundleRequest::default())
            .await?;
        let svid = result.svid.context("no SVID")?;
        let svid = X509SvidKey::new(X509Svid::from_der_chain(&svid.cert_chain)?, key)?;
        Ok(Self {
            path: svid.svid.id.path().to_owned(),
            svid: Arc::new(svid),
            bundle,
        })
    }

    /// A connection of its own, with the node's SVID.
    pub(crate) async fn connect(&self, field: &Field) -> Result<Channel> {
        channel(field, &self.bundle, Some(Arc::clone(&self.svid))).await
    }
}

fn identity_bundle(bundle: &Bundle) -> Result<IdentityBundle> {
    let mut parsed = IdentityBundle::empty(TrustDomain::parse(&bundle.trust_domain)?);
    for authority in &bundle.x509_authorities {
        parsed.x509_authorities.push(X509Authority {
            der: authority.asn1.as_slice().into(),
            tainted: false,
        });
    }
    Ok(parsed)
}

/// A connection to the server's TCP endpoint, with `svid` if there is one.
async fn channel(
    field: &Field,
    bundle: &Arc<IdentityBundle>,
    svid: Option<Arc<X509SvidKey>>,
) -> Result<Channel> {
    let server = SpiffeId::server(&bundle.trust_domain);
    let known = Arc::clone(bundle);
    let bundles: BundleLookup =
        Arc::new(move |name| (*name == known.trust_domain).then(|| Arc::clone(&known)));
    let own = svid.map(|svid| watch::Sender::new(svid).subscribe());
    let config = client_config(own, server, bundles, Arc::new(SystemClock), KeyExchange::Any)?;
    Ok(connect_tls("127.0.0.1", field.lab.port(), config).await?)
}
