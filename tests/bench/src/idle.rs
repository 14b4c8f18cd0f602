//! What many connected agents cost while nothing changes: by push, and polling as SPIRE's agents do.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use credence_proto::credence::sync::v1::subscribe_request::{Hold, Step};
use credence_proto::credence::sync::v1::subscribe_response::Event;
use credence_proto::credence::sync::v1::sync_client::SyncClient;
use credence_proto::credence::sync::v1::{SubscribeRequest, SubscribeResponse};
use credence_proto::spire::api::server::bundle::v1::GetBundleRequest;
use credence_proto::spire::api::server::bundle::v1::bundle_client::BundleClient;
use credence_proto::spire::api::server::entry::v1::SyncAuthorizedEntriesRequest;
use credence_proto::spire::api::server::entry::v1::entry_client::EntryClient;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::Channel;

use crate::Arguments;
use crate::field::{Field, entry};
use crate::node::Node;
use crate::report::Report;

/// Entries of each agent.
const ENTRIES: usize = 10;
/// How long each way is watched.
const WATCH: Duration = Duration::from_secs(20);
/// SPIRE's `sync_interval`.
const INTERVAL: Duration = Duration::from_secs(5);

pub(crate) async fn measure(binary: &Path, arguments: &Arguments, report: &mut Report) -> Result<()> {
    let field = Field::start(binary).await?;
    let mut channels = Vec::with_capacity(arguments.agents);
    for chunk in (0..arguments.agents).collect::<Vec<_>>().chunks(16) {
        let joining = chunk.iter().map(|_| join(&field));
        for channel in futures_util::future::join_all(joining).await {
            channels.push(channel?);
        }
    }
    push(&field, &channels, report).await?;
    poll(&field, &channels, report).await
}

/// Attests a node, gives it its entries, and connects it.
async fn join(field: &Field) -> Result<Channel> {
    let node = Node::attest(field, None).await?;
    let entries = (0..ENTRIES).map(|n| entry(&node.path, &format!("/w/{n}"), &n.to_string()));
    field.create(entries.collect()).await?;
    node.connect(field).await
}

async fn push(field: &Field, channels: &[Channel], report: &mut Report) -> Result<()> {
    let mut streams = Vec::with_capacity(channels.len());
    for channel in channels {
        streams.push(subscribe(channel.clone()).await?);
    }
    let mark = field.meter().mark()?;
    tokio::time::sleep(WATCH).await;
    let used = field.meter().since(mark)?;
    report.row(
        format!("{} agents connected by push, nothing changing", channels.len()),
        format!(
            "{:.2} % of a core; {:.0} MiB",
            used.percent(),
            field.meter().resident()?
        ),
        "< 1 %",
    );
    Ok(())
}

/// A subscription that has received its whole set.
async fn subscribe(
    channel: Channel,
) -> Result<(mpsc::Sender<SubscribeRequest>, Streaming<SubscribeResponse>)> {
    let (sender, receiver) = mpsc::channel(1);
    let hold = SubscribeRequest {
        step: Some(Step::Hold(Hold::default())),
    };
    sender.send(hold).await?;
    let mut stream = SyncClient::new(channel)
        .subscribe(ReceiverStream::new(receiver))
        .await?
        .into_inner();
    loop {
        let event = stream
            .message()
            .await?
            .and_then(|answer| answer.event)
            .context("the stream ended")?;
        match event {
            Event::Revisions(revisions) if !revisions.more => return Ok((sender, stream)),
            Event::Unchanged(_) => return Ok((sender, stream)),
            _ => {}
        }
    }
}

async fn poll(field: &Field, channels: &[Channel], report: &mut Report) -> Result<()> {
    let mark = field.meter().mark()?;
    let rounds = WATCH.as_secs() / INTERVAL.as_secs();
    let spread = INTERVAL / u32::try_from(channels.len()).unwrap_or(1);
    let tasks: Vec<_> = (0_u32..)
        .zip(channels)
        .map(|(n, channel)| {
            let channel = channel.clone();
            tokio::spawn(async move {
                tokio::time::sleep(spread * n).await;
                for _ in 0..rounds {
                    tokio::time::sleep(INTERVAL).await;
                    BundleClient::new(channel.clone())
                        .get_bundle(GetBundleRequest::default())
                        .await?;
                    let request = tokio_stream::once(SyncAuthorizedEntriesRequest::default());
                    let mut answers = EntryClient::new(channel.clone())
                        .sync_authorized_entries(request)
                        .await?
                        .into_inner();
                    while answers.message().await?.is_some() {}
                }
                Ok::<(), tonic::Status>(())
            })
        })
        .collect();
    for task in tasks {
        task.await??;
    }
    let used = field.meter().since(mark)?;
    let polls = rounds * channels.len() as u64;
    report.row(
        format!(
            "{} agents polling as SPIRE's do (GetBundle, SyncAuthorizedEntries)",
            channels.len()
        ),
        format!(
            "{:.2} ms CPU per poll; {:.1} % of a core",
            used.micros_per(polls) / 1e3,
            used.percent()
        ),
        "≤ 0.2 ms",
    );
    Ok(())
}
