//! An entry as text.

use std::io::{self, Write};

use credence_command::table;
use credence_proto::spire::api::types;

use crate::cli::request::{date, id_text};

/// Writes one entry and an empty line.
pub(super) fn entry(out: &mut dyn Write, entry: &types::Entry) -> io::Result<()> {
    let mut line = |name: &str, value: &str| writeln!(out, "{name:<24}: {value}");
    let ttl = |seconds: i32| match seconds {
        0 => "default".to_owned(),
        seconds => seconds.to_string(),
    };
    line("Entry ID", if entry.id.is_empty() { "(none)" } else { &entry.id })?;
    line("SPIFFE ID", &id_text(entry.spiffe_id.as_ref()))?;
    line("Parent ID", &id_text(entry.parent_id.as_ref()))?;
    line("Revision", &entry.revision_number.to_string())?;
    if entry.downstream {
        line("Downstream", "true")?;
    }
    line("X509-SVID TTL", &ttl(entry.x509_svid_ttl))?;
    line("JWT-SVID TTL", &ttl(entry.jwt_svid_ttl))?;
    if entry.expires_at != 0 {
        line("Expiration time", &date(entry.expires_at))?;
    }
    for selector in &entry.selectors {
        line("Selector", &format!("{}:{}", selector.r#type, selector.value))?;
    }
    for trust_domain in &entry.federates_with {
        line("FederatesWith", trust_domain)?;
    }
    for name in &entry.dns_names {
        line("DNS name", name)?;
    }
    let attributes = entry.additional_attributes.unwrap_or_default();
    if entry.admin {
        line("Admin", "true")?;
    }
    if entry.store_svid {
        line("StoreSvid", "true")?;
    }
    if !entry.hint.is_empty() {
        line("Hint", &entry.hint)?;
    }
    if attributes.disable_x509_svid_prefetch {
        line("DisableX509SvidPrefetch", "true")?;
    }
    if attributes.jwt_svid_include_jti {
        line("JwtSvidIncludeJti", "true")?;
    }
    writeln!(out)
}

/// Writes entries as a table: what all of them have, and in a last column what else there is to say.
pub(super) fn table(out: &mut dyn Write, width: u16, entries: &[types::Entry]) -> io::Result<()> {
    let rows: Vec<_> = entries.iter().map(row).collect();
    let headings = ["ENTRY ID", "SPIFFE ID", "PARENT ID", "SELECTORS", "MORE"];
    table::print(out, width, &headings, &rows)
}

fn row(entry: &types::Entry) -> Vec<String> {
    let selectors = entry.selectors.iter();
    let selectors = selectors.map(|selector| format!("{}:{}", selector.r#type, selector.value));
    vec![
        entry.id.clone(),
        id_text(entry.spiffe_id.as_ref()),
        id_text(entry.parent_id.as_ref()),
        selectors.collect::<Vec<_>>().join("\n"),
        more(entry).join("\n"),
    ]
}

fn more(entry: &types::Entry) -> Vec<String> {
    let attributes = entry.additional_attributes.unwrap_or_default();
    let mut more: Vec<String> = [
        (entry.admin, "admin"),
        (entry.downstream, "downstream"),
        (entry.store_svid, "stored"),
        (attributes.disable_x509_svid_prefetch, "no prefetch"),
        (attributes.jwt_svid_include_jti, "jti"),
    ]
    .into_iter()
    .filter(|(said, _)| *said)
    .map(|(_, word)| word.to_owned())
    .collect();
    for (seconds, name) in [(entry.x509_svid_ttl, "X509"), (entry.jwt_svid_ttl, "JWT")] {
        if seconds != 0 {
            more.push(format!("{name} TTL {seconds}"));
        }
    }
    if entry.expires_at != 0 {
        more.push(format!("until {}", date(entry.expires_at)));
    }
    more.extend(entry.dns_names.iter().map(|name| format!("dns {name}")));
    more.extend(
        entry
            .federates_with
            .iter()
            .map(|name| format!("federates {name}")),
    );
    if !entry.hint.is_empty() {
        more.push(format!("hint {}", entry.hint));
    }
    more
}
