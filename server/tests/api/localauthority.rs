//! Rotation of the authorities by hand: each step, and each refusal in SPIRE's words.

use credence_proto::spire::api::server::localauthority::v1 as pb;
use credence_proto::spire::api::server::localauthority::v1::local_authority_client::LocalAuthorityClient;
use pb::AuthorityState;
use tonic::transport::Channel;
use tonic::{Code, Response, Status};

use crate::harness::{Lab, NOW, refused};

const DAY: i64 = 24 * 60 * 60;

/// The same calls for both kinds of authorities.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    X509,
    Jwt,
}

struct Shown {
    active: AuthorityState,
    prepared: Option<AuthorityState>,
    old: Option<AuthorityState>,
}

struct Operator {
    client: LocalAuthorityClient<Channel>,
    kind: Kind,
}

macro_rules! step {
    ($name:ident, $x509:ident($x509_request:ident), $jwt:ident($jwt_request:ident), $state:ident) => {
        async fn $name(&mut self, id: &str) -> Result<AuthorityState, Status> {
            let authority_id = id.to_owned();
            let state = match self.kind {
                Kind::X509 => {
                    let answer = self
                        .client
                        .$x509(pb::$x509_request { authority_id })
                        .await?;
                    answer.into_inner().$state
                }
                Kind::Jwt => {
                    let answer = self.client.$jwt(pb::$jwt_request { authority_id }).await?;
                    answer.into_inner().$state
                }
            };
            Ok(state.unwrap())
        }
    };
}

impl Operator {
    async fn of(lab: &Lab, kind: Kind) -> Self {
        let client = LocalAuthorityClient::new(lab.local().await);
        Self { client, kind }
    }

    async fn show(&mut self) -> Result<Shown, Status> {
        Ok(match self.kind {
            Kind::X509 => {
                let request = pb::GetX509AuthorityStateRequest {};
                let shown = self.client.get_x509_authority_state(request).await?.into_inner();
                Shown {
                    active: shown.active.unwrap(),
                    prepared: shown.prepared,
                    old: shown.old,
                }
            }
            Kind::Jwt => {
                let request = pb::GetJwtAuthorityStateRequest {};
                let shown = self.client.get_jwt_authority_state(request).await?.into_inner();
                Shown {
                    active: shown.active.unwrap(),
                    prepared: shown.prepared,
                    old: shown.old,
                }
            }
        })
    }

    async fn prepare(&mut self) -> Result<AuthorityState, Status> {
        let state = match self.kind {
            Kind::X509 => {
                let request = pb::PrepareX509AuthorityRequest {};
                let answer = self.client.prepare_x509_authority(request).await?;
                answer.into_inner().prepared_authority
            }
            Kind::Jwt => {
                let request = pb::PrepareJwtAuthorityRequest {};
                let answer = self.client.prepare_jwt_authority(request).await?;
                answer.into_inner().prepared_authority
            }
        };
        Ok(state.unwrap())
    }

    step!(
        activate,
        activate_x509_authority(ActivateX509AuthorityRequest),
        activate_jwt_authority(ActivateJwtAuthorityRequest),
        activated_authority
    );
    step!(
        taint,
        taint_x509_authority(TaintX509AuthorityRequest),
        taint_jwt_authority(TaintJwtAuthorityRequest),
        tainted_authority
    );
    step!(
        revoke,
        revoke_x509_authority(RevokeX509AuthorityRequest),
        revoke_jwt_authority(RevokeJwtAuthorityRequest),
        revoked_authority
    );
}

#[tokio::test]
async fn a_rotation_by_hand_is_refused_in_spires_words_where_it_is_out_of_order() {
    let lab = Lab::start().await;
    for kind in [Kind::X509, Kind::Jwt] {
        let x509 = kind == Kind::X509;
        let text = |x509_text: &'static str, jwt_text: &'static str| if x509 { x509_text } else { jwt_text };
        let mut operator = Operator::of(&lab, kind).await;
        let first = operator.show().await.unwrap();
        assert_eq!((first.prepared, first.old), (None, None));
        let first = first.active;
        assert_eq!(first.expires_at, NOW.unix_seconds() + DAY);
        assert_eq!(first.upstream_authority_subject_key_id, "");

        // Without anything prepared.
        let no_id = "no authority ID provided";
        refused(operator.activate("").await, Code::InvalidArgument, no_id);
        refused(operator.taint("").await, Code::InvalidArgument, no_id);
        let no_id = "invalid authority ID: no authority ID provided";
        refused(operator.revoke("").await, Code::InvalidArgument, no_id);
        let id = &*first.authority_id;
        let unexpected = "unexpected authority ID";
        refused(operator.activate(id).await, Code::InvalidArgument, unexpected);
        refused(operator.taint("nope").await, Code::InvalidArgument, unexpected);
        let current = "unable to taint current local authority";
        refused(operator.taint(id).await, Code::InvalidArgument, current);
        let current = "invalid authority ID: unable to use current authority";
        refused(operator.revoke(id).await, Code::InvalidArgument, current);
        let unknown = text(
            "invalid authority ID: only Old local authority can be revoked",
            "invalid authority ID: no JWT authority found with provided authority ID",
        );
        refused(operator.revoke("nope").await, Code::InvalidArgument, unknown);

        let second = operator.prepare().await.unwrap();
        assert_eq!(operator.show().await.unwrap().prepared, Some(second.clone()));
        let id = &*second.authority_id;
        let prepared =
            "only Old local authorities can be tainted: unsupported local authority status: PREPARED";
        refused(operator.taint(id).await, Code::InvalidArgument, prepared);
        let prepared = text(
            "invalid authority ID: only Old local authority can be revoked",
            "invalid authority ID: unable to use a prepared key",
        );
        refused(operator.revoke(id).await, Code::InvalidArgument, prepared);

        assert_eq!(operator.activate(id).await.unwrap(), second);
        let shown = operator.show().await.unwrap();
        assert_eq!((shown.active, shown.prepared), (second, None));
        assert_eq!(shown.old, Some(first.clone()));

        let id = &*first.authority_id;
        let old = "only Prepared authorities can be activated: unsupported local authority status: OLD";
        refused(operator.activate(id).await, Code::Internal, old);
        let untainted = text(
            "failed to revoke X.509 authority: it is not possible to revoke an untainted root CA",
            "failed to revoke JWT authority: it is not possible to revoke an untainted key",
        );
        refused(operator.revoke(id).await, Code::Internal, untainted);
        let id_alone = AuthorityState {
            authority_id: first.authority_id.clone(),
            ..AuthorityState::default()
        };
        let tainted = operator.taint(id).await.unwrap();
        assert_eq!(tainted, if x509 { first.clone() } else { id_alone.clone() });
        let again = text(
            "failed to taint X.509 authority: root CA is already tainted",
            "failed to taint JWT authority: key is already tainted",
        );
        refused(operator.taint(id).await, Code::Internal, again);
        assert_eq!(operator.revoke(id).await.unwrap(), id_alone);
        let gone = text(
            "failed to revoke X.509 authority: no root CA found with provided subject key ID",
            "failed to revoke JWT authority: no JWT Key found with provided key ID",
        );
        refused(operator.revoke(id).await, Code::Internal, gone);
        let gone = text(
            "failed to taint X.509 authority: no ca found with provided subject key ID",
            "failed to taint JWT authority: no JWT Key found with provided key ID",
        );
        refused(operator.taint(id).await, Code::Internal, gone);
        assert_eq!(
            operator.show().await.unwrap().old,
            Some(first),
            "as SPIRE shows it"
        );
    }
}

#[tokio::test]
async fn without_jwt_svids_there_is_nothing_to_rotate() {
    let lab = Lab::start_with(|plan| plan.authorities.disable_jwt_svids = true).await;
    let mut operator = Operator::of(&lab, Kind::Jwt).await;
    let disabled = "JWT functionality is disabled";
    let outcomes = [
        operator.show().await.map(drop),
        operator.prepare().await.map(drop),
        operator.activate("").await.map(drop),
        operator.taint("").await.map(drop),
        operator.revoke("").await.map(drop),
    ];
    for outcome in outcomes {
        refused(outcome, Code::Unimplemented, disabled);
    }
    assert!(Operator::of(&lab, Kind::X509).await.show().await.is_ok());
}

#[tokio::test]
async fn there_is_no_upstream_authority_and_no_wit_authority() {
    let lab = Lab::start().await;
    let mut client = Operator::of(&lab, Kind::X509).await.client;
    let subject_key_id = "00".to_owned();
    let upstream = "upstream authority is not configured";
    let taint = pb::TaintX509UpstreamAuthorityRequest {
        subject_key_id: subject_key_id.clone(),
    };
    let outcome = client.taint_x509_upstream_authority(taint).await;
    refused(outcome, Code::FailedPrecondition, upstream);
    let revoke = pb::RevokeX509UpstreamAuthorityRequest { subject_key_id };
    let outcome = client.revoke_x509_upstream_authority(revoke).await;
    refused(outcome, Code::FailedPrecondition, upstream);
    let wit = "WIT-SVID functionality is not yet implemented";
    let outcome = client
        .get_wit_authority_state(pb::GetWitAuthorityStateRequest {})
        .await;
    refused(outcome.map(Response::into_inner), Code::Unimplemented, wit);
}
