//! An entry as text.

use std::io::{self, Write};

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
