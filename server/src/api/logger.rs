//! `spire.api.server.logger.v1.Logger`: the level of the running server's log.

use std::sync::Arc;

use credence_proto::spire::api::server::logger::v1 as pb;
use credence_proto::spire::api::types::{self, LogLevel};
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
            current_level: to_proto(log.level()).into(),
            launch_level: to_proto(log.launch_level()).into(),
        })
    }
}

fn to_proto(level: Level) -> LogLevel {
    match level {
        Level::Panic => LogLevel::Panic,
        Level::Fatal => LogLevel::Fatal,
        Level::Error => LogLevel::Error,
        Level::Warn => LogLevel::Warn,
        Level::Info => LogLevel::Info,
        Level::Debug => LogLevel::Debug,
        Level::Trace => LogLevel::Trace,
    }
}

fn from_proto(level: i32) -> Result<Level, Status> {
    match LogLevel::try_from(level) {
        Ok(LogLevel::Panic) => Ok(Level::Panic),
        Ok(LogLevel::Fatal) => Ok(Level::Fatal),
        Ok(LogLevel::Error) => Ok(Level::Error),
        Ok(LogLevel::Warn) => Ok(Level::Warn),
        Ok(LogLevel::Info) => Ok(Level::Info),
        Ok(LogLevel::Debug) => Ok(Level::Debug),
        Ok(LogLevel::Trace) => Ok(Level::Trace),
        Ok(LogLevel::Unspecified) => Err(Status::invalid_argument(
            "newLevel value cannot be LogLevel_UNSPECIFIED",
        )),
        Err(_) => Err(Status::invalid_argument(format!(
            "unsupported log level: {level}"
        ))),
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
        let level = from_proto(request.get_ref().new_level)?;
        self.context.log.set_level(level);
        tracing::info!(new_level = level.as_str(), "Setting log level");
        Ok(self.answer())
    }

    async fn reset_log_level(
        &self,
        _: Request<pb::ResetLogLevelRequest>,
    ) -> Result<Response<types::Logger>, Status> {
        self.context.log.reset();
        tracing::info!(
            new_level = self.context.log.level().as_str(),
            "Resetting log level"
        );
        Ok(self.answer())
    }
}
