//! One call that is counted, timed and, with traces on, shown as a span.
//!
//! Invariant: a call is counted once: with the code it ended with, or as `Canceled` if it was dropped before.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use opentelemetry::Context;
use opentelemetry::trace::{Link, SpanContext, SpanKind, Status, TraceContextExt, Tracer};
use tokio::time::Instant;
use tonic::Code;

use super::Shared;
use super::metric::Kind;
use super::propagation::caller_context;
use super::recorder::Family;

/// The word that is added to a key for how long the calls took.
pub(super) const ELAPSED: &str = "elapsed_time";

/// Counts calls of one kind; clones count together. The default one counts nothing.
#[derive(Clone, Default)]
pub struct CallCounter {
    counted: Option<Arc<Counted>>,
}

struct Counted {
    shared: Arc<Shared>,
    span: Arc<str>,
    kind: SpanKind,
    /// None if it isn't let out.
    calls: Option<Arc<Family>>,
    elapsed: Option<Arc<Family>>,
}

/// What a call's span hangs on.
#[derive(Debug, Clone, Default)]
pub enum Parent {
    /// The span of what runs now.
    #[default]
    Current,
    /// A span of a caller that may be believed.
    Caller(Context),
    /// Nothing: the caller is a stranger, whose span is only referred to.
    Stranger(SpanContext),
    /// Nothing.
    Nobody,
}

/// A call that has begun. The default one is counted nowhere.
#[derive(Default)]
#[must_use = "a call that is dropped counts as canceled"]
pub struct Call {
    running: Option<Running>,
}

struct Running {
    counted: Arc<Counted>,
    began: Instant,
    label: Option<(&'static str, Cow<'static, str>)>,
    span: Option<Context>,
}

impl Parent {
    /// What a caller says in its headers, believed or not.
    pub fn of_caller(headers: &HeaderMap, believed: bool) -> Self {
        match caller_context(headers) {
            Some(context) if believed => Self::Caller(context),
            Some(context) => Self::Stranger(context.span().span_context().clone()),
            None => Self::Nobody,
        }
    }
}

impl CallCounter {
    pub(super) fn new(shared: &Arc<Shared>, key: &str, span: &str, kind: SpanKind) -> Self {
        let counted = Counted {
            calls: shared.recorder.family(Kind::Counter, key),
            elapsed: shared.recorder.family(Kind::Sample, &format!("{key}.{ELAPSED}")),
            span: span.into(),
            kind,
            shared: shared.clone(),
        };
        Self {
            counted: Some(Arc::new(counted)),
        }
    }

    /// Begins a call within what runs now.
    pub fn start(&self) -> Call {
        self.start_in(Parent::Current)
    }

    /// Begins a call.
    pub fn start_in(&self, parent: Parent) -> Call {
        let running = self.counted.as_ref().map(|counted| Running {
            counted: counted.clone(),
            began: Instant::now(),
            label: None,
            span: counted.span(parent),
        });
        Call { running }
    }
}

impl Counted {
    fn span(&self, parent: Parent) -> Option<Context> {
        let tracer = self.shared.tracer.as_ref()?;
        let builder = tracer
            .span_builder(self.span.to_string())
            .with_kind(self.kind.clone());
        let (builder, parent) = match parent {
            Parent::Current => (builder, Context::current()),
            Parent::Caller(context) => (builder, context),
            Parent::Stranger(span) => (builder.with_links(vec![Link::with_context(span)]), Context::new()),
            Parent::Nobody => (builder, Context::new()),
        };
        let span = tracer.build_with_context(builder, &parent);
        Some(parent.with_span(span))
    }
}

impl Call {
    /// Adds a label beside `status`; a call has one at most.
    pub fn with_label(mut self, name: &'static str, value: impl Into<Cow<'static, str>>) -> Self {
        if let Some(running) = &mut self.running {
            running.label = Some((name, value.into()));
        }
        self
    }

    /// Runs a future within the call, so that what it calls hangs on this call's span.
    pub async fn run<F: Future>(&self, work: F) -> F::Output {
        let mut work = std::pin::pin!(work);
        // Not by an adapter of the library, of which there would have to be two kinds, each as large as the work.
        std::future::poll_fn(|cx| self.enter(|| work.as_mut().poll(cx))).await
    }

    /// Runs a piece of work within the call.
    pub fn enter<T>(&self, work: impl FnOnce() -> T) -> T {
        let _entered = self.context().map(|context| context.clone().attach());
        work()
    }

    /// Ends the call: `OK`, or `Unknown` if it failed.
    pub fn end<T, E>(self, outcome: &Result<T, E>) {
        self.end_with(if outcome.is_ok() { Code::Ok } else { Code::Unknown });
    }

    /// Ends the call with this code.
    pub fn end_with(mut self, code: Code) {
        if let Some(running) = self.running.take() {
            running.end(code);
        }
    }

    /// Forgets the call: it is counted nowhere.
    pub fn discard(mut self) {
        self.running = None;
    }

    /// Whether it is counted nowhere.
    pub(super) fn is_idle(&self) -> bool {
        self.running.is_none()
    }

    fn context(&self) -> Option<&Context> {
        self.running.as_ref()?.span.as_ref()
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            running.end(Code::Cancelled);
        }
    }
}

impl Running {
    fn end(self, code: Code) {
        let Counted {
            shared,
            calls,
            elapsed,
            ..
        } = &*self.counted;
        let status = ("status", code_name(code));
        let label = self.label.as_ref().map(|(name, value)| (*name, &**value));
        let both;
        let labels: &[(&'static str, &str)] = match label {
            Some(label) => {
                both = [label, status];
                &both
            }
            None => std::slice::from_ref(&status),
        };
        if let Some(calls) = calls {
            shared.recorder.count_in(calls, 1, labels);
        }
        if let Some(elapsed) = elapsed {
            shared
                .recorder
                .sample_in(elapsed, milliseconds(self.began.elapsed()), labels);
        }
        if let Some(context) = &self.span {
            let span = context.span();
            if code != Code::Ok {
                span.set_status(Status::error(code_name(code)));
            }
            span.end();
        }
    }
}

/// The name of a code in Go, which is what SPIRE's users filter by.
fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "Canceled",
        Code::Unknown => "Unknown",
        Code::InvalidArgument => "InvalidArgument",
        Code::DeadlineExceeded => "DeadlineExceeded",
        Code::NotFound => "NotFound",
        Code::AlreadyExists => "AlreadyExists",
        Code::PermissionDenied => "PermissionDenied",
        Code::ResourceExhausted => "ResourceExhausted",
        Code::FailedPrecondition => "FailedPrecondition",
        Code::Aborted => "Aborted",
        Code::OutOfRange => "OutOfRange",
        Code::Unimplemented => "Unimplemented",
        Code::Internal => "Internal",
        Code::Unavailable => "Unavailable",
        Code::DataLoss => "DataLoss",
        Code::Unauthenticated => "Unauthenticated",
    }
}

pub(super) fn milliseconds(took: Duration) -> f64 {
    took.as_secs_f64() * 1_000.0
}

impl fmt::Debug for CallCounter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let span = self.counted.as_ref().map(|counted| &counted.span);
        f.debug_struct("CallCounter").field("span", &span).finish()
    }
}

impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let span = self.running.as_ref().map(|running| &running.counted.span);
        f.debug_struct("Call").field("span", &span).finish()
    }
}
