//! The same request with each field wrong in turn, by what the protobuf descriptions say of it.

use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor};
use serde_json::{Value, json};

use super::call;
use super::steps::{Variant, label};

/// Variations of `request` in each of which one field is wrong. Fields whose path starts with one of `spared` are left.
pub(super) fn each_field_wrong(method: &str, request: &Value, spared: &[&str]) -> Vec<Variant> {
    let mut changes = Vec::new();
    walk(&call::method(method).input(), request, "", &mut changes);
    changes
        .into_iter()
        .filter(|(path, _)| !spared.iter().any(|spared| path.starts_with(spared)))
        .map(|(path, value)| {
            let changes = vec![(path, value)];
            Variant {
                label: label(&changes),
                changes,
            }
        })
        .collect()
}

fn walk(message: &MessageDescriptor, value: &Value, path: &str, into: &mut Vec<(String, Option<Value>)>) {
    for field in message.fields() {
        // Of a choice only one can be given.
        let taken = field.containing_oneof().is_some_and(|choice| {
            choice
                .fields()
                .any(|other| other != field && value.get(other.name()).is_some())
        });
        if taken {
            continue;
        }
        let at = if path.is_empty() {
            field.name().to_owned()
        } else {
            format!("{path}.{}", field.name())
        };
        for wrong in wrong(&field) {
            into.push((at.clone(), wrong));
        }
        let Kind::Message(inner) = field.kind() else {
            continue;
        };
        match value.get(field.name()) {
            Some(Value::Array(items)) => {
                if let Some(first) = items.first() {
                    walk(&inner, first, &format!("{at}.0"), into);
                }
            }
            Some(object @ Value::Object(_)) => walk(&inner, object, &at, into),
            _ => {}
        }
    }
}

fn wrong(field: &FieldDescriptor) -> Vec<Option<Value>> {
    if field.is_list() {
        let mut lists = vec![Some(json!([]))];
        match field.kind() {
            Kind::Message(_) => lists.push(Some(json!([{}]))),
            Kind::String => {
                lists.extend([json!([""]), json!(["x y"]), json!(["é"]), json!(["dup", "dup"])].map(Some));
            }
            _ => {}
        }
        return lists;
    }
    match field.kind() {
        Kind::String if field.name() == "trust_domain" => {
            ["", "other.org", "spiffe://example.org", "Example.org", "é"]
                .map(|text| Some(json!(text)))
                .into()
        }
        Kind::String if field.name() == "path" => {
            ["", "noslash", "/", "/a//b", "/a/", "/é", "/spire/agent/x"]
                .map(|text| Some(json!(text)))
                .into()
        }
        Kind::String => ["", "x y", "é"].map(|text| Some(json!(text))).into(),
        Kind::Bytes => ["", "AAAA"].map(|text| Some(json!(text))).into(),
        Kind::Bool => vec![Some(json!(true))],
        Kind::Enum(_) => vec![Some(json!(99))],
        Kind::Message(inner) if inner.full_name().starts_with("google.protobuf.") => vec![None],
        Kind::Message(_) => vec![None, Some(json!({}))],
        Kind::Uint32 | Kind::Uint64 | Kind::Fixed32 | Kind::Fixed64 => vec![Some(json!(2_147_483_647))],
        _ => vec![Some(json!(-1)), Some(json!(2_147_483_647))],
    }
}
