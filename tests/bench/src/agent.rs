//! What the agent costs: memory, the Workload API, and how fast a new entry reaches a workload.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use credence_proto::spiffe_workload::spiffe_workload_api_client::SpiffeWorkloadApiClient;
use credence_proto::spiffe_workload::{JwtsvidRequest, X509svidRequest, X509svidResponse};
use credence_runtime::grpc::connect_unix;
use tonic::metadata::MetadataValue;
use tonic::transport::Channel;
use tonic::{Request, Streaming};

use crate::Arguments;
use crate::field::{Field, entry};
use crate::latency::Latencies;
use crate::meter::Meter;
use crate::report::Report;

const NODE: &str = "/node/agent";

pub(crate) async fn measure(binary: &Path, arguments: &Arguments, report: &mut Report) -> Result<()> {
    let field = Field::start(binary).await?;
    let agent = field.lab.agent("agent");
    let meter = Meter::of(agent.pid());
    let uid = nix_uid();
    let bench = Bench {
        field: &field,
        meter,
        uid: &uid,
        socket: field.lab.agent_socket("agent"),
    };
    tokio::time::sleep(Duration::from_secs(2)).await;
    report.row(
        "Agent memory, idle",
        format!("{:.1} MiB", meter.resident()?),
        "< 15 MiB",
    );

    bench.propagation(report).await?;
    bench.fetches(arguments, report).await?;
    bench.tokens(arguments, report).await?;
    bench.streams(report).await?;
    bench.many_entries(report).await
}

/// The uid that entries select: this process's.
pub(crate) fn nix_uid() -> String {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self")
        .map(|metadata| metadata.uid().to_string())
        .unwrap_or_default()
}

struct Bench<'a> {
    field: &'a Field,
    meter: Meter,
    uid: &'a str,
    socket: std::path::PathBuf,
}

fn with_header<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request
        .metadata_mut()
        .insert("workload.spiffe.io", MetadataValue::from_static("true"));
    request
}

pub(crate) async fn x509_stream(channel: Channel) -> Result<Streaming<X509svidResponse>> {
    let mut client = SpiffeWorkloadApiClient::new(channel).max_decoding_message_size(64 << 20);
    Ok(client
        .fetch_x509svid(with_header(X509svidRequest {}))
        .await?
        .into_inner())
}

impl Bench<'_> {
    async fn connect(&self) -> Result<Channel> {
        Ok(connect_unix(&self.socket).await?)
    }

    /// Waits until this process has `count` identities, and returns the open stream.
    async fn stream_with(&self, count: usize) -> Result<Streaming<X509svidResponse>> {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            ensure!(Instant::now() < deadline, "no {count} identities within 60 s");
            let Ok(mut stream) = x509_stream(self.connect().await?).await else {
                tokio::time::sleep(Duration::from_millis(20)).await;
                continue;
            };
            while let Ok(answer) = tokio::time::timeout(Duration::from_secs(2), stream.message()).await {
                if answer?.context("the stream ended")?.svids.len() >= count {
                    return Ok(stream);
                }
            }
        }
    }

    /// From the call that creates an entry to its SVID on a stream that is open already.
    async fn propagation(&self, report: &mut Report) -> Result<()> {
        const ROUNDS: usize = 100;
        self.field.create(vec![entry(NODE, "/first", self.uid)]).await?;
        let mut stream = self.stream_with(1).await?;
        let mut latencies = Latencies::default();
        for n in 0..ROUNDS {
            let began = Instant::now();
            self.field
                .create(vec![entry(NODE, &format!("/new/{n}"), self.uid)])
                .await?;
            let wanted = format!("spiffe://example.org/new/{n}");
            while !stream
                .message()
                .await?
                .context("the stream ended")?
                .svids
                .iter()
                .any(|svid| svid.spiffe_id == wanted)
            {}
            latencies.push(began.elapsed());
            // The next one must not ride on this one's wake-up.
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
        report.row(
            "Entry create → SVID on an open stream",
            latencies.summary(),
            "p50 < 20 / p99 < 100 ms",
        );
        Ok(())
    }

    /// New connections, as short-lived clients make them. The entries so far give this process 101 identities, so
    /// the ten of the figure belong to an agent of their own.
    async fn fetches(&self, arguments: &Arguments, report: &mut Report) -> Result<()> {
        let _agent = self.field.lab.agent("ten");
        let node = "/node/ten";
        let entries = (0..10)
            .map(|n| entry(node, &format!("/ten/{n}"), self.uid))
            .collect();
        self.field.create(entries).await?;
        let ten = Bench {
            field: self.field,
            meter: Meter::of(_agent.pid()),
            uid: self.uid,
            socket: self.field.lab.agent_socket("ten"),
        };
        drop(ten.stream_with(10).await?);
        let mut latencies = Latencies::default();
        let mark = ten.meter.mark()?;
        let until = Instant::now() + Duration::from_secs(arguments.seconds);
        let mut calls = 0;
        while Instant::now() < until {
            let began = Instant::now();
            let mut stream = x509_stream(ten.connect().await?).await?;
            let answer = stream.message().await?.context("no answer")?;
            latencies.push(began.elapsed());
            ensure!(answer.svids.len() == 10, "{} identities", answer.svids.len());
            calls += 1;
        }
        let used = ten.meter.since(mark)?;
        report.row(
            "FetchX509SVID on a new connection, 10 identities",
            format!(
                "{}; {:.3} ms CPU each",
                latencies.summary(),
                used.micros_per(calls) / 1e3
            ),
            "p50 < 0.4 / p99 < 1 ms, ≤ 0.25 ms CPU",
        );
        Ok(())
    }

    async fn tokens(&self, arguments: &Arguments, report: &mut Report) -> Result<()> {
        let channel = self.connect().await?;
        let request = JwtsvidRequest {
            audience: vec!["feature-store".into()],
            spiffe_id: "spiffe://example.org/first".into(),
        };
        SpiffeWorkloadApiClient::new(channel.clone())
            .fetch_jwtsvid(with_header(request.clone()))
            .await?;
        let mark = self.meter.mark()?;
        let until = Instant::now() + Duration::from_secs(arguments.seconds);
        let callers: Vec<_> = (0..8)
            .map(|_| {
                let (channel, request) = (channel.clone(), request.clone());
                tokio::spawn(async move {
                    let mut client = SpiffeWorkloadApiClient::new(channel);
                    let mut calls = 0_u64;
                    while Instant::now() < until {
                        client.fetch_jwtsvid(with_header(request.clone())).await?;
                        calls += 1;
                    }
                    Ok::<u64, tonic::Status>(calls)
                })
            })
            .collect();
        let mut calls = 0;
        for caller in callers {
            calls += caller.await??;
        }
        let used = self.meter.since(mark)?;
        report.row(
            "FetchJWTSVID from the cache, 8 callers",
            format!(
                "{:.3} ms CPU each; {:.0}/s",
                used.micros_per(calls) / 1e3,
                calls as f64 / used.wall.as_secs_f64()
            ),
            "≤ 0.06 ms",
        );
        Ok(())
    }

    /// 500 streams of one identity each: an agent of its own again.
    async fn streams(&self, report: &mut Report) -> Result<()> {
        const STREAMS: usize = 500;
        let agent = self.field.lab.agent("streams");
        self.field
            .create(vec![entry("/node/streams", "/streamed", self.uid)])
            .await?;
        let bench = Bench {
            field: self.field,
            meter: Meter::of(agent.pid()),
            uid: self.uid,
            socket: self.field.lab.agent_socket("streams"),
        };
        drop(bench.stream_with(1).await?);
        let mut streams = Vec::with_capacity(STREAMS);
        for _ in 0..STREAMS {
            let mut stream = x509_stream(bench.connect().await?).await?;
            stream.message().await?;
            streams.push(stream);
        }
        report.row(
            "Agent memory, 500 streams",
            format!("{:.1} MiB", bench.meter.resident()?),
            "< 30 MiB",
        );
        Ok(())
    }

    async fn many_entries(&self, report: &mut Report) -> Result<()> {
        let agent = self.field.lab.agent("many");
        for start in [0, 500] {
            let entries = (start..start + 500).map(|n| entry("/node/many", &format!("/many/{n}"), self.uid));
            self.field.create(entries.collect()).await?;
        }
        let bench = Bench {
            field: self.field,
            meter: Meter::of(agent.pid()),
            uid: self.uid,
            socket: self.field.lab.agent_socket("many"),
        };
        drop(bench.stream_with(1000).await?);
        // What the agent frees with the stream isn't what holding them costs.
        tokio::time::sleep(Duration::from_secs(1)).await;
        report.row(
            "Agent memory, 1,000 entries, all signed",
            format!(
                "{:.1} MiB, peak {:.1}",
                bench.meter.resident()?,
                bench.meter.peak()?
            ),
            "< 30 MiB",
        );
        Ok(())
    }
}
