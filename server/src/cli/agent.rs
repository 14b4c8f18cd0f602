//! `agent`: attested nodes.

mod list;
mod purge;
mod single;

use clap::Subcommand;
use credence_command::{CommandError, Console};

use super::Remote;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Lists attested agents and their SPIFFE IDs
    List(Remote<list::List>),
    /// Shows the details of an attested agent given its SPIFFE ID
    Show(Remote<single::Show>),
    /// Count attested agents
    Count(Remote<list::Count>),
    /// Ban an attested agent given its SPIFFE ID
    Ban(Remote<single::Ban>),
    /// Evicts an attested agent given its SPIFFE ID
    Evict(Remote<single::Evict>),
    /// Purges agents that expired and that can attest again
    Purge(Remote<purge::Purge>),
}

impl Command {
    pub(super) async fn call(&self, console: &mut Console<'_>) -> Result<(), CommandError> {
        match self {
            Self::List(command) => command.call(console).await,
            Self::Show(command) => command.call(console).await,
            Self::Count(command) => command.call(console).await,
            Self::Ban(command) => command.call(console).await,
            Self::Evict(command) => command.call(console).await,
            Self::Purge(command) => command.call(console).await,
        }
    }
}

#[cfg(test)]
mod tests;
