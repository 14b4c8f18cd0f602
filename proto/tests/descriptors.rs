//! The compiled descriptors say, line by line, what `wire-facts.tsv` says: no name, number, type, label, oneof or
//! streaming kind may drift, and nothing may be added to a package that isn't ours.

#![allow(clippy::panic, clippy::unwrap_used, reason = "a test")]

use std::collections::{BTreeMap, BTreeSet};

use prost::Message as _;
use prost_types::{
    DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorSet,
    field_descriptor_proto::{Label, Type},
};

const FACTS: &str = include_str!("wire-facts.tsv");

/// Packages the table doesn't speak of: our own, and Google's well-known types.
const NOT_IN_TABLE: &[&str] = &["credence.", "google."];

fn descriptors() -> FileDescriptorSet {
    FileDescriptorSet::decode(credence_proto::FILE_DESCRIPTOR_SET).unwrap()
}

/// Conforms: WAP-03, WAP-04, WEP-23
#[test]
fn the_descriptors_are_the_table() {
    let table: BTreeSet<String> = FACTS
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(str::to_owned)
        .collect();
    let compiled = rows(&descriptors());
    let missing: Vec<_> = table.difference(&compiled).collect();
    let added: Vec<_> = compiled.difference(&table).collect();
    assert!(
        missing.is_empty() && added.is_empty(),
        "in the table only: {missing:#?}\ncompiled only: {added:#?}"
    );
}

/// Guards the test above against a table or a set that lost its content.
#[test]
fn the_table_is_whole() {
    let mut kinds = BTreeMap::<&str, usize>::new();
    for line in FACTS.lines().filter(|line| !line.starts_with('#')) {
        *kinds.entry(line.split('\t').next().unwrap()).or_default() += 1;
    }
    let expected = [("enum", 29), ("field", 467), ("message", 229), ("rpc", 88)];
    assert_eq!(kinds.into_iter().collect::<Vec<_>>(), expected);
}

#[test]
fn every_file_is_proto3() {
    for file in descriptors().file {
        assert_eq!(file.syntax(), "proto3", "{}", file.name());
    }
}

fn rows(set: &FileDescriptorSet) -> BTreeSet<String> {
    let mut rows = BTreeSet::new();
    for file in &set.file {
        let scope = match file.package() {
            "" => String::new(),
            package => format!("{package}."),
        };
        if NOT_IN_TABLE.iter().any(|other| scope.starts_with(other)) {
            continue;
        }
        for message in &file.message_type {
            message_rows(&scope, message, &mut rows);
        }
        for kind in &file.enum_type {
            enum_rows(&scope, kind, &mut rows);
        }
        for service in &file.service {
            for method in &service.method {
                let streaming = match (method.client_streaming(), method.server_streaming()) {
                    (false, false) => "unary",
                    (false, true) => "server-stream",
                    (true, false) => "client-stream",
                    (true, true) => "bidi-stream",
                };
                rows.insert(format!(
                    "rpc\t{scope}{}\t{}\t{streaming}\t{}\t{}",
                    service.name(),
                    method.name(),
                    method.input_type().trim_start_matches('.'),
                    method.output_type().trim_start_matches('.'),
                ));
            }
        }
    }
    rows
}

fn message_rows(scope: &str, message: &DescriptorProto, rows: &mut BTreeSet<String>) {
    let name = format!("{scope}{}", message.name());
    rows.insert(format!("message\t{name}"));
    let inner = format!("{name}.");
    for field in &message.field {
        rows.insert(field_row(&name, message, field));
    }
    for nested in &message.nested_type {
        let is_map_entry = nested.options.as_ref().is_some_and(|options| options.map_entry());
        if !is_map_entry {
            message_rows(&inner, nested, rows);
        }
    }
    for kind in &message.enum_type {
        enum_rows(&inner, kind, rows);
    }
}

fn field_row(owner: &str, message: &DescriptorProto, field: &FieldDescriptorProto) -> String {
    let entry = message.nested_type.iter().find(|nested| {
        nested.options.as_ref().is_some_and(|options| options.map_entry())
            && field.type_name() == format!(".{owner}.{}", nested.name())
    });
    let (kind, label) = match entry.map(|entry| entry.field.as_slice()) {
        Some([key, value]) => (format!("map<{},{}>", type_name(key), type_name(value)), "map"),
        Some(_) => panic!("{owner}.{}: a map entry has a key and a value", field.name()),
        None if field.label() == Label::Repeated => (type_name(field), "repeated"),
        None if field.proto3_optional() => (type_name(field), "optional"),
        None => (type_name(field), "singular"),
    };
    let oneof = field
        .oneof_index
        .filter(|_| !field.proto3_optional())
        .and_then(|index| message.oneof_decl.get(usize::try_from(index).unwrap()))
        .map_or("-", |oneof| oneof.name());
    format!(
        "field\t{owner}\t{}\t{}\t{kind}\t{label}\t{oneof}",
        field.number(),
        field.name()
    )
}

fn type_name(field: &FieldDescriptorProto) -> String {
    match field.r#type() {
        Type::Message | Type::Enum => field.type_name().trim_start_matches('.').to_owned(),
        scalar => scalar.as_str_name().trim_start_matches("TYPE_").to_lowercase(),
    }
}

fn enum_rows(scope: &str, kind: &EnumDescriptorProto, rows: &mut BTreeSet<String>) {
    for value in &kind.value {
        rows.insert(format!(
            "enum\t{scope}{}\t{}\t{}",
            kind.name(),
            value.number(),
            value.name()
        ));
    }
}
