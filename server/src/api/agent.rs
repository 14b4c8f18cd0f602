//! `spire.api.server.agent.v1.Agent`.
//!
//! Owns the service's face; each subject has its file.

mod admin;
mod attest;
mod join_token;
mod list;
mod renew;

use std::pin::Pin;
use std::sync::Arc;

use credence_proto::spire::api::server::agent::v1 as pb;
use credence_proto::spire::api::types;
use futures_util::Stream;
use tonic::{Request, Response, Status, Streaming};

use super::call::Call;
use super::context::Context;

/// The service.
#[derive(Debug)]
pub(crate) struct AgentService {
    context: Arc<Context>,
}

impl AgentService {
    pub(crate) fn new(context: Arc<Context>) -> Self {
        Self { context }
    }
}

#[tonic::async_trait]
impl pb::agent_server::Agent for AgentService {
    async fn count_agents(
        &self,
        request: Request<pb::CountAgentsRequest>,
    ) -> Result<Response<pb::CountAgentsResponse>, Status> {
        list::count(&self.context, request.into_inner()).map(Response::new)
    }

    async fn list_agents(
        &self,
        request: Request<pb::ListAgentsRequest>,
    ) -> Result<Response<pb::ListAgentsResponse>, Status> {
        list::list(&self.context, request.into_inner()).map(Response::new)
    }

    async fn get_agent(
        &self,
        request: Request<pb::GetAgentRequest>,
    ) -> Result<Response<types::Agent>, Status> {
        list::get(&self.context, &request.into_inner()).map(Response::new)
    }

    async fn delete_agent(&self, request: Request<pb::DeleteAgentRequest>) -> Result<Response<()>, Status> {
        let call = Call::of(&request)?;
        admin::delete(&self.context, call, request.get_ref())
            .await
            .map(Response::new)
    }

    async fn ban_agent(&self, request: Request<pb::BanAgentRequest>) -> Result<Response<()>, Status> {
        let call = Call::of(&request)?;
        admin::ban(&self.context, call, request.get_ref())
            .await
            .map(Response::new)
    }

    type AttestAgentStream = Pin<Box<dyn Stream<Item = Result<pb::AttestAgentResponse, Status>> + Send>>;

    async fn attest_agent(
        &self,
        request: Request<Streaming<pb::AttestAgentRequest>>,
    ) -> Result<Response<Self::AttestAgentStream>, Status> {
        let call = Call::of(&request)?.clone();
        attest::attest(&self.context, &call, request.into_inner())
            .await
            .map(Response::new)
    }

    async fn renew_agent(
        &self,
        request: Request<pb::RenewAgentRequest>,
    ) -> Result<Response<pb::RenewAgentResponse>, Status> {
        let call = Call::of(&request)?;
        renew::renew(&self.context, call, request.get_ref())
            .await
            .map(Response::new)
    }

    async fn create_join_token(
        &self,
        request: Request<pb::CreateJoinTokenRequest>,
    ) -> Result<Response<types::JoinToken>, Status> {
        join_token::create(&self.context, request.into_inner())
            .await
            .map(Response::new)
    }

    async fn post_status(
        &self,
        request: Request<pb::PostStatusRequest>,
    ) -> Result<Response<pb::PostStatusResponse>, Status> {
        let call = Call::of(&request)?;
        renew::post_status(&self.context, call, request.get_ref())
            .await
            .map(Response::new)
    }
}
