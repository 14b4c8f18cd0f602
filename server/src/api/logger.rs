//! `spire.api.server.logger.v1.Logger`: the level of the running server's log.

use std::sync::Arc;

use credence_proto::spire::api::server::logger::v1 as pb;
use credence_proto::spire::api::types;
use credence_runtime::log::Level;
use tonic::{Request, Response, Status};

use super::context::Context;

/// The service.
#[derive(Debug)]
pub(crate) struct LoggerService {
    context: Arc<Context>,
}

impl LoggerService {
    pub(crate) fn new(context: Arc<Context>) -> Self {
        Self { context }
    }

    fn answer(&self) -> Response<types::Logger> {
        let log = &self.context.log;
        Response::new(types::Logger {
            current_level: log.level().api_number(),
            launch_level: log.launch_level().api_number(),
        })
    }
}

#[tonic::async_trait]
impl pb::logger_server::Logger for LoggerService {
    async fn get_logger(&self, _: Request<pb::GetLoggerRequest>) -> Result<Response<types::Logger>, Status> {
        Ok(self.answer())
    }

    async fn set_log_level(
        &self,
        request: Request<pb::SetLogLevelRequest>,
    ) -> Result<Response<types::Logger>, Status> {
        let level = match request.get_ref().new_level {
            0 => Err("newLevel value cannot be LogLevel_UNSPECIFIED"),
            number => Level::from_api_number(number).ok_or("unsupported log level"),
        };
        let level = level.map_err(Status::invalid_argument)?;
        tracing::info!(new_log_level = level.as_str(), "SetLogLevel Called");
        self.context.log.set_level(level);
        Ok(self.answer())
    }

    async fn reset_log_level(
        &self,
        _: Request<pb::ResetLogLevelRequest>,
    ) -> Result<Response<types::Logger>, Status> {
        let launch_log_level = self.context.log.launch_level().as_str();
        tracing::info!(launch_log_level, "ResetLogLevel Called");
        self.context.log.reset();
        Ok(self.answer())
    }
}
