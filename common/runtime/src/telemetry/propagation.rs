//! The W3C's `traceparent`: by which a trace goes on in another process.
//!
//! Invariant: a caller's word is passed on as what it is; whether it is believed is decided where the caller is known.

use std::task::{Context as Task, Poll};

use http::{HeaderMap, HeaderName, HeaderValue, Request};
use opentelemetry::Context;
use opentelemetry::propagation::{Extractor, Injector, TextMapPropagator};
use opentelemetry::trace::TraceContextExt;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tower::Service;

/// The span that a caller says it is in, for callers who may be believed.
pub(super) fn caller_context(headers: &HeaderMap) -> Option<Context> {
    // Most calls have none: nothing is made for them.
    headers.get("traceparent")?;
    let context = TraceContextPropagator::new().extract_with_context(&Context::new(), &Incoming(headers));
    context.has_active_span().then_some(context)
}

/// A way to a server that takes the span of each call along.
#[derive(Debug, Clone)]
pub struct Traced<S>(pub S);

impl<S, B> Service<Request<B>> for Traced<S>
where
    S: Service<Request<B>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Task<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> S::Future {
        let context = Context::current();
        if context.has_active_span() {
            let mut headers = Outgoing(request.headers_mut());
            TraceContextPropagator::new().inject_context(&context, &mut headers);
        }
        self.0.call(request)
    }
}

struct Incoming<'a>(&'a HeaderMap);

impl Extractor for Incoming<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(HeaderName::as_str).collect()
    }
}

struct Outgoing<'a>(&'a mut HeaderMap);

impl Injector for Outgoing<'_> {
    fn set(&mut self, key: &str, value: String) {
        // The propagator's own words are always a name and a value.
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(key), HeaderValue::try_from(value))
            && !value.is_empty()
        {
            self.0.insert(name, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_sound_traceparent_counts() {
        let headers = |text: &'static str| {
            HeaderMap::from_iter([("traceparent".parse().unwrap(), HeaderValue::from_static(text))])
        };
        let sound = headers("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
        let context = caller_context(&sound).unwrap();
        let span = context.span().span_context().clone();
        assert_eq!(span.trace_id().to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert!(span.is_remote());
        for broken in [
            "",
            "00-4bf92f3577b34da6a3ce929d0e0e4736",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-zz-00f067aa0ba902b7-01",
        ] {
            assert!(caller_context(&headers(broken)).is_none(), "{broken}");
        }
        assert!(caller_context(&HeaderMap::new()).is_none());
    }
}
