//! Options of TCP sockets that a long-lived connection needs.

use nix::sys::socket::{setsockopt, sockopt};
use tokio::net::TcpStream;

/// A peer that acknowledges nothing for this long is gone: without it the kernel waits a quarter of an hour.
const UNACKNOWLEDGED_MILLIS: u32 = 30_000;
/// Idle time before, and time between, probes for a peer that vanished without a word.
const PROBE_SECONDS: u32 = 30;

/// Sends at once, and notices a peer that vanished. HTTP/2 pings are no way: gRPC servers in Go punish them.
pub(super) fn tune(stream: &TcpStream) {
    let tuned = [
        stream.set_nodelay(true).map_err(|error| error.to_string()),
        setsockopt(stream, sockopt::KeepAlive, &true).map_err(|errno| errno.to_string()),
        setsockopt(stream, sockopt::TcpKeepIdle, &PROBE_SECONDS).map_err(|errno| errno.to_string()),
        setsockopt(stream, sockopt::TcpKeepInterval, &PROBE_SECONDS).map_err(|errno| errno.to_string()),
        setsockopt(stream, sockopt::TcpUserTimeout, &UNACKNOWLEDGED_MILLIS)
            .map_err(|errno| errno.to_string()),
    ];
    for error in tuned.into_iter().filter_map(Result::err) {
        tracing::debug!(error, "Failed to set an option of a TCP socket");
    }
}
