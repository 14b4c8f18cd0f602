//! StatsD and DogStatsD: a line per measurement, several lines to a packet.
//!
//! Owns the two dialects and the sending. Invariant: a measurement never waits for the network; what the queue can't take
//! or nobody receives is lost.

use std::convert::Infallible;
use std::io;
use std::time::Duration;

use tokio::net::{UdpSocket, UnixDatagram};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::metric::{Kind, Texts};
use crate::supervisor::Supervisor;

/// Lines that may wait.
const QUEUE: usize = 4096;
/// Bytes of a packet: what passes through every network in one piece.
const PACKET: usize = 1400;
/// How long a line may wait for others.
const GATHER: Duration = Duration::from_millis(100);
/// After a failure lines are thrown away for so long.
const PAUSE: Duration = Duration::from_secs(5);
/// How long finding an address or sending a packet may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// How a line is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    /// Labels are part of the name.
    Statsd,
    /// Labels are tags.
    Dogstatsd,
}

/// One server that is told of each measurement.
#[derive(Debug)]
pub(super) struct Packets {
    dialect: Dialect,
    queue: mpsc::Sender<String>,
}

impl Packets {
    /// Sends to `address` until shutdown.
    pub(super) fn spawn(dialect: Dialect, address: String, supervisor: &Supervisor) -> Self {
        let (queue, lines) = mpsc::channel(QUEUE);
        let stop = supervisor.token();
        supervisor.spawn_graceful("statsd", async move {
            let sender = Sender { address, lines };
            tokio::select! {
                () = sender.run() => {}
                () = async { stop.cancelled().await; sleep(2 * GATHER).await; } => {}
            }
            Ok::<(), Infallible>(())
        });
        Self { dialect, queue }
    }

    pub(super) fn send(&self, kind: Kind, texts: &Texts, value: f64) {
        // Lost if the queue is full.
        drop(self.queue.try_send(line(self.dialect, kind, texts, value)));
    }
}

/// A line in the form of the clients that SPIRE uses.
fn line(dialect: Dialect, kind: Kind, texts: &Texts, value: f64) -> String {
    let letter = match kind {
        Kind::Counter => "c",
        Kind::Gauge => "g",
        Kind::Sample => "ms",
    };
    match (dialect, kind) {
        (Dialect::Statsd, _) => format!("{}:{value:.6}|{letter}\n", texts.flat),
        (Dialect::Dogstatsd, Kind::Sample) => format!("{}:{value:.6}|{letter}{}\n", texts.bare, texts.tags),
        (Dialect::Dogstatsd, _) => format!("{}:{value}|{letter}{}\n", texts.bare, texts.tags),
    }
}

struct Sender {
    address: String,
    lines: mpsc::Receiver<String>,
}

impl Sender {
    /// Ends when nobody measures any more.
    async fn run(mut self) {
        loop {
            let Err(error) = self.connected().await else {
                return;
            };
            tracing::warn!(address = self.address, %error, subsystem_name = "telemetry", "Unable to send metrics");
            let on = Instant::now() + PAUSE;
            // What was measured meanwhile is old news.
            while let Ok(Some(_)) = tokio::time::timeout_at(on, self.lines.recv()).await {}
            if self.lines.is_closed() && self.lines.is_empty() {
                return;
            }
        }
    }

    async fn connected(&mut self) -> io::Result<()> {
        let socket = in_time(Socket::connect(&self.address)).await?;
        let mut packet = String::with_capacity(PACKET);
        let mut due = Instant::now();
        loop {
            tokio::select! {
                line = self.lines.recv() => {
                    let Some(line) = line else { break };
                    if packet.len() + line.len() > PACKET && !packet.is_empty() {
                        in_time(socket.send(packet.as_bytes())).await?;
                        packet.clear();
                    }
                    if packet.is_empty() {
                        due = Instant::now() + GATHER;
                    }
                    packet.push_str(&line);
                }
                () = sleep_until(due), if !packet.is_empty() => {
                    in_time(socket.send(packet.as_bytes())).await?;
                    packet.clear();
                }
            }
        }
        in_time(socket.send(packet.as_bytes())).await
    }
}

enum Socket {
    Udp(UdpSocket),
    Unix(UnixDatagram),
}

impl Socket {
    async fn connect(address: &str) -> io::Result<Self> {
        if let Some(path) = address.strip_prefix("unix://") {
            let socket = UnixDatagram::unbound()?;
            socket.connect(path)?;
            return Ok(Self::Unix(socket));
        }
        let found = tokio::net::lookup_host(address).await?.next();
        let found = found.ok_or_else(|| io::Error::other("the name has no address"))?;
        let own = if found.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let socket = UdpSocket::bind(own).await?;
        socket.connect(found).await?;
        Ok(Self::Udp(socket))
    }

    async fn send(&self, packet: &[u8]) -> io::Result<()> {
        if packet.is_empty() {
            return Ok(());
        }
        let sent = match self {
            Self::Udp(socket) => socket.send(packet).await,
            Self::Unix(socket) => socket.send(packet).await,
        };
        sent.map(drop)
    }
}

async fn in_time<T>(work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(PATIENCE, work)
        .await
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::series::Series;

    /// The lines that SPIRE's documentation shows for a call counter.
    #[test]
    fn lines_are_those_that_spire_sends() {
        let key = "spire_server.rpc.agent.v1.agent.attest_agent";
        let labels = [("status", "OK"), ("host", "node-1")];
        let labels: Vec<_> = labels
            .iter()
            .map(|(n, v)| ((*n).to_owned(), (*v).to_owned()))
            .collect();
        let texts = Series::new(Kind::Counter, key, labels).texts();
        let counter = line(Dialect::Dogstatsd, Kind::Counter, &texts, 1.0);
        assert_eq!(counter, format!("{key}:1|c|#status:OK,host:node-1\n"));
        let sample = line(Dialect::Dogstatsd, Kind::Sample, &texts, 1.045773);
        assert_eq!(sample, format!("{key}:1.045773|ms|#status:OK,host:node-1\n"));
        let counter = line(Dialect::Statsd, Kind::Counter, &texts, 1.0);
        assert_eq!(counter, format!("{key}.OK.node-1:1.000000|c\n"));
        let gauge = line(Dialect::Statsd, Kind::Gauge, &texts, 2.5);
        assert_eq!(gauge, format!("{key}.OK.node-1:2.500000|g\n"));
    }
}
