//! The exchange of `AttestAgent`.

use credence_crypto::x509::X509Svid;
use credence_proto::spire::api::server::agent::v1::{
    AgentX509svidParams, AttestAgentRequest, agent_client::AgentClient, attest_agent_request,
    attest_agent_response,
};
use credence_proto::spire::api::types::AttestationData;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::Channel;
use super::convert;
use super::error::CallError;
use crate::attestor::node::{NodeAttestor, NodeAttestorError};

const ACTION: &str = "failed to receive attestation response";
/// No method needs more; a server that goes on asking isn't going to be satisfied.
const MAX_CHALLENGES: usize = 8;

/// Why an attestation failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AttestError {
    /// The proof couldn't be made.
    #[error("node attestor failed")]
    Attestor(#[from] NodeAttestorError),
    /// The server refused it or couldn't be reached.
    #[error(transparent)]
    Call(#[from] CallError),
}

/// What the server says of an attested agent.
#[derive(Debug)]
pub(crate) struct Attested {
    pub(crate) svid: X509Svid,
    /// Whether it may attest again, and so must instead of renewing.
    pub(crate) reattestable: bool,
}

pub(super) async fn attest(
    mut client: AgentClient<Channel>,
    attestor: &dyn NodeAttestor,
    csr: Vec<u8>,
) -> Result<Attested, AttestError> {
    let mut attempt = attestor.begin()?;
    let (steps, requests) = mpsc::channel(1);
    let send = async |step| {
        let request = AttestAgentRequest { step: Some(step) };
        steps
            .send(request)
            .await
            .map_err(|_| CallError::answer(ACTION, "stream was closed"))
    };
    let data = AttestationData {
        r#type: attestor.attestation_type().to_owned(),
        payload: attempt.payload(),
    };
    let params = AgentX509svidParams { csr };
    send(attest_agent_request::Step::Params(attest_agent_request::Params {
        data: Some(data),
        params: Some(params),
    }))
    .await?;
    let failed = |status| CallError::status(ACTION, &status);
    let mut answers = client
        .attest_agent(ReceiverStream::new(requests))
        .await
        .map_err(failed)?
        .into_inner();
    for _ in 0..=MAX_CHALLENGES {
        let answer = answers.message().await.map_err(failed)?;
        match answer.and_then(|answer| answer.step) {
            Some(attest_agent_response::Step::Challenge(challenge)) => {
                let response = attempt.respond(&challenge)?;
                send(attest_agent_request::Step::ChallengeResponse(response)).await?;
            }
            Some(attest_agent_response::Step::Result(result)) => {
                let svid =
                    convert::x509_svid(result.svid).map_err(|fault| CallError::answer(ACTION, fault))?;
                return Ok(Attested {
                    svid,
                    reattestable: result.reattestable,
                });
            }
            None => return Err(CallError::answer(ACTION, "the server ended the stream too early").into()),
        }
    }
    Err(CallError::answer(ACTION, "the server sent too many challenges").into())
}
