//! What options that look at every call cost it: metrics, the audit log, a policy of one's own.
//!
//! The servers run side by side and take turns, so that what else the machine does meets all of them alike.

use std::net::TcpListener;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use credence_proto::spire::api::server::bundle::v1::GetBundleRequest;
use credence_proto::spire::api::server::bundle::v1::bundle_client::BundleClient;
use credence_proto::spire::api::server::svid::v1::NewJwtsvidRequest;
use credence_proto::spire::api::server::svid::v1::svid_client::SvidClient;
use tonic::transport::Channel;

use crate::Arguments;
use crate::field::{Field, entry};
use crate::issuance::load;
use crate::node::Node;
use crate::report::Report;

const CALLERS: usize = 8;
const ROUNDS: usize = 5;

/// One server with its option, its caller, and what each round cost.
struct Stand {
    name: &'static str,
    field: Field,
    channels: Vec<Channel>,
    entry: String,
    bundle: Vec<f64>,
    token: Vec<f64>,
}

impl Stand {
    async fn start(binary: &Path, name: &'static str, server: &str, top: &str) -> Result<Self> {
        let field = Field::with(binary, server, top).await?;
        let node = Node::attest(&field, Some("/node/bench")).await?;
        let ids = field.create(vec![entry("/node/bench", "/w", "0")]).await?;
        let mut channels = Vec::new();
        for _ in 0..CALLERS / 2 {
            channels.push(node.connect(&field).await?);
        }
        Ok(Self {
            name,
            field,
            channels,
            entry: ids.into_iter().next().context("an entry")?,
            bundle: Vec::new(),
            token: Vec::new(),
        })
    }

    async fn round(&mut self, seconds: Duration) -> Result<()> {
        let (calls, used) = load(
            &self.field,
            &self.channels,
            CALLERS,
            seconds,
            |channel| async move {
                let request = GetBundleRequest::default();
                Ok(BundleClient::new(channel).get_bundle(request).await.map(drop)?)
            },
        )
        .await?;
        self.bundle.push(used.micros_per(calls));
        let request = NewJwtsvidRequest {
            entry_id: self.entry.clone(),
            audience: vec!["feature-store".into()],
        };
        let (calls, used) = load(&self.field, &self.channels, CALLERS, seconds, move |channel| {
            let request = request.clone();
            async move { Ok(SvidClient::new(channel).new_jwtsvid(request).await.map(drop)?) }
        })
        .await?;
        self.token.push(used.micros_per(calls));
        Ok(())
    }
}

pub(crate) async fn measure(binary: &Path, arguments: &Arguments, report: &mut Report) -> Result<()> {
    let policy = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/conf/policy");
    let policy = format!(
        "experimental {{ auth_opa_policy_engine {{ local {{ rego_path = \"{0}/policy.rego\" policy_data_path = \
         \"{0}/policy_data.json\" }} }} }}",
        policy.display()
    );
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let metrics = format!("telemetry {{ Prometheus {{ host = \"127.0.0.1\" port = {port} }} }}");
    let audit = "audit_log_enabled = true\naudit_log { sink = \"file\" path = \"/dev/null\" }";
    let mut stands = Vec::new();
    for (name, server, top) in [
        ("without options", "", ""),
        ("metrics for Prometheus", "", metrics.as_str()),
        ("audit log", audit, ""),
        ("the built-in table as a policy in Rego", policy.as_str(), ""),
    ] {
        stands.push(Stand::start(binary, name, server, top).await?);
    }
    let seconds = Duration::from_secs(arguments.seconds.div_ceil(2));
    for _ in 0..ROUNDS {
        for stand in &mut stands {
            stand.round(seconds).await?;
        }
    }
    for stand in &mut stands {
        report.row(
            format!("An agent's call, {CALLERS} callers: {}", stand.name),
            format!(
                "{:.1} µs CPU for GetBundle, {:.1} µs for NewJWTSVID",
                median(&mut stand.bundle),
                median(&mut stand.token)
            ),
            "",
        );
    }
    Ok(())
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}
