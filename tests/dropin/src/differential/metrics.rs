//! The series that a program shows Prometheus: their names, types and the names of their labels.

use std::collections::{BTreeMap, BTreeSet};
use std::net::TcpListener;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A free port, and the block that has a program show its metrics there.
pub(super) fn endpoint() -> (u16, String) {
    let port = TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .expect("find a free port")
        .port();
    let block = format!("telemetry {{\n  Prometheus {{ host = \"127.0.0.1\" port = {port} }}\n}}\n");
    (port, block)
}

/// What is shown on `port`.
pub(super) async fn series(port: u16) -> Value {
    let mut stream = TcpStream::connect(("127.0.0.1", port))
        .await
        .expect("connect to the metrics");
    let request = "GET /metrics HTTP/1.0\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    stream
        .write_all(request.as_bytes())
        .await
        .expect("ask for the metrics");
    let mut text = String::new();
    stream.read_to_string(&mut text).await.expect("read the metrics");
    json!({ "series": parsed(&text) })
}

/// By family: its type, and each set of label names that occurs in it.
fn parsed(text: &str) -> BTreeMap<String, Value> {
    let mut families: BTreeMap<String, (String, BTreeSet<String>)> = BTreeMap::new();
    for line in text.lines() {
        if let Some((family, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            families.entry(family.to_owned()).or_default().0 = kind.to_owned();
            continue;
        }
        if line.starts_with('#') || !line.contains(' ') {
            continue;
        }
        let (name, labels) = match line.split_once('{') {
            Some((name, rest)) => (name, rest.rsplit_once('}').map_or("", |(labels, _)| labels)),
            None => (line.split(' ').next().unwrap_or_default(), ""),
        };
        let labels: BTreeSet<&str> = labels
            .split("\",")
            .filter_map(|label| Some(label.split_once("=\"")?.0.trim()))
            // Of a summary; an empty one shows none of them.
            .filter(|label| *label != "quantile")
            .collect();
        let labels: Vec<&str> = labels.into_iter().collect();
        let family = families.iter_mut().find(|(family, (kind, _))| {
            let of_summary = ["_sum", "_count", "_bucket"];
            *family == name
                || (["summary", "histogram"].contains(&kind.as_str())
                    && of_summary
                        .iter()
                        .any(|end| name.strip_suffix(end) == Some(family.as_str())))
        });
        if let Some((_, (_, sets))) = family {
            sets.insert(labels.join(","));
        }
    }
    families
        .into_iter()
        .map(|(family, (kind, sets))| {
            let sets: Vec<String> = sets.into_iter().collect();
            (family, Value::from(format!("{kind} {{{}}}", sets.join("} {"))))
        })
        .collect()
}
