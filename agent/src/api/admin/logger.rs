//! `spire.api.agent.logger.v1.Logger`: the level of the running agent's log.

use credence_proto::spire::api::agent::logger::v1 as pb;
use credence_proto::spire::api::types;
use credence_runtime::log::{Level, LogHandle};
use tonic::{Request, Response, Status};

/// The service.
#[derive(Debug)]
pub(super) struct LoggerService {
    pub(super) log: LogHandle,
}

impl LoggerService {
    fn answer(&self) -> Response<types::Logger> {
        Response::new(types::Logger {
            current_level: self.log.level().api_number(),
            launch_level: self.log.launch_level().api_number(),
        })
    }
}

#[tonic::async_trait]
impl pb::logger_server::Logger for LoggerService {
    async fn get_logger(&self, _: Request<pb::GetLoggerRequest>) -> Result<Response<types::Logger>, Status> {
        tracing::info!(service = "Logger", method = "GetLogger", "GetLogger Called");
        Ok(self.answer())
    }

    async fn set_log_level(
        &self,
        request: Request<pb::SetLogLevelRequest>,
    ) -> Result<Response<types::Logger>, Status> {
        let level = match request.into_inner().new_level {
            0 => Err("newLevel value cannot be LogLevel_UNSPECIFIED"),
            number => Level::from_api_number(number).ok_or("unsupported log level"),
        };
        let level = level.map_err(Status::invalid_argument)?;
        tracing::info!(
            service = "Logger",
            method = "SetLogLevel",
            new_log_level = level.as_str(),
            "SetLogLevel Called"
        );
        self.log.set_level(level);
        Ok(self.answer())
    }

    async fn reset_log_level(
        &self,
        _: Request<pb::ResetLogLevelRequest>,
    ) -> Result<Response<types::Logger>, Status> {
        tracing::info!(
            service = "Logger",
            method = "ResetLogLevel",
            launch_log_level = self.log.launch_level().as_str(),
            "ResetLogLevel Called"
        );
        self.log.reset();
        Ok(self.answer())
    }
}
