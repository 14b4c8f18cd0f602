//! One gRPC call of any method, from JSON to JSON, by the protobuf descriptions.

use std::sync::LazyLock;
use std::time::Duration;

use credence_test_support::raw::Raw;
use http::uri::PathAndQuery;
use prost::Message;
use prost::bytes::Bytes;
use prost_reflect::{DescriptorPool, DynamicMessage, MethodDescriptor, SerializeOptions};
use serde_json::{Value, json};
use tokio_stream::Stream;
use tonic::transport::Channel;
use tonic::{Request, Status, Streaming};

/// How long a call may take; a stream that goes on is read for its first answer only.
const DEADLINE: Duration = Duration::from_secs(15);

static POOL: LazyLock<DescriptorPool> = LazyLock::new(|| {
    DescriptorPool::decode(credence_proto::FILE_DESCRIPTOR_SET).expect("the descriptions parse")
});

/// The method `Service/Method`; the service by its last name, or with more of its package before it.
pub(super) fn method(name: &str) -> MethodDescriptor {
    let (service, method) = name.split_once('/').expect("SERVICE/METHOD");
    let mut found: Vec<_> = POOL
        .services()
        .filter(|candidate| {
            let full = candidate.full_name();
            full == service || full.ends_with(&format!(".{service}"))
        })
        .collect();
    if found.len() > 1 {
        found.retain(|service| service.full_name().starts_with("spire.api.server."));
    }
    let service = found.first().unwrap_or_else(|| panic!("no service {service}"));
    service
        .methods()
        .find(|candidate| candidate.name() == method)
        .unwrap_or_else(|| panic!("no method {name}"))
}

/// All methods of a service of the server, as `Service/Method`.
pub(super) fn methods(service: &str) -> Vec<String> {
    let found = POOL
        .services()
        .find(|candidate| {
            let name = candidate.full_name();
            name.starts_with("spire.api.server.") && name.ends_with(&format!(".{service}"))
        })
        .unwrap_or_else(|| panic!("no service {service}"));
    found
        .methods()
        .map(|method| format!("{}/{}", found.full_name(), method.name()))
        .collect()
}

/// Calls and returns code, message, details and answers.
pub(super) async fn call(channel: Channel, name: &str, request: &Value, header: bool) -> Value {
    let method = method(name);
    let messages: Vec<&Value> = match request {
        Value::Array(messages) if method.is_client_streaming() => messages.iter().collect(),
        one => vec![one],
    };
    let encoded: Vec<Vec<u8>> = messages
        .into_iter()
        .map(
            |message| match message.as_str().and_then(|text| text.strip_prefix("hex:")) {
                Some(hex) => unhex(hex),
                None => DynamicMessage::deserialize(method.input(), message)
                    .unwrap_or_else(|error| panic!("{name} {message}: {error}"))
                    .encode_to_vec(),
            },
        )
        .collect();
    converse(channel, &method, tokio_stream::iter(encoded), header, |_| {}).await
}

/// Sends `messages`, tells `answered` of each answer, and returns code, message, details and answers.
pub(super) async fn converse(
    channel: Channel,
    method: &MethodDescriptor,
    messages: impl Stream<Item = Vec<u8>> + Send + 'static,
    header: bool,
    mut answered: impl FnMut(&DynamicMessage),
) -> Value {
    let endless = method.is_server_streaming() && !method.is_client_streaming();
    let answered = |bytes: &Bytes| answered(&decoded(method, bytes.clone()));
    let exchange = exchange(channel, path(method), messages, endless, header, answered);
    let (answers, status) = tokio::time::timeout(DEADLINE, exchange)
        .await
        .unwrap_or_else(|_| (Vec::new(), Status::unknown("the suite waited too long")));
    let mut answers: Vec<Value> = answers.into_iter().map(|bytes| shown(method, bytes)).collect();
    if method.name().contains("AuthorizedEntries") {
        // In no order: SPIRE's is that of its walk through the entries.
        for list in answers
            .iter_mut()
            .filter_map(|answer| answer.get_mut("entries")?.as_array_mut())
        {
            list.sort_by_key(|entry| entry.get("id").map(Value::to_string));
        }
    }
    transcript(&status, &answers)
}

/// Where a client calls the method.
pub(super) fn path(method: &MethodDescriptor) -> PathAndQuery {
    format!("/{}/{}", method.parent_service().full_name(), method.name())
        .parse()
        .expect("a path")
}

fn decoded(method: &MethodDescriptor, bytes: Bytes) -> DynamicMessage {
    DynamicMessage::decode(method.output(), bytes).expect("an answer decodes")
}

/// An answer as JSON with all its members.
pub(super) fn shown(method: &MethodDescriptor, bytes: Bytes) -> Value {
    decoded(method, bytes)
        .serialize_with_options(
            serde_json::value::Serializer,
            &SerializeOptions::new()
                .skip_default_fields(false)
                .use_proto_field_name(true),
        )
        .expect("an answer is JSON")
}

/// How a call ended and what was answered.
pub(super) fn transcript(status: &Status, answers: &[Value]) -> Value {
    json!({
        "code": format!("{:?}", status.code()),
        "message": status.message(),
        "details": status.details().iter().map(|byte| format!("{byte:02x}")).collect::<String>(),
        "answers": answers,
    })
}

/// Opens a stream; it is there with the answer's first sign.
pub(super) async fn open(
    channel: Channel,
    path: PathAndQuery,
    messages: impl Stream<Item = Vec<u8>> + Send + 'static,
    header: bool,
) -> Result<Streaming<Bytes>, Status> {
    let mut client = tonic::client::Grpc::new(channel).max_decoding_message_size(64 << 20);
    client
        .ready()
        .await
        .map_err(|error| Status::unavailable(format!("connection: {error}")))?;
    let mut request = Request::new(messages);
    if header {
        request.metadata_mut().insert(
            "workload.spiffe.io",
            tonic::metadata::MetadataValue::from_static("true"),
        );
    }
    Ok(client.streaming(request, path, Raw).await?.into_inner())
}

async fn exchange(
    channel: Channel,
    path: PathAndQuery,
    messages: impl Stream<Item = Vec<u8>> + Send + 'static,
    endless: bool,
    header: bool,
    mut answered: impl FnMut(&Bytes),
) -> (Vec<Bytes>, Status) {
    let mut stream = match open(channel, path, messages, header).await {
        Ok(stream) => stream,
        Err(status) => return (Vec::new(), status),
    };
    let mut answers = Vec::new();
    loop {
        match stream.message().await {
            Ok(Some(answer)) => {
                answered(&answer);
                answers.push(answer);
            }
            Ok(None) => return (answers, Status::ok("")),
            Err(status) => return (answers, status),
        }
        if endless {
            return (answers, Status::ok(""));
        }
    }
}

fn unhex(text: &str) -> Vec<u8> {
    text.as_bytes()
        .chunks(2)
        .map(|pair| {
            let pair = std::str::from_utf8(pair).expect("hex");
            u8::from_str_radix(pair, 16).expect("hex")
        })
        .collect()
}
