//! What calls leave in the server's audit log.

use std::path::Path;
use std::time::Duration;

use serde_json::{Map, Value};

/// For so long an event may be on its way: ours are written by a task of their own.
const PATIENCE: Duration = Duration::from_millis(400);
const PAUSE: Duration = Duration::from_millis(15);

/// A reader of the log that goes on where it stopped.
#[derive(Debug, Default)]
pub(super) struct AuditLog {
    read: usize,
}

impl AuditLog {
    /// The events since the last time, each without what differs from line to line.
    pub(super) async fn events(&mut self, log: &Path) -> Vec<Value> {
        let begun = tokio::time::Instant::now();
        let mut before = usize::MAX;
        loop {
            let text = tokio::fs::read_to_string(log).await.expect("read the log");
            let new = text.get(self.read..).unwrap_or_default();
            // A line that is still being written counts the next time.
            let whole = new.rfind('\n').map_or(0, |end| end + 1);
            let events: Vec<Value> = new
                .get(..whole)
                .unwrap_or_default()
                .lines()
                .filter_map(|line| serde_json::from_str(line).ok())
                .filter(|line: &Value| line.get("type").is_some_and(|kind| kind == "audit"))
                .collect();
            let settled = before == events.len() && !events.is_empty();
            if settled || begun.elapsed() > PATIENCE {
                self.read += whole;
                return events.into_iter().map(without_time).collect();
            }
            before = events.len();
            tokio::time::sleep(PAUSE).await;
        }
    }
}

fn without_time(event: Value) -> Value {
    let Value::Object(members) = event else {
        return event;
    };
    let members: Map<String, Value> = members
        .into_iter()
        .filter(|(name, _)| name != "time")
        .map(|(name, value)| {
            // The port of the caller is its own.
            let value = match (name.as_str(), value.as_str()) {
                ("caller_addr", Some(address)) => {
                    Value::from(address.rsplit_once(':').map_or(address, |(host, _)| host))
                }
                _ => value,
            };
            (name, value)
        })
        .collect();
    Value::Object(members)
}
