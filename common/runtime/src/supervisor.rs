//! Every task of the process, and its end.
//!
//! Owns all spawning, so that a task that fails or panics takes the process down loudly instead of leaving a half that
//! works. It never restarts a task: a retry belongs to the task that knows what failed. Invariant: after
//! [`Supervisor::wait`] has returned no supervised task runs any more.

mod signals;

use std::any::Any;
use std::error::Error;
use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How long graceful tasks may take to end after shutdown, as SPIRE's.
const GRACE: Duration = Duration::from_secs(10);

type Cause = Arc<dyn Error + Send + Sync>;

/// The first task that failed.
#[derive(Debug, Clone, thiserror::Error)]
#[error("task {task} failed")]
pub struct TaskFailure {
    /// The name given at the spawn.
    pub task: &'static str,
    /// What it ended with, or its panic message.
    #[source]
    pub cause: Cause,
}

#[derive(Debug, thiserror::Error)]
#[error("panicked: {0}")]
struct Panicked(String);

/// A handle to the tasks of one process; clones share them.
#[derive(Clone, Default)]
pub struct Supervisor {
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    shutdown: CancellationToken,
    kill: CancellationToken,
    tasks: TaskTracker,
    failure: Mutex<Option<TaskFailure>>,
}

impl Supervisor {
    /// A supervisor without tasks.
    pub fn new() -> Self {
        Self::default()
    }

    /// Runs `task` until it ends by itself or shutdown begins; at shutdown it is dropped where it waits.
    /// An error or a panic shuts everything down; `Ok` just ends the task.
    pub fn spawn<E>(&self, name: &'static str, task: impl Future<Output = Result<(), E>> + Send + 'static)
    where
        E: Into<Box<dyn Error + Send + Sync>> + 'static,
    {
        self.start(name, self.inner.shutdown.clone(), task);
    }

    /// As [`Supervisor::spawn`], but at shutdown the task goes on: it must watch [`Supervisor::token`] and end
    /// within ten seconds, after which it is dropped.
    pub fn spawn_graceful<E>(
        &self,
        name: &'static str,
        task: impl Future<Output = Result<(), E>> + Send + 'static,
    ) where
        E: Into<Box<dyn Error + Send + Sync>> + 'static,
    {
        self.start(name, self.inner.kill.clone(), task);
    }

    /// Begins the shutdown; returns at once.
    pub fn shutdown(&self) {
        self.inner.shutdown.cancel();
    }

    /// Cancelled when the shutdown begins.
    pub fn token(&self) -> CancellationToken {
        self.inner.shutdown.clone()
    }

    /// Waits for the shutdown and for the tasks to end: ten seconds at most for graceful ones, then they are dropped.
    ///
    /// # Errors
    /// The first failure of a task, which was then the reason of the shutdown (or came during it).
    pub async fn wait(&self) -> Result<(), TaskFailure> {
        self.inner.shutdown.cancelled().await;
        self.inner.tasks.close();
        if tokio::time::timeout(GRACE, self.inner.tasks.wait())
            .await
            .is_err()
        {
            tracing::warn!("Stopping hard: tasks did not end within {} s", GRACE.as_secs());
            self.inner.kill.cancel();
            self.inner.tasks.wait().await;
        }
        let failure = self.inner.failure.lock().unwrap_or_else(PoisonError::into_inner);
        failure.clone().map_or(Ok(()), Err)
    }

    fn start<E>(
        &self,
        name: &'static str,
        stop: CancellationToken,
        task: impl Future<Output = Result<(), E>> + Send + 'static,
    ) where
        E: Into<Box<dyn Error + Send + Sync>> + 'static,
    {
        let supervisor = self.clone();
        let guarded = async move {
            let outcome = tokio::select! {
                biased;
                outcome = AssertUnwindSafe(task).catch_unwind() => outcome,
                () = stop.cancelled() => return,
            };
            match outcome {
                Ok(Ok(())) => {}
                Ok(Err(error)) => supervisor.fail(name, Arc::from(error.into())),
                Err(panic) => supervisor.fail(name, Arc::new(Panicked(panic_text(&*panic)))),
            }
        };
        #[expect(clippy::disallowed_methods, reason = "this is the supervisor")]
        tokio::spawn(self.inner.tasks.track_future(guarded));
    }

    fn fail(&self, task: &'static str, cause: Cause) {
        tracing::error!(
            task,
            error = &*cause as &(dyn Error + 'static),
            "Task failed; shutting down"
        );
        {
            let mut failure = self.inner.failure.lock().unwrap_or_else(PoisonError::into_inner);
            failure.get_or_insert(TaskFailure { task, cause });
        }
        self.shutdown();
    }
}

impl fmt::Debug for Supervisor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Supervisor")
            .field("tasks", &self.inner.tasks.len())
            .field("shutting_down", &self.inner.shutdown.is_cancelled())
            .finish()
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
        .to_owned()
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::future::pending;
    use std::io;

    use tokio::sync::oneshot;
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn first_failure_shuts_all_down_and_is_returned() {
        let supervisor = Supervisor::new();
        let (held, dropped) = oneshot::channel::<()>();
        supervisor.spawn("waits", async move {
            let _held = held;
            pending::<Result<(), Infallible>>().await
        });
        supervisor.spawn("fails", async { Err(io::Error::other("disk on fire")) });
        let failure = supervisor.wait().await.unwrap_err();
        assert_eq!(failure.task, "fails");
        assert_eq!(failure.cause.to_string(), "disk on fire");
        assert!(dropped.await.is_err(), "the other task must have been dropped");
    }

    #[tokio::test(start_paused = true)]
    async fn a_panic_is_a_failure() {
        let supervisor = Supervisor::new();
        supervisor.spawn::<Infallible>("panics", async { panic!("boom {}", 7) });
        let failure = supervisor.wait().await.unwrap_err();
        assert_eq!(
            (failure.task, failure.cause.to_string().as_str()),
            ("panics", "panicked: boom 7")
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_is_done_stops_nothing() {
        let supervisor = Supervisor::new();
        supervisor.spawn("done", async { Ok::<(), Infallible>(()) });
        let waited = tokio::time::timeout(Duration::from_secs(60), supervisor.wait()).await;
        assert!(waited.is_err(), "nothing asked for the shutdown");
        supervisor.shutdown();
        supervisor.wait().await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn graceful_tasks_end_themselves_and_are_dropped_after_ten_seconds() {
        let supervisor = Supervisor::new();
        let token = supervisor.token();
        let (done, ended) = oneshot::channel();
        supervisor.spawn_graceful("drains", async move {
            token.cancelled().await;
            tokio::time::sleep(Duration::from_secs(3)).await;
            done.send(()).map_err(|()| io::Error::other("nobody listens"))
        });
        supervisor.spawn_graceful("hangs", pending::<Result<(), Infallible>>());
        let began = Instant::now();
        supervisor.shutdown();
        supervisor.wait().await.unwrap();
        ended.await.unwrap();
        assert_eq!(began.elapsed().as_secs(), 10);
    }
}
