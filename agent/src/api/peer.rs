//! Connections of workloads: accepted, pinned to the process that opened them, and bounded.
//!
//! Owns the sockets' accept loop. Never judges a caller: it only fixes who that is. Invariant: each connection carries
//! the process that connected, pinned before the first byte was read.

mod connection;
pub(super) mod seats;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use credence_runtime::grpc::authority::MendAuthority;
use futures_util::{Stream, stream};
use tokio::net::{UnixListener, UnixStream};

use crate::attestor::workload::{ProcFs, Process};

pub use connection::{Caller, Connection};

use seats::Seats;

/// Connections of one user at a time: more than the workloads of a node need, and too few to starve the others of
/// descriptors (two for each connection).
const SEATS_PER_USER: usize = 4096;
/// How long to wait when the system has no descriptor or memory left for a connection.
const OUT_OF_BREATH: Duration = Duration::from_millis(100);

/// The connections that `listener` gets, for a gRPC server. Never ends, and never fails: what can't be accepted is
/// logged and dropped.
pub fn incoming(
    listener: UnixListener,
    proc: ProcFs,
) -> impl Stream<Item = io::Result<MendAuthority<Connection>>> {
    let accept = Accept {
        listener,
        proc,
        seats: Seats::new(SEATS_PER_USER),
    };
    stream::unfold(accept, async |accept| Some((Ok(accept.next().await), accept)))
}

struct Accept {
    listener: UnixListener,
    proc: ProcFs,
    seats: Seats<u32>,
}

impl Accept {
    async fn next(&self) -> MendAuthority<Connection> {
        loop {
            let accepted = self
                .listener
                .accept()
                .await
                .and_then(|(stream, _)| self.admit(stream));
            match accepted {
                Ok(Some(connection)) => return MendAuthority::new(connection),
                Ok(None) => {}
                Err(error) => {
                    tracing::warn!(subsystem_name = "endpoints", %error, "Unable to accept a connection");
                    tokio::time::sleep(OUT_OF_BREATH).await;
                }
            }
        }
    }

    fn admit(&self, stream: UnixStream) -> io::Result<Option<Connection>> {
        let process = Process::at_other_end(&stream, &self.proc)?;
        let Some(seat) = self.seats.take(process.uid()) else {
            return Ok(None);
        };
        Ok(Some(Connection::new(stream, Caller(Arc::new(process)), seat)))
    }
}

#[cfg(test)]
mod tests;
