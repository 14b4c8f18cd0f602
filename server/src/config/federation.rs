//! The `federation` block.
//!
//! All of it is checked as a server that fetches and serves bundles would need it. This version does neither yet and says
//! so once for each half; federated bundles are set by hand.

use std::net::IpAddr;
use std::time::Duration;

use credence_identity::{BundleEndpointUrl, SpiffeId, TrustDomain};
use credence_runtime::config::{Located, Section, UnknownKeys};

const PROFILES: &str = "current supported profiles are \"https_spiffe\" and \"https_web\"";
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const MINUTE: Duration = Duration::from_secs(60);

pub(super) fn read(server: &Section<'_>) {
    let Some(federation) = server.block("federation") else {
        return;
    };
    if let Some(endpoint) = federation.block("bundle_endpoint") {
        federation.warn("bundle_endpoint", "this version serves no bundle endpoint");
        bundle_endpoint(endpoint);
    }
    if federation.has("federates_with") {
        let message = "this version fetches no bundles; set them with \"bundle set\"";
        federation.warn("federates_with", message);
    }
    for (name, relationship) in federation.labelled("federates_with") {
        federates_with(&name, relationship);
    }
    federation.finish(UnknownKeys::Warn);
}

fn federates_with(name: &Located<String>, relationship: Section<'_>) {
    if let Err(error) = TrustDomain::parse_lenient(&name.value) {
        let message = format!("federates_with: could not parse {:?}: {error}", name.value);
        relationship.report().fault(name.place.clone(), message);
    }
    if relationship.required("bundle_endpoint_url").is_some() {
        relationship.parsed::<BundleEndpointUrl>("bundle_endpoint_url");
    }
    let mut profiles = relationship.labelled("bundle_endpoint_profile").into_iter();
    match (profiles.next(), profiles.next()) {
        (None, _) => {
            let message = format!(
                "trust domain {:?}: missing bundle endpoint configuration",
                name.value
            );
            relationship.report().fault(name.place.clone(), message);
        }
        (Some((profile, settings)), None) => match profile.value.as_str() {
            "https_web" => settings.finish(UnknownKeys::Warn),
            "https_spiffe" => {
                if settings.required("endpoint_spiffe_id").is_some() {
                    settings.parsed::<SpiffeId>("endpoint_spiffe_id");
                }
                settings.finish(UnknownKeys::Warn);
            }
            _ => unknown_profile(&relationship, &profile),
        },
        (Some(_), Some((second, _))) => several_profiles(&relationship, &second),
    }
    relationship.finish(UnknownKeys::Warn);
}

fn bundle_endpoint(endpoint: Section<'_>) {
    // SPIRE takes anything that is no address for all addresses.
    endpoint.parsed::<IpAddr>("address");
    endpoint.number::<u16>("port");
    if let Some(hint) = endpoint.duration("refresh_hint") {
        if hint >= DAY {
            endpoint.warn(
                "refresh_hint",
                "set to a high value: better have a smaller one, such as 5m",
            );
        } else if hint < MINUTE {
            endpoint.warn(
                "refresh_hint",
                "set too low: SPIRE refreshes no more often than each minute",
            );
        }
    }
    let acme = endpoint.block("acme");
    let mut profiles = endpoint.labelled("profile").into_iter();
    match (&acme, profiles.next(), profiles.next()) {
        (Some(_), Some(_), _) => endpoint.fault(
            "acme",
            "either bundle endpoint 'acme' or 'profile' can be set, but not both",
        ),
        (Some(acme), None, _) => {
            endpoint.deprecated(
                "acme",
                "ACME configuration within the bundle_endpoint is deprecated. Please use ACME configuration as part of \
                 the https_web profile instead.",
            );
            acme.required("domain_name");
            acme.required("email");
        }
        (None, None, _) => endpoint.report().deprecated(
            endpoint.place().clone(),
            "Bundle endpoint is configured but has no profile set, using https_spiffe as default; please configure a \
             profile explicitly. This will be fatal in a future release.",
        ),
        (None, Some((profile, settings)), None) => match profile.value.as_str() {
            "https_spiffe" => settings.finish(UnknownKeys::Warn),
            "https_web" => https_web(settings),
            _ => unknown_profile(&endpoint, &profile),
        },
        (None, Some(_), Some((second, _))) => several_profiles(&endpoint, &second),
    }
    if let Some(acme) = acme {
        acme_keys(acme);
    }
    endpoint.finish(UnknownKeys::Fatal);
}

fn https_web(profile: Section<'_>) {
    let (acme, files) = (profile.block("acme"), profile.block("serving_cert_file"));
    if acme.is_none() && files.is_none() {
        profile.report().fault(
            profile.place().clone(),
            "malformed https_web profile configuration: 'acme' or 'serving_cert_file' is required",
        );
    }
    if let Some(acme) = acme {
        acme_keys(acme);
    }
    if let Some(files) = files {
        files.required("cert_file_path");
        files.required("key_file_path");
        files.duration("file_sync_interval");
        files.finish(UnknownKeys::Fatal);
    }
    profile.finish(UnknownKeys::Warn);
}

fn acme_keys(acme: Section<'_>) {
    for key in ["directory_url", "domain_name", "email"] {
        acme.string(key);
    }
    acme.boolean("tos_accepted");
    acme.finish(UnknownKeys::Fatal);
}

fn unknown_profile(section: &Section<'_>, profile: &Located<String>) {
    let message = format!("unknown bundle endpoint profile {:?}; {PROFILES}", profile.value);
    section.report().fault(profile.place.clone(), message);
}

fn several_profiles(section: &Section<'_>, second: &Located<String>) {
    let message = "exactly one bundle endpoint profile is expected";
    section.report().fault(second.place.clone(), message);
}
