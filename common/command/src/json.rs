//! Results for scripts, in the form SPIRE gives them: protobuf's JSON with the fields' own names, fields at their
//! default included, without nulls, keys sorted, on one line.

use std::{io::Write, sync::LazyLock};

use prost::{Message, Name};
use prost_reflect::{DescriptorPool, DynamicMessage, SerializeOptions};
use serde_json::{Number, Value};

use crate::CommandError;

static POOL: LazyLock<Option<DescriptorPool>> =
    LazyLock::new(|| DescriptorPool::decode(credence_proto::FILE_DESCRIPTOR_SET).ok());

/// A protobuf message as JSON.
pub fn message<M: Message + Name>(message: &M) -> Result<Value, CommandError> {
    let name = M::full_name();
    let unknown = || CommandError::new(format!("no description of {name}"));
    let pool = POOL.as_ref().ok_or_else(unknown)?;
    let descriptor = pool.get_message_by_name(&name).ok_or_else(unknown)?;
    let dynamic = DynamicMessage::decode(descriptor, message.encode_to_vec().as_slice())
        .map_err(|error| CommandError::new(error.to_string()))?;
    let options = SerializeOptions::new()
        .skip_default_fields(false)
        .use_proto_field_name(true);
    let value = dynamic.serialize_with_options(serde_json::value::Serializer, &options)?;
    Ok(tidy(value))
}

/// Writes one value as itself, several as an array, and ends the line.
pub fn print(out: &mut dyn Write, values: &[Value]) -> Result<(), CommandError> {
    match values {
        [value] => writeln!(out, "{value}")?,
        values => writeln!(out, "{}", Value::from(values))?,
    }
    Ok(())
}

/// Takes out nulls, and writes numbers that have no fraction without one: Go prints a float of 17.0 as 17.
fn tidy(value: Value) -> Value {
    match value {
        Value::Object(fields) => fields
            .into_iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(name, value)| (name, tidy(value)))
            .collect(),
        Value::Array(items) => items
            .into_iter()
            .filter(|item| !item.is_null())
            .map(tidy)
            .collect(),
        Value::Number(number) => Value::Number(whole(&number).unwrap_or(number)),
        other => other,
    }
}

fn whole(number: &Number) -> Option<Number> {
    let float = number.as_f64().filter(|_| number.is_f64())?;
    // Beyond 2^53 a float is no longer an exact integer.
    if float.fract() != 0.0 || float.abs() > 9_007_199_254_740_992.0 {
        return None;
    }
    float.to_string().parse::<i64>().ok().map(Number::from)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use credence_proto::{
        spiffe_workload::{JwtBundlesResponse, ValidateJwtsvidResponse},
        spire::api::types,
    };

    use super::*;

    fn text<M: Message + Name>(of: &M) -> String {
        let mut out = Vec::new();
        print(&mut out, &[message(of).unwrap()]).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn fields_keep_their_names_and_defaults_and_are_sorted() {
        let agent = types::Agent {
            id: Some(types::Spiffeid {
                trust_domain: "example.org".into(),
                path: "/a".into(),
            }),
            x509svid_expires_at: 17,
            ..Default::default()
        };
        assert_eq!(
            text(&agent),
            concat!(
                r#"{"agent_version":"","attestation_type":"","banned":false,"can_reattest":false,"#,
                r#""id":{"path":"/a","trust_domain":"example.org"},"selectors":[],"#,
                r#""x509svid_expires_at":"17","x509svid_serial_number":""}"#,
                "\n"
            )
        );
    }

    #[test]
    fn what_is_not_there_is_left_out() {
        let entry = text(&types::Entry::default());
        assert!(entry.contains(r#""hint":"""#), "{entry}");
        assert!(
            !entry.contains("additional_attributes") && !entry.contains("spiffe_id"),
            "{entry}"
        );
        assert_eq!(text(&()), "{}\n");
    }

    #[test]
    fn enums_are_names_and_bytes_are_base64() {
        let logger = types::Logger {
            current_level: types::LogLevel::Debug.into(),
            launch_level: types::LogLevel::Info.into(),
        };
        assert_eq!(
            text(&logger),
            "{\"current_level\":\"DEBUG\",\"launch_level\":\"INFO\"}\n"
        );
        let bundles = JwtBundlesResponse {
            bundles: BTreeMap::from([("spiffe://example.org".to_owned(), b"{}?".to_vec())]),
        };
        assert_eq!(
            text(&bundles),
            "{\"bundles\":{\"spiffe://example.org\":\"e30/\"}}\n"
        );
    }

    #[test]
    fn numbers_of_claims_are_whole_where_they_can_be() {
        let mut response = ValidateJwtsvidResponse::default();
        let mut number = |name: &str, value: f64| {
            let kind = Some(prost_types::value::Kind::NumberValue(value));
            let claims = response.claims.get_or_insert_default();
            claims.fields.insert(name.into(), prost_types::Value { kind });
        };
        number("exp", 1_787_426_917.0);
        number("rate", 0.5);
        assert_eq!(
            text(&response),
            "{\"claims\":{\"exp\":1787426917,\"rate\":0.5},\"spiffe_id\":\"\"}\n"
        );
    }

    #[test]
    fn several_messages_are_an_array() {
        let mut out = Vec::new();
        print(&mut out, &[Value::from(1), Value::from(2)]).unwrap();
        assert_eq!(out, b"[1,2]\n");
    }
}
