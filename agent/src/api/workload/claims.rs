//! The claims of a verified token as a protobuf `Struct`.

use std::collections::BTreeSet;

use credence_crypto::jwt::JwtSvid;
use prost_types::value::Kind;
use prost_types::{ListValue, Struct, Value};
use serde_json::Value as Json;

/// Claims that the standard promises to every caller (Workload API, 6.2.3).
const ALWAYS: [&str; 3] = ["sub", "aud", "exp"];

/// All claims; of a foreign token, whose issuer may put anything there, those promised and those `allowed`. `aud` is
/// always a list. Numbers are doubles, so integers above 2^53 lose digits.
pub(super) fn shown(svid: JwtSvid, foreign: bool, allowed: &BTreeSet<String>) -> Struct {
    let is_shown = |name: &str| !foreign || ALWAYS.contains(&name) || allowed.contains(name);
    let mut claims = svid.claims;
    claims.retain(|name, _| is_shown(name));
    claims.insert("aud".to_owned(), svid.audience.into());
    Struct {
        fields: claims
            .into_iter()
            .map(|(name, claim)| (name, value(claim)))
            .collect(),
    }
}

fn value(json: Json) -> Value {
    let kind = match json {
        Json::Null => Kind::NullValue(0),
        Json::Bool(truth) => Kind::BoolValue(truth),
        Json::Number(number) => Kind::NumberValue(number.as_f64().unwrap_or(f64::NAN)),
        Json::String(text) => Kind::StringValue(text),
        Json::Array(items) => Kind::ListValue(ListValue {
            values: items.into_iter().map(value).collect(),
        }),
        Json::Object(members) => Kind::StructValue(Struct {
            fields: members
                .into_iter()
                .map(|(name, member)| (name, value(member)))
                .collect(),
        }),
    };
    Value { kind: Some(kind) }
}
