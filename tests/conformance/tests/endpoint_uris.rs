//! `endpoint_uris.json`: addresses of the Workload and Broker Endpoints, and which of several is used.
#![allow(
    clippy::indexing_slicing,
    reason = "a vector that is not as it should be must fail the test"
)]

use credence_conformance::{judge, load, run_cases, text};
use credence_identity::endpoint::{Endpoint, EndpointError, locate};
use serde_json::Value;

/// Conforms: WEP-13, WEP-14, WEP-15
#[test]
fn workload_addresses() {
    run_cases(&load("endpoint_uris.json"), "cases", |case| {
        address(case, Endpoint::parse_workload)
    });
}

/// Conforms: BEP-09, BEP-10
#[test]
fn broker_addresses() {
    run_cases(&load("endpoint_uris.json"), "broker_cases", |case| {
        address(case, Endpoint::parse_broker)
    });
}

/// Conforms: BEP-08, WEP-12
#[test]
fn choice_of_address() {
    run_cases(&load("endpoint_uris.json"), "locate_cases", |case| {
        let (variable, parse): (_, fn(&str) -> _) = match text(case, "endpoint") {
            "workload" => ("SPIFFE_ENDPOINT_SOCKET", Endpoint::parse_workload),
            _ => ("SPIFFE_BROKER_SOCKET", Endpoint::parse_broker),
        };
        let found = locate(case["configured"].as_str(), case["env"][variable].as_str()).and_then(parse);
        let expected = &case["expect"];
        match found {
            Ok(endpoint) if endpoint.to_string() == text(expected, "use") => Ok(()),
            Err(error)
                if text(expected, "error")
                    .split(" or ")
                    .any(|one| one == class(error)) =>
            {
                Ok(())
            }
            other => Err(format!("we answer {other:?}")),
        }
    });
}

fn address(case: &Value, parse: fn(&str) -> Result<Endpoint, EndpointError>) -> Result<(), String> {
    match (
        judge(case, parse(text(case, "input")).map_err(class))?,
        text(case, "target"),
    ) {
        (None, _) | (_, "") => Ok(()),
        (Some(endpoint), target) if endpoint.to_string() == target => Ok(()),
        (Some(endpoint), target) => Err(format!("we answer {endpoint} instead of {target}")),
    }
}

fn class(error: EndpointError) -> &'static str {
    match error {
        EndpointError::NoAddress => "NoAddress",
        EndpointError::Empty => "Empty",
        EndpointError::ControlChar => "ControlChar",
        EndpointError::BadPercent => "BadPercent",
        EndpointError::BadScheme => "BadScheme",
        EndpointError::QueryNotAllowed => "QueryNotAllowed",
        EndpointError::FragmentNotAllowed => "FragmentNotAllowed",
        EndpointError::UnixAuthority => "UnixAuthority",
        EndpointError::UnixMissingPath => "UnixMissingPath",
        EndpointError::UnixNotAbsolute => "UnixNotAbsolute",
        EndpointError::TcpMissingHost => "TcpMissingHost",
        EndpointError::TcpHostNotIp => "TcpHostNotIP",
        EndpointError::TcpBadHost => "TcpBadHost",
        EndpointError::TcpMissingPort => "TcpMissingPort",
        EndpointError::TcpBadPort => "TcpBadPort",
        EndpointError::TcpPath => "TcpPath",
        EndpointError::TcpUserinfo => "TcpUserinfo",
    }
}
