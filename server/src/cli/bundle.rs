//! `bundle`: the authorities of the trust domain, and of those that it federates with.

mod change;
pub(super) mod document;
mod read;

use clap::Subcommand;
use credence_command::{CommandError, Console};

use super::Remote;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Counts bundles, the server's own included
    Count(Remote<read::Count>),
    /// Prints the server's CA bundle
    Show(Remote<read::Show>),
    /// Prints the bundles of other trust domains
    List(Remote<read::List>),
    /// Creates or replaces the bundle of another trust domain
    Set(Remote<change::Set>),
    /// Deletes the bundle of another trust domain
    Delete(Remote<change::Delete>),
}

impl Command {
    pub(super) async fn call(&self, console: &mut Console<'_>) -> Result<(), CommandError> {
        match self {
            Self::Count(command) => command.call(console).await,
            Self::Show(command) => command.call(console).await,
            Self::List(command) => command.call(console).await,
            Self::Set(command) => command.call(console).await,
            Self::Delete(command) => command.call(console).await,
        }
    }
}
