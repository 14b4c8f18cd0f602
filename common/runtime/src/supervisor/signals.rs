//! The signals that end a process.

use std::convert::Infallible;
use std::io;

use tokio::signal::unix::{SignalKind, signal};

use super::Supervisor;

impl Supervisor {
    /// From now on SIGINT and SIGTERM begin the shutdown, also for a process with the pid 1, where the kernel ignores
    /// a signal that has no handler.
    ///
    /// # Errors
    /// If the kernel or the runtime refuses the handlers.
    pub fn stop_on_signals(&self) -> io::Result<()> {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let stopping = self.clone();
        self.spawn("signals", async move {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            stopping.shutdown();
            Ok::<(), Infallible>(())
        });
        Ok(())
    }
}
