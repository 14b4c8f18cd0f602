//! Arbitrary values in the fields of requests, and calls of any method with any bytes.

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::uri::PathAndQuery;
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, Value};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};
use tonic::client::Grpc;
use tonic::transport::Channel;
use tonic::{Request, Status, Streaming};

use crate::raw::Raw;

/// No message nests deeper.
const DEEPEST: usize = 5;

/// Values that get past some checks and not past others; the same ones in each run.
#[derive(Debug)]
pub struct Values {
    rng: StdRng,
    texts: Vec<String>,
    bytes: Vec<Vec<u8>>,
}

impl Values {
    /// Values of fields are chosen among these and the usual ones.
    #[must_use]
    pub fn new(seed: u64, texts: Vec<String>, bytes: Vec<Vec<u8>>) -> Self {
        Self {
            rng: StdRng::seed_from_u64(seed),
            texts,
            bytes,
        }
    }

    fn text(&mut self, field: &str) -> String {
        let usual = match field {
            "trust_domain" => "example.org",
            "path" => "/workload",
            "type" => "unix",
            "value" => "uid:1000",
            _ => "",
        };
        if self.rng.random_bool(0.6) && !usual.is_empty() {
            return usual.to_owned();
        }
        self.texts.choose(&mut self.rng).cloned().unwrap_or_default()
    }

    fn number(&mut self) -> i32 {
        let numbers = [0, 1, 2, 3, 60, 600, -1, 99, i32::MAX, i32::MIN];
        numbers.choose(&mut self.rng).copied().unwrap_or_default()
    }

    fn single(&mut self, field: &FieldDescriptor, depth: usize) -> Value {
        let number = self.number();
        let rarely = self.rng.random_bool(0.1);
        match field.kind() {
            Kind::Bool => Value::Bool(self.rng.random()),
            Kind::String => Value::String(self.text(field.name())),
            Kind::Bytes => Value::Bytes(
                self.bytes
                    .choose(&mut self.rng)
                    .cloned()
                    .unwrap_or_default()
                    .into(),
            ),
            Kind::Enum(_) => Value::EnumNumber(number),
            Kind::Message(inner) => Value::Message(self.message(&inner, depth + 1)),
            Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => Value::I32(number),
            Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => {
                Value::I64(if rarely { i64::MIN } else { i64::from(number) })
            }
            Kind::Uint32 | Kind::Fixed32 => Value::U32(number.unsigned_abs()),
            Kind::Uint64 | Kind::Fixed64 => Value::U64(if rarely {
                u64::MAX
            } else {
                u64::from(number.unsigned_abs())
            }),
            Kind::Double => Value::F64(f64::from(number)),
            Kind::Float => Value::F32(f32::INFINITY),
        }
    }

    /// A message of that kind, at that depth of another.
    pub fn message(&mut self, kind: &MessageDescriptor, depth: usize) -> DynamicMessage {
        let mut message = DynamicMessage::new(kind.clone());
        for field in kind.fields().filter(|field| !field.is_map()) {
            if depth > DEEPEST || self.rng.random_bool(0.3) {
                continue;
            }
            let value = if field.is_list() {
                let count = self.rng.random_range(0..3);
                Value::List((0..count).map(|_| self.single(&field, depth)).collect())
            } else {
                self.single(&field, depth)
            };
            message.set_field(&field, value);
        }
        message
    }
}

/// Calls a unary method, by its path, with an encoded request.
///
/// # Errors
/// The answer's status.
pub async fn unary(channel: Channel, path: &str, request: Request<Vec<u8>>) -> Result<Bytes, Status> {
    let (mut client, path) = ready(channel, path).await?;
    Ok(client.unary(request, path, Raw).await?.into_inner())
}

/// Calls a method that answers with a stream, by its path, with an encoded request.
///
/// # Errors
/// The answer's status.
pub async fn follow(
    channel: Channel,
    path: &str,
    request: Request<Vec<u8>>,
) -> Result<Streaming<Bytes>, Status> {
    let (mut client, path) = ready(channel, path).await?;
    Ok(client.server_streaming(request, path, Raw).await?.into_inner())
}

/// Calls a method that takes and answers with a stream, by its path: one encoded request, and no end of them.
///
/// # Errors
/// The answer's status.
pub async fn converse(
    channel: Channel,
    path: &str,
    request: Request<Vec<u8>>,
) -> Result<Streaming<Bytes>, Status> {
    let (mut client, path) = ready(channel, path).await?;
    let request = request.map(|message| stream::iter([message]).chain(stream::pending()));
    Ok(client.streaming(request, path, Raw).await?.into_inner())
}

async fn ready(channel: Channel, path: &str) -> Result<(Grpc<Channel>, PathAndQuery), Status> {
    let mut client = Grpc::new(channel);
    let failed = |error: tonic::transport::Error| Status::from_error(error.into());
    client.ready().await.map_err(failed)?;
    let path = path.parse().expect("a path of a method");
    Ok((client, path))
}
