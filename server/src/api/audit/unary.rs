//! What audit events say of the calls with one message each way.
//!
//! Owns which fields of which request and answer are told: a table by method, in SPIRE's words. Each item of a batch has
//! an event of its own, with the status of its own.

use credence_crypto::x509::Certificate;
use credence_proto::spire::api::server::agent::v1 as agent;
use credence_proto::spire::api::server::bundle::v1 as bundle;
use credence_proto::spire::api::server::bundle::v1::batch_delete_federated_bundle_request::Mode;
use credence_proto::spire::api::server::entry::v1 as entry;
use credence_proto::spire::api::server::localauthority::v1 as local_authority;
use credence_proto::spire::api::server::logger::v1 as logger;
use credence_proto::spire::api::server::svid::v1 as svid;
use credence_proto::spire::api::server::trustdomain::v1 as trust_domain;
use credence_proto::spire::api::types;
use prost::Message;

use super::fields::Fields;
use crate::api::authz::Method;

/// One item of a batch and what became of it; no status is a success.
pub(super) struct Item {
    pub(super) fields: Fields,
    pub(super) status: Option<types::Status>,
}

/// A message, or the empty one where the bytes are none.
fn read<M: Message + Default>(bytes: &[u8]) -> M {
    M::decode(bytes).unwrap_or_default()
}

/// What is told of a call as a whole.
pub(super) fn of_call(method: &Method, request: &[u8], answer: &[u8]) -> Fields {
    let fields = Fields::default();
    match method.name {
        "CountAgents" => match read::<agent::CountAgentsRequest>(request).filter {
            None => fields,
            Some(filter) => agents(
                &filter.by_attestation_type,
                filter.by_banned,
                filter.by_can_reattest,
                filter.by_selector_match.as_ref(),
            ),
        },
        "ListAgents" => match read::<agent::ListAgentsRequest>(request).filter {
            None => fields,
            Some(filter) => agents(
                &filter.by_attestation_type,
                filter.by_banned,
                filter.by_can_reattest,
                filter.by_selector_match.as_ref(),
            ),
        },
        "GetAgent" => fields.id("spiffe_id", read::<agent::GetAgentRequest>(request).id.as_ref()),
        "DeleteAgent" => fields.id(
            "spiffe_id",
            read::<agent::DeleteAgentRequest>(request).id.as_ref(),
        ),
        "BanAgent" => fields.id("spiffe_id", read::<agent::BanAgentRequest>(request).id.as_ref()),
        "RenewAgent" => {
            let asked = read::<agent::RenewAgentRequest>(request);
            let issued = read::<agent::RenewAgentResponse>(answer);
            fields
                .hash("csr", &asked.params.unwrap_or_default().csr)
                .x509_svid(issued.svid.as_ref())
        }
        "PostStatus" => fields.text(
            "agent_version",
            &read::<agent::PostStatusRequest>(request).agent_version,
        ),
        // The token itself is a secret.
        "CreateJoinToken" => {
            let asked = read::<agent::CreateJoinTokenRequest>(request);
            fields
                .with("ttl", asked.ttl)
                .id("spiffe_id", asked.agent_id.as_ref())
        }
        _ => of_other_call(method, request, answer),
    }
}

fn of_other_call(method: &Method, request: &[u8], answer: &[u8]) -> Fields {
    let fields = Fields::default();
    match method.name {
        "GetFederatedBundle" => fields.with(
            "trust_domain_id",
            read::<bundle::GetFederatedBundleRequest>(request).trust_domain,
        ),
        "AppendBundle" => {
            let asked = read::<bundle::AppendBundleRequest>(request);
            fields
                .jwt_authorities(&asked.jwt_authorities)
                .x509_authorities(&asked.x509_authorities)
        }
        "PublishJWTAuthority" => match read::<bundle::PublishJwtAuthorityRequest>(request).jwt_authority {
            Some(authority) => fields.jwt_authority(&authority, ""),
            None => fields,
        },
        "CountEntries" => match read::<entry::CountEntriesRequest>(request).filter {
            None => fields,
            Some(filter) => entries(
                filter.by_spiffe_id.as_ref(),
                filter.by_parent_id.as_ref(),
                filter.by_hint.as_deref(),
                filter.by_downstream,
            )
            .selector_match(filter.by_selectors.as_ref())
            .federates_with(filter.by_federates_with.as_ref()),
        },
        "ListEntries" => match read::<entry::ListEntriesRequest>(request).filter {
            None => fields,
            Some(filter) => entries(
                filter.by_spiffe_id.as_ref(),
                filter.by_parent_id.as_ref(),
                filter.by_hint.as_deref(),
                filter.by_downstream,
            )
            .selector_match(filter.by_selectors.as_ref())
            .federates_with(filter.by_federates_with.as_ref()),
        },
        "GetEntry" => fields.text("entry_id", &read::<entry::GetEntryRequest>(request).id),
        "GetFederationRelationship" => fields.with(
            "trust_domain_id",
            read::<trust_domain::GetFederationRelationshipRequest>(request).trust_domain,
        ),
        "RefreshBundle" => fields.with(
            "trust_domain_id",
            read::<trust_domain::RefreshBundleRequest>(request).trust_domain,
        ),
        "SetLogLevel" => {
            let level = read::<logger::SetLogLevelRequest>(request).new_level;
            let name = types::LogLevel::try_from(level);
            fields.with(
                "new_log_level",
                name.map_or("unknown", |level| level.as_str_name()),
            )
        }
        // The messages of the two kinds are alike.
        "TaintX509UpstreamAuthority" | "RevokeX509UpstreamAuthority" => fields.text(
            "subject_key_id",
            &read::<local_authority::TaintX509UpstreamAuthorityRequest>(request).subject_key_id,
        ),
        name if ["Activate", "Taint", "Revoke"]
            .iter()
            .any(|act| name.starts_with(act)) =>
        {
            fields.text(
                "local_authority_id",
                &read::<local_authority::TaintX509AuthorityRequest>(request).authority_id,
            )
        }
        _ => of_issuance(method, request, answer),
    }
}

fn of_issuance(method: &Method, request: &[u8], answer: &[u8]) -> Fields {
    let fields = Fields::default();
    match method.name {
        "MintX509SVID" => {
            let asked = read::<svid::MintX509svidRequest>(request);
            let issued = read::<svid::MintX509svidResponse>(answer);
            fields
                .hash("csr", &asked.csr)
                .with("ttl", asked.ttl)
                .x509_svid(issued.svid.as_ref())
                .names(issued.svid.as_ref())
        }
        "MintJWTSVID" => {
            let asked = read::<svid::MintJwtsvidRequest>(request);
            let issued = read::<svid::MintJwtsvidResponse>(answer);
            fields
                .id("spiffe_id", asked.id.as_ref())
                .list("audience", &asked.audience)
                .with("ttl", asked.ttl)
                .expiry(issued.svid.map(|svid| svid.expires_at))
        }
        "MintWITSVID" => {
            let asked = read::<svid::MintWitsvidRequest>(request);
            let issued = read::<svid::MintWitsvidResponse>(answer);
            fields
                .id("spiffe_id", asked.id.as_ref())
                .hash("public_key_sha256", &asked.public_key)
                .with("ttl", asked.ttl)
                .expiry(issued.svid.map(|svid| svid.expires_at))
        }
        "NewJWTSVID" => {
            let asked = read::<svid::NewJwtsvidRequest>(request);
            let issued = read::<svid::NewJwtsvidResponse>(answer).svid;
            fields
                .text("entry_id", &asked.entry_id)
                .list("audience", &asked.audience)
                .id("spiffe_id", issued.as_ref().and_then(|svid| svid.id.as_ref()))
                .expiry(issued.map(|svid| svid.expires_at))
        }
        "NewDownstreamX509CA" => {
            let asked = read::<svid::NewDownstreamX509caRequest>(request);
            let issued = read::<svid::NewDownstreamX509caResponse>(answer).ca_cert_chain;
            let made = issued.first().and_then(|der| Certificate::from_der(der).ok());
            fields
                .hash("csr", &asked.csr)
                .with("ttl", asked.preferred_ttl)
                .expiry(made.map(|made| made.not_after().unix_seconds()))
        }
        _ => fields,
    }
}

impl Fields {
    fn expiry(self, expires_at: Option<i64>) -> Self {
        match expires_at {
            Some(moment) => self.with("expires_at", moment),
            None => self,
        }
    }
}

/// The items of a batch; none for another call.
pub(super) fn of_items(method: &Method, request: &[u8], answer: &[u8]) -> Option<Vec<Item>> {
    Some(match method.name {
        "BatchNewX509SVID" => {
            let asked = read::<svid::BatchNewX509svidRequest>(request).params;
            let done = read::<svid::BatchNewX509svidResponse>(answer).results;
            pair(asked, done, |(asked, done)| Item {
                fields: Fields::default()
                    .text("entry_id", &asked.entry_id)
                    .hash("csr", &asked.csr)
                    .x509_svid(done.svid.as_ref()),
                status: done.status,
            })
        }
        "BatchNewWITSVID" => {
            let asked = read::<svid::BatchNewWitsvidRequest>(request).params;
            let done = read::<svid::BatchNewWitsvidResponse>(answer).results;
            pair(asked, done, |(asked, done)| Item {
                fields: Fields::default()
                    .text("entry_id", &asked.entry_id)
                    .hash("public_key_sha256", &asked.public_key)
                    .id("spiffe_id", done.svid.as_ref().and_then(|svid| svid.id.as_ref()))
                    .expiry(done.svid.map(|svid| svid.expires_at)),
                status: done.status,
            })
        }
        "BatchCreateEntry" => {
            let asked = read::<entry::BatchCreateEntryRequest>(request).entries;
            let done = read::<entry::BatchCreateEntryResponse>(answer).results;
            pair(asked, done, |(asked, done)| Item {
                // The id that the server chose.
                fields: Fields::default()
                    .text("entry_id", done.entry.as_ref().map_or("", |entry| &entry.id))
                    .entry(&asked, None),
                status: done.status,
            })
        }
        "BatchUpdateEntry" => {
            let asked = read::<entry::BatchUpdateEntryRequest>(request);
            let done = read::<entry::BatchUpdateEntryResponse>(answer).results;
            let mask = asked.input_mask;
            pair(asked.entries, done, |(asked, done)| Item {
                fields: Fields::default().entry(&asked, mask.as_ref()),
                status: done.status,
            })
        }
        "BatchDeleteEntry" => {
            let asked = read::<entry::BatchDeleteEntryRequest>(request).ids;
            let done = read::<entry::BatchDeleteEntryResponse>(answer).results;
            pair(asked, done, |(id, done)| Item {
                fields: Fields::default().with("entry_id", id),
                status: done.status,
            })
        }
        _ => return of_federation(method, request, answer),
    })
}

fn of_federation(method: &Method, request: &[u8], answer: &[u8]) -> Option<Vec<Item>> {
    Some(match method.name {
        "BatchCreateFederatedBundle" => {
            let asked = read::<bundle::BatchCreateFederatedBundleRequest>(request).bundle;
            let done = read::<bundle::BatchCreateFederatedBundleResponse>(answer).results;
            pair(asked, done, |(asked, done)| Item {
                fields: Fields::default().bundle(&asked, None),
                status: done.status,
            })
        }
        "BatchUpdateFederatedBundle" => {
            let asked = read::<bundle::BatchUpdateFederatedBundleRequest>(request);
            let done = read::<bundle::BatchUpdateFederatedBundleResponse>(answer).results;
            let mask = asked.input_mask;
            pair(asked.bundle, done, |(asked, done)| Item {
                fields: Fields::default().bundle(&asked, mask.as_ref()),
                status: done.status,
            })
        }
        "BatchSetFederatedBundle" => {
            let asked = read::<bundle::BatchSetFederatedBundleRequest>(request).bundle;
            let done = read::<bundle::BatchSetFederatedBundleResponse>(answer).results;
            pair(asked, done, |(asked, done)| Item {
                fields: Fields::default().bundle(&asked, None),
                status: done.status,
            })
        }
        "BatchDeleteFederatedBundle" => {
            let asked = read::<bundle::BatchDeleteFederatedBundleRequest>(request);
            let done = read::<bundle::BatchDeleteFederatedBundleResponse>(answer).results;
            let mode = Mode::try_from(asked.mode).map_or("unknown", |mode| mode.as_str_name());
            pair(asked.trust_domains, done, |(name, done)| Item {
                fields: Fields::default().with("trust_domain_id", name).with("mode", mode),
                status: done.status,
            })
        }
        "BatchCreateFederationRelationship" => {
            let asked = read::<trust_domain::BatchCreateFederationRelationshipRequest>(request);
            let done = read::<trust_domain::BatchCreateFederationRelationshipResponse>(answer).results;
            pair(asked.federation_relationships, done, |(asked, done)| Item {
                fields: Fields::default().relationship(&asked, None),
                status: done.status,
            })
        }
        "BatchUpdateFederationRelationship" => {
            let asked = read::<trust_domain::BatchUpdateFederationRelationshipRequest>(request);
            let done = read::<trust_domain::BatchUpdateFederationRelationshipResponse>(answer).results;
            let mask = asked.input_mask;
            pair(asked.federation_relationships, done, |(asked, done)| Item {
                fields: Fields::default().relationship(&asked, mask.as_ref()),
                status: done.status,
            })
        }
        "BatchDeleteFederationRelationship" => {
            let asked = read::<trust_domain::BatchDeleteFederationRelationshipRequest>(request);
            let done = read::<trust_domain::BatchDeleteFederationRelationshipResponse>(answer).results;
            pair(asked.trust_domains, done, |(name, done)| Item {
                fields: Fields::default().with("trust_domain_id", name),
                status: done.status,
            })
        }
        _ => return None,
    })
}

/// Each item with its result; the results are in the order of the request.
fn pair<A, R>(asked: Vec<A>, done: Vec<R>, item: impl FnMut((A, R)) -> Item) -> Vec<Item> {
    asked.into_iter().zip(done).map(item).collect()
}

fn agents(
    kind: &str,
    banned: Option<bool>,
    can_reattest: Option<bool>,
    selectors: Option<&types::SelectorMatch>,
) -> Fields {
    let mut fields = Fields::default().text("node_attestor_type", kind);
    if let Some(banned) = banned {
        fields = fields.with("by_banned", banned);
    }
    if let Some(can_reattest) = can_reattest {
        fields = fields.with("by_can_reattest", can_reattest);
    }
    fields.selector_match(selectors)
}

fn entries(
    spiffe_id: Option<&types::Spiffeid>,
    parent_id: Option<&types::Spiffeid>,
    hint: Option<&str>,
    downstream: Option<bool>,
) -> Fields {
    let mut fields = Fields::default()
        .id("spiffe_id", spiffe_id)
        .id("parent_id", parent_id);
    if let Some(hint) = hint {
        fields = fields.with("hint", hint);
    }
    if let Some(downstream) = downstream {
        fields = fields.with("downstream", downstream);
    }
    fields
}
