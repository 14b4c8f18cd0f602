//! `entry`: registration entries.

mod attributes;
mod change;
mod delete;
mod doubts;
mod file;
mod print;
mod show;

use clap::Subcommand;
use credence_command::{CommandError, Console};

use super::Remote;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Creates registration entries
    Create(Remote<change::Create>),
    /// Updates registration entries
    Update(Remote<change::Update>),
    /// Displays configured registration entries
    Show(Remote<show::Show>),
    /// Count registration entries
    Count(Remote<show::Count>),
    /// Deletes registration entries
    Delete(Remote<delete::Delete>),
}

impl Command {
    pub(super) async fn call(&self, console: &mut Console<'_>) -> Result<(), CommandError> {
        match self {
            Self::Create(command) => command.call(console).await,
            Self::Update(command) => command.call(console).await,
            Self::Show(command) => command.call(console).await,
            Self::Count(command) => command.call(console).await,
            Self::Delete(command) => command.call(console).await,
        }
    }
}

#[cfg(test)]
mod tests;
