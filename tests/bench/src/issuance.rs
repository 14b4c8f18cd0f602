//! What signing costs the server: SVIDs in batches and one by one, tokens, attestations.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use credence_crypto::csr;
use credence_crypto::{KeyType, PrivateKey};
use credence_proto::spire::api::server::svid::v1::svid_client::SvidClient;
use credence_proto::spire::api::server::svid::v1::{
    BatchNewX509svidRequest, NewJwtsvidRequest, NewX509svidParams,
};
use tonic::transport::Channel;

use crate::Arguments;
use crate::field::{Field, entry};
use crate::meter::Used;
use crate::node::Node;
use crate::raw::Raw;
use crate::report::Report;

/// Connections that the callers share.
const CONNECTIONS: usize = 4;

pub(crate) async fn measure(
    binary: &Path,
    arguments: &Arguments,
    raw: &Raw,
    report: &mut Report,
) -> Result<()> {
    let field = Field::start(binary).await?;
    let node = Node::attest(&field, Some("/node/bench")).await?;
    let ids = field
        .create(
            (0..50)
                .map(|n| entry("/node/bench", &format!("/w/{n}"), "0"))
                .collect(),
        )
        .await?;
    let mut channels = Vec::new();
    for _ in 0..CONNECTIONS {
        channels.push(node.connect(&field).await?);
    }
    let key = PrivateKey::generate(KeyType::EcP256)?;
    let params: Vec<NewX509svidParams> = ids
        .iter()
        .map(|id| {
            Ok(NewX509svidParams {
                entry_id: id.clone(),
                csr: csr::create(&key, None, &[])?,
            })
        })
        .collect::<Result<_>>()?;
    let seconds = Duration::from_secs(arguments.seconds);

    for callers in [8, 32] {
        let request = BatchNewX509svidRequest {
            params: params.clone(),
        };
        let (calls, used) = load(&field, &channels, callers, seconds, move |channel| {
            let request = request.clone();
            async move { signed(channel, request).await }
        })
        .await?;
        let cost = used.micros_per(calls * 50);
        report.row(
            format!("BatchNewX509SVID, 50 per call, {callers} callers"),
            format!(
                "{cost:.0} µs CPU each, raw verify + sign is {:.0} %; {:.0}/s",
                100.0 * raw.verify_and_sign() / cost,
                rate(calls * 50, used)
            ),
            format!("{}, raw ≥ 60 %", report.scaled(120.0)),
        );
    }

    let request = BatchNewX509svidRequest {
        params: params.into_iter().take(1).collect(),
    };
    let (calls, used) = load(&field, &channels, 32, seconds, move |channel| {
        let request = request.clone();
        async move { signed(channel, request).await }
    })
    .await?;
    report.row(
        "BatchNewX509SVID, 1 per call, 32 callers",
        format!(
            "{:.0} µs CPU each; {:.0}/s",
            used.micros_per(calls),
            rate(calls, used)
        ),
        report.scaled(180.0),
    );

    let entry_id = ids.into_iter().next().context("an entry")?;
    let request = NewJwtsvidRequest {
        entry_id,
        audience: vec!["feature-store".into()],
    };
    let (calls, used) = load(&field, &channels, 32, seconds, move |channel| {
        let request = request.clone();
        async move { Ok(SvidClient::new(channel).new_jwtsvid(request).await.map(drop)?) }
    })
    .await?;
    report.row(
        "NewJWTSVID, 32 callers",
        format!(
            "{:.0} µs CPU each; {:.0}/s",
            used.micros_per(calls),
            rate(calls, used)
        ),
        report.scaled(60.0),
    );

    attestations(&field, report).await
}

async fn signed(channel: Channel, request: BatchNewX509svidRequest) -> Result<()> {
    let results = SvidClient::new(channel)
        .batch_new_x509svid(request)
        .await?
        .into_inner()
        .results;
    for result in results {
        ensure!(result.svid.is_some(), "not signed: {:?}", result.status);
    }
    Ok(())
}

/// Attestation by join token: connection, AttestAgent, GetBundle, as an agent does at its start.
async fn attestations(field: &Field, report: &mut Report) -> Result<()> {
    const COUNT: usize = 600;
    let mut tokens = Vec::with_capacity(COUNT);
    for _ in 0..COUNT {
        tokens.push(field.token(None).await?);
    }
    let bundle = field.bundle().await?;
    let mark = field.meter().mark()?;
    for chunk in tokens.chunks(8) {
        let attempts = chunk.iter().map(|token| Node::attest_with(field, &bundle, token));
        for node in futures_util::future::join_all(attempts).await {
            node?;
        }
    }
    let used = field.meter().since(mark)?;
    report.row(
        "Attestation by join token (TLS, AttestAgent, GetBundle)",
        format!(
            "{:.2} ms CPU each; {:.0}/s",
            used.micros_per(COUNT as u64) / 1e3,
            rate(COUNT as u64, used)
        ),
        report.scaled(600.0),
    );
    Ok(())
}

fn rate(operations: u64, used: Used) -> f64 {
    operations as f64 / used.wall.as_secs_f64()
}

/// Calls without pause from `callers` tasks for `seconds`; returns the calls that succeeded and what the server used.
pub(crate) async fn load<F, C>(
    field: &Field,
    channels: &[Channel],
    callers: usize,
    seconds: Duration,
    call: C,
) -> Result<(u64, Used)>
where
    C: Fn(Channel) -> F + Clone + Send + 'static,
    F: Future<Output = Result<()>> + Send,
{
    let done = Arc::new(AtomicU64::new(0));
    let mark = field.meter().mark()?;
    let until = Instant::now() + seconds;
    let tasks: Vec<_> = channels
        .iter()
        .cycle()
        .take(callers)
        .map(|channel| {
            let (channel, call, done) = (channel.clone(), call.clone(), Arc::clone(&done));
            tokio::spawn(async move {
                while Instant::now() < until {
                    call(channel.clone()).await?;
                    done.fetch_add(1, Ordering::Relaxed);
                }
                Ok::<(), anyhow::Error>(())
            })
        })
        .collect();
    for task in tasks {
        task.await??;
    }
    Ok((done.load(Ordering::Relaxed), field.meter().since(mark)?))
}
