//! What a large registry costs: creating it, holding it, starting with it, asking it for one agent's part.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use credence_proto::spire::api::server::bundle::v1::GetBundleRequest;
use credence_proto::spire::api::server::bundle::v1::bundle_client::BundleClient;
use credence_proto::spire::api::server::entry::v1::GetAuthorizedEntriesRequest;
use credence_proto::spire::api::server::entry::v1::entry_client::EntryClient;
use credence_proto::spire::api::types::BundleMask;

use crate::Arguments;
use crate::field::{Field, entry};
use crate::issuance::load;
use crate::latency::Latencies;
use crate::node::Node;
use crate::report::Report;

pub(crate) async fn measure(binary: &Path, arguments: &Arguments, report: &mut Report) -> Result<()> {
    let mut field = Field::start(binary).await?;
    report.row(
        "Server memory, empty",
        format!("{:.1} MiB", field.meter().resident()?),
        "< 20 MiB",
    );

    let count = arguments.entries;
    let mark = field.meter().mark()?;
    field.fill(0, count).await?;
    let used = field.meter().since(mark)?;
    report.row(
        "Entries created, 500 per call, 2 selectors each",
        format!(
            "{:.3} ms CPU each; {:.0}/s",
            used.micros_per(count as u64) / 1e3,
            count as f64 / used.wall.as_secs_f64()
        ),
        "≤ 0.15 ms",
    );
    report.row(
        format!("Server memory, {count} entries, as they were created"),
        format!(
            "{:.0} MiB, peak {:.0}",
            field.meter().resident()?,
            field.meter().peak()?
        ),
        "< 150 MiB",
    );

    let restart = field.restart().await?;
    report.row(
        format!("Restart to first answer, {count} entries"),
        format!("{:.2} s", restart.as_secs_f64()),
        "< 1 s",
    );
    report.row(
        format!("Server memory, {count} entries, after the restart"),
        format!(
            "{:.0} MiB, peak {:.0}",
            field.meter().resident()?,
            field.meter().peak()?
        ),
        "< 150 MiB",
    );
    let mark = field.meter().mark()?;
    tokio::time::sleep(Duration::from_secs(20)).await;
    report.row(
        format!("Server idle, {count} entries"),
        format!("{:.2} % of a core", field.meter().since(mark)?.percent()),
        "< 0.5 %",
    );
    authorized(&field, arguments, report).await
}

async fn authorized(field: &Field, arguments: &Arguments, report: &mut Report) -> Result<()> {
    let node = Node::attest(field, Some("/node/bench")).await?;
    field
        .create(
            (0..9)
                .map(|n| entry("/node/bench", &format!("/w/{n}"), "0"))
                .collect(),
        )
        .await?;
    let channel = node.connect(field).await?;
    let (mut empty, mut asked) = (Latencies::default(), Latencies::default());
    // Alternating, so that both see the same neighbours on the machine.
    for _ in 0..3_000 {
        let began = Instant::now();
        let nothing = GetBundleRequest {
            output_mask: Some(BundleMask::default()),
        };
        BundleClient::new(channel.clone()).get_bundle(nothing).await?;
        empty.push(began.elapsed());
        let began = Instant::now();
        let request = GetAuthorizedEntriesRequest::default();
        let entries = EntryClient::new(channel.clone())
            .get_authorized_entries(request)
            .await?
            .into_inner()
            .entries;
        asked.push(began.elapsed());
        ensure!(entries.len() == 10, "{} entries", entries.len());
    }
    let (calls, used) = load(
        field,
        &[channel],
        8,
        Duration::from_secs(arguments.seconds),
        |channel| async move {
            let request = GetAuthorizedEntriesRequest::default();
            Ok(EntryClient::new(channel)
                .get_authorized_entries(request)
                .await
                .map(drop)?)
        },
    )
    .await?;
    report.row(
        format!("Authorized entries of one agent, 10 of {}", arguments.entries),
        format!(
            "p50 {:.3} ms, an empty call {:.3} ms ({:.1} ×); {:.3} ms CPU per call",
            asked.millis(0.5),
            empty.millis(0.5),
            asked.millis(0.5) / empty.millis(0.5),
            used.micros_per(calls) / 1e3
        ),
        "p50 ≤ 2 × an empty call, ≤ 0.06 ms CPU",
    );
    Ok(())
}
