//! A request as a policy sees it: protobuf's fields by their own names, as the Go structs of SPIRE's server print.
//!
//! Owns that form only: default values are left out, enums and 64-bit integers are numbers, bytes are base64, wrappers
//! are objects with a `value`, and a oneof is named as in Go. Nothing is checked here beyond the wire format.

use std::sync::LazyLock;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use prost_reflect::{DescriptorPool, DynamicMessage, FieldDescriptor, MapKey, MethodDescriptor, Value};
use serde_json::{Map, Value as Json};

use super::Method;

static POOL: LazyLock<Option<DescriptorPool>> =
    LazyLock::new(|| DescriptorPool::decode(credence_proto::FILE_DESCRIPTOR_SET).ok());

/// The bytes are no message of the method's.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("grpc: error unmarshalling request: proto: cannot parse invalid wire-format data")]
pub(crate) struct Undecodable;

/// The request of a method in the form that policies know.
///
/// # Errors
/// [`Undecodable`].
pub(crate) fn json(method: &Method, message: &[u8]) -> Result<Json, Undecodable> {
    let input = descriptor(method).ok_or(Undecodable)?.input();
    let message = DynamicMessage::decode(input, message).map_err(|_| Undecodable)?;
    Ok(object(&message))
}

fn descriptor(method: &Method) -> Option<MethodDescriptor> {
    let service = POOL.as_ref()?.get_service_by_name(method.service_name)?;
    service.methods().find(|one| one.name() == method.name)
}

fn object(message: &DynamicMessage) -> Json {
    let mut fields = Map::new();
    for (field, value) in message.fields() {
        let value = plain(value);
        match one_of(&field) {
            Some(group) => {
                let member = Map::from_iter([(camel(field.name()), value)]);
                fields.insert(group, Json::Object(member));
            }
            None => {
                fields.insert(field.name().to_owned(), value);
            }
        }
    }
    Json::Object(fields)
}

/// The Go name of the oneof that a field belongs to; those behind `optional` are none.
fn one_of(field: &FieldDescriptor) -> Option<String> {
    let group = field.containing_oneof()?;
    (!group.is_synthetic()).then(|| camel(group.name()))
}

fn plain(value: &Value) -> Json {
    match value {
        Value::Bool(value) => (*value).into(),
        Value::I32(value) | Value::EnumNumber(value) => (*value).into(),
        Value::I64(value) => (*value).into(),
        Value::U32(value) => (*value).into(),
        Value::U64(value) => (*value).into(),
        Value::F32(value) => (*value).into(),
        Value::F64(value) => (*value).into(),
        Value::String(value) => value.as_str().into(),
        Value::Bytes(value) => STANDARD.encode(value).into(),
        Value::Message(message) => object(message),
        Value::List(values) => values.iter().map(plain).collect(),
        Value::Map(values) => values
            .iter()
            .map(|(key, value)| (key_text(key), plain(value)))
            .collect(),
    }
}

fn key_text(key: &MapKey) -> String {
    match key {
        MapKey::Bool(value) => value.to_string(),
        MapKey::I32(value) => value.to_string(),
        MapKey::I64(value) => value.to_string(),
        MapKey::U32(value) => value.to_string(),
        MapKey::U64(value) => value.to_string(),
        MapKey::String(value) => value.clone(),
    }
}

/// `https_spiffe` as `HttpsSpiffe`.
fn camel(name: &str) -> String {
    let mut camel = String::with_capacity(name.len());
    for word in name.split('_') {
        let mut letters = word.chars();
        camel.extend(letters.next().map(|first| first.to_ascii_uppercase()));
        camel.push_str(letters.as_str());
    }
    camel
}

#[cfg(test)]
mod tests {
    use credence_proto::spire::api::server::entry::v1 as entry;
    use credence_proto::spire::api::server::trustdomain::v1 as trust_domain;
    use credence_proto::spire::api::types::{self, federation_relationship::BundleEndpointProfile};
    use prost::Message;
    use serde_json::json;

    use super::super::find;
    use super::{Json, Undecodable, json as as_json};

    fn of(path: &str, message: &impl Message) -> Json {
        as_json(find(path, false).unwrap(), &message.encode_to_vec()).unwrap()
    }

    #[test]
    fn as_spires_policies_see_a_request() {
        let request = entry::BatchCreateEntryRequest {
            entries: vec![types::Entry {
                spiffe_id: Some(types::Spiffeid {
                    trust_domain: "example.org".to_owned(),
                    path: "/finance/x".to_owned(),
                }),
                selectors: vec![types::Selector {
                    r#type: "unix".to_owned(),
                    value: "uid:1".to_owned(),
                }],
                admin: true,
                expires_at: 4_000_000_000,
                ..types::Entry::default()
            }],
            output_mask: None,
        };
        assert_eq!(
            of("/spire.api.server.entry.v1.Entry/BatchCreateEntry", &request),
            json!({ "entries": [{
                "spiffe_id": { "trust_domain": "example.org", "path": "/finance/x" },
                "selectors": [{ "type": "unix", "value": "uid:1" }],
                "admin": true,
                "expires_at": 4_000_000_000_u64,
            }] })
        );
        let listed = entry::ListEntriesRequest {
            filter: Some(entry::list_entries_request::Filter {
                by_selectors: Some(types::SelectorMatch {
                    selectors: Vec::new(),
                    r#match: types::selector_match::MatchBehavior::MatchSubset.into(),
                }),
                by_downstream: Some(false),
                ..entry::list_entries_request::Filter::default()
            }),
            ..entry::ListEntriesRequest::default()
        };
        assert_eq!(
            of("/spire.api.server.entry.v1.Entry/ListEntries", &listed),
            json!({ "filter": { "by_selectors": { "match": 1 }, "by_downstream": {} } })
        );
    }

    #[test]
    fn a_oneof_is_named_as_in_go() {
        let request = trust_domain::BatchCreateFederationRelationshipRequest {
            federation_relationships: vec![types::FederationRelationship {
                trust_domain: "x.test".to_owned(),
                bundle_endpoint_profile: Some(BundleEndpointProfile::HttpsSpiffe(
                    types::HttpsspiffeProfile {
                        endpoint_spiffe_id: "spiffe://x.test/e".to_owned(),
                    },
                )),
                ..types::FederationRelationship::default()
            }],
            output_mask: None,
        };
        let path = "/spire.api.server.trustdomain.v1.TrustDomain/BatchCreateFederationRelationship";
        assert_eq!(
            of(path, &request),
            json!({ "federation_relationships": [{
                "trust_domain": "x.test",
                "BundleEndpointProfile": { "HttpsSpiffe": { "endpoint_spiffe_id": "spiffe://x.test/e" } },
            }] })
        );
    }

    #[test]
    fn nonsense_is_no_request() {
        let method = find("/spire.api.server.entry.v1.Entry/GetEntry", false).unwrap();
        assert_eq!(as_json(method, b"\xff\xff\xff"), Err(Undecodable));
        assert_eq!(as_json(method, b""), Ok(json!({})));
    }
}
