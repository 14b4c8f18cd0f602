//! `CreateCertificate`: from a CSR to a chain.

use std::collections::BTreeSet;
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use credence_crypto::bundle::certificate_to_pem;
use credence_crypto::x509::{Certificate, X509Svid, verify_svid};
use credence_identity::{Bundle, Entry, SpiffeId, Timestamp, TrustDomain};
use credence_proto::istio::v1::auth::istio_certificate_service_server::IstioCertificateService;
use credence_proto::istio::v1::auth::{IstioCertificateRequest, IstioCertificateResponse};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tonic::metadata::MetadataMap;
use tonic::{Code, Request, Response, Status};

use super::super::Ground;
use super::super::call::with_causes;
use super::super::limits::Limiter;
use super::asked::Asked;
use super::call::Call;
use crate::explain::Stage;
use crate::sync::{CallError, SignCsr};

/// No call lasts longer, its waiting for a turn included.
const DEADLINE: Duration = Duration::from_secs(10);
/// CSRs under way to the server at a time.
const AT_A_TIME: usize = 32;
/// Calls a second of one caller, and CSRs a second of all: the server signs 500 a second for one address, of which the
/// workloads of the node must have the greater part.
const CALLS_OF_ONE: u32 = 50;
const CSRS_OF_ALL: u32 = 200;

/// See the module's text.
#[derive(Debug)]
pub(super) struct CertificateService {
    ground: Arc<Ground>,
    signer: Arc<dyn SignCsr>,
    trust_domain: TrustDomain,
    impersonators: BTreeSet<SpiffeId>,
    turns: Semaphore,
    by_caller: Option<Limiter<SpiffeId>>,
    in_all: Option<Limiter<()>>,
}

impl CertificateService {
    pub(super) fn new(
        ground: Arc<Ground>,
        signer: Arc<dyn SignCsr>,
        trust_domain: TrustDomain,
        impersonators: BTreeSet<SpiffeId>,
    ) -> Self {
        Self {
            ground,
            signer,
            trust_domain,
            impersonators,
            turns: Semaphore::new(AT_A_TIME),
            by_caller: Limiter::new(CALLS_OF_ONE),
            in_all: Limiter::new(CSRS_OF_ALL),
        }
    }

    async fn answer(
        &self,
        call: &Call,
        metadata: &MetadataMap,
        request: &IstioCertificateRequest,
    ) -> Result<IstioCertificateResponse, Status> {
        self.authenticate(call, metadata)?;
        let (asked, entry) = self.authorize(call, request)?;
        if self.in_all.as_ref().is_some_and(|limit| !limit.allow(&())) {
            return Err(busy(call, "too many certificates are asked for at this agent"));
        }
        // Never closed.
        let _turn = self.turns.acquire().await;
        let signed = self.signer.sign(entry.id.clone(), asked.csr).await;
        let svid = signed.map_err(|error| not_signed(call, &error))?;
        let (bundle, now) = (self.ground.cache.bundle(), self.ground.clock.now());
        // A server that signs for another key or identity than it was asked for, or by an authority that this agent hasn't
        // heard of yet, would leave the caller with a certificate that no peer takes.
        let verified = verify_svid(&svid.chain, &bundle.x509_authorities, now);
        let verified = verified.map_err(|error| unusable(call, with_causes(&error)))?;
        if verified.id != entry.spiffe_id || *verified.leaf.public_key() != asked.key {
            return Err(unusable(call, "it is for another identity or key".to_owned()));
        }
        call.record(&entry, &svid);
        Ok(IstioCertificateResponse {
            cert_chain: chain(&svid, &bundle, now),
        })
    }

    /// Whether the caller is who its connection says, still.
    fn authenticate(&self, call: &Call, metadata: &MetadataMap) -> Result<(), Status> {
        if self.ground.clock.now() >= call.peer.not_after {
            let message = "the X509-SVID that this connection was made with has expired";
            return Err(call.refuse(Code::Unauthenticated, message, bad(message)));
        }
        // A token says who else is meant, and nobody here can tell whether that is true.
        if metadata.contains_key("authorization") {
            let message = "bearer tokens are not accepted: callers are known by their X509-SVID alone";
            return Err(call.refuse(Code::Unauthenticated, message, bad(message)));
        }
        if self
            .by_caller
            .as_ref()
            .is_some_and(|limit| !limit.allow(call.caller()))
        {
            return Err(busy(call, "too many calls by this identity"));
        }
        Ok(())
    }

    /// What is asked for, and the entry that has it, if the caller may have it.
    fn authorize(
        &self,
        call: &Call,
        request: &IstioCertificateRequest,
    ) -> Result<(Asked, Arc<Entry>), Status> {
        let asked = Asked::read(request, call.caller(), &self.trust_domain).map_err(|error| {
            let message = error.to_string();
            call.refuse(Code::InvalidArgument, message, Stage::Request)
        })?;
        if asked.id != *call.caller() && !self.impersonators.contains(call.caller()) {
            // The same whether there is such an identity or not.
            let message = "the caller may ask for its own identity only";
            return Err(call.refuse(Code::PermissionDenied, message, Stage::NotImpersonator(asked.id)));
        }
        match self.ground.cache.entry_to_lend(&asked.id) {
            Some(entry) => Ok((asked, entry)),
            None => {
                let message = "no entry of this agent has that identity";
                Err(call.refuse(Code::PermissionDenied, message, Stage::NotHeld(asked.id)))
            }
        }
    }
}

#[tonic::async_trait]
impl IstioCertificateService for CertificateService {
    async fn create_certificate(
        &self,
        request: Request<IstioCertificateRequest>,
    ) -> Result<Response<IstioCertificateResponse>, Status> {
        let (metadata, extensions, request) = request.into_parts();
        let call = Call::new(self.ground.clone(), &extensions)?;
        let answered = timeout(DEADLINE, self.answer(&call, &metadata, &request)).await;
        answered
            .unwrap_or_else(|_| {
                let message = "the certificate was not signed in time";
                let stage = Stage::Certificate(message.to_owned());
                Err(call.refuse(Code::Unavailable, message, stage))
            })
            .map(Response::new)
    }
}

fn bad(message: &str) -> Stage {
    Stage::Certificate(message.to_owned())
}

fn busy(call: &Call, message: &str) -> Status {
    call.refuse(Code::ResourceExhausted, message, bad(message))
}

/// The server's no. What it says of the request goes on to the caller, of itself only whether trying again may help.
fn not_signed(call: &Call, error: &CallError) -> Status {
    let stage = Stage::Certificate(with_causes(error as &dyn Error));
    match error.code() {
        Code::InvalidArgument => {
            let message = format!("the server refuses the CSR: {}", error.message());
            call.refuse(Code::InvalidArgument, message, stage)
        }
        Code::NotFound | Code::PermissionDenied => {
            let message = "the server doesn't let this agent have that identity";
            call.refuse(Code::PermissionDenied, message, stage)
        }
        Code::ResourceExhausted => {
            call.refuse(Code::ResourceExhausted, "the server is asked for too much", stage)
        }
        _ => call.refuse(Code::Unavailable, "the server did not sign", stage),
    }
}

fn unusable(call: &Call, why: String) -> Status {
    let stage = Stage::Certificate(format!("the server's certificate is of no use: {why}"));
    call.refuse(Code::Unavailable, "the certificate can't be used yet", stage)
}

/// The leaf, then its intermediates, then, as one element, the roots: whoever reads only the first of these reads the one
/// that the chain leads to.
fn chain(svid: &X509Svid, bundle: &Bundle, now: Timestamp) -> Vec<String> {
    let roots = bundle.x509_authorities.iter();
    let roots = roots.filter_map(|root| Certificate::from_der(&root.der).ok());
    let mut roots: Vec<Certificate> = roots.filter(|root| now < root.not_after()).collect();
    roots.sort_by_key(|root| root.subject_key_id() != svid.authority_key_id.as_deref());
    let roots: String = roots.iter().map(|root| certificate_to_pem(root.der())).collect();
    let chain = svid.chain.iter().map(|der| certificate_to_pem(der));
    chain.chain([roots]).collect()
}
