//! A stream both ways, one message at a time: the next is said when the last was answered.
//!
//! `${version}` and `${nonce}` in a message are those of the last answer. A message with `"_quiet": true` must stay
//! unanswered for a moment.

use std::time::Duration;

use prost::Message;
use prost_reflect::DynamicMessage;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::transport::Channel;
use tonic::{Status, Streaming};

use super::call;

/// For so long an answer is waited for, and silence listened to.
const ANSWER: Duration = Duration::from_secs(10);
const SILENCE: Duration = Duration::from_millis(800);

/// Says the messages in turn and returns code, message, details and answers.
pub(super) async fn talk(channel: Channel, name: &str, messages: &[Value]) -> Value {
    let method = call::method(name);
    let (sender, stream) = mpsc::unbounded_channel();
    let mut answers: Vec<Value> = Vec::new();
    let mut opening = Some(Box::pin(call::open(
        channel,
        call::path(&method),
        UnboundedReceiverStream::new(stream),
        true,
    )));
    let mut open: Option<Streaming<_>> = None;
    let mut ended = None;
    for message in messages {
        let quiet = message.get("_quiet").is_some();
        let message = filled(message, answers.last());
        let message = DynamicMessage::deserialize(method.input(), &message)
            .unwrap_or_else(|error| panic!("{name} {message}: {error}"));
        drop(sender.send(message.encode_to_vec()));
        let patience = if quiet { SILENCE } else { ANSWER };
        // The stream opens with the first answer.
        let next = async {
            if let Some(opened) = opening.as_mut() {
                let stream = opened.await;
                opening = None;
                open = Some(stream?);
            }
            match open.as_mut() {
                Some(stream) => stream.message().await,
                None => Err(Status::unknown("no stream")),
            }
        };
        match timeout(patience, next).await {
            Ok(Ok(Some(answer))) => answers.push(call::shown(&method, answer)),
            Ok(Ok(None)) => ended = Some(Status::ok("")),
            Ok(Err(status)) => ended = Some(status),
            Err(_) => answers.push(json!(if quiet { "(silence)" } else { "(no answer)" })),
        }
        if ended.is_some() {
            break;
        }
    }
    drop(sender);
    let status = match (ended, open) {
        (Some(status), _) => status,
        (None, Some(mut stream)) => match timeout(SILENCE, stream.message()).await {
            Ok(Err(status)) => status,
            Ok(Ok(Some(more))) => {
                answers.push(call::shown(&method, more));
                Status::ok("")
            }
            Ok(Ok(None)) | Err(_) => Status::ok(""),
        },
        (None, None) => Status::ok(""),
    };
    call::transcript(&status, &answers)
}

/// The message with what the last answer said.
fn filled(message: &Value, last: Option<&Value>) -> Value {
    let of_last = |names: [&str; 2]| {
        let found = names.iter().find_map(|name| last?.get(name)?.as_str());
        found.unwrap_or_default().to_owned()
    };
    let text = message
        .to_string()
        .replace("${version}", &of_last(["version_info", "system_version_info"]))
        .replace("${nonce}", &of_last(["nonce", "nonce"]));
    let mut message: Value = serde_json::from_str(&text).expect("JSON");
    if let Some(members) = message.as_object_mut() {
        members.remove("_quiet");
    }
    message
}
