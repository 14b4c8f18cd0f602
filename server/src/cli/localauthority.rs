//! `localauthority`: rotation of the authorities by hand. X.509 and JWT have the same commands.

mod guard;

use clap::{Args, Subcommand};
use credence_command::{CommandError, Console, json, output::Output};
use credence_proto::spire::api::server::localauthority::v1 as pb;
use credence_proto::spire::api::server::localauthority::v1::local_authority_client::LocalAuthorityClient;
use prost::{Message, Name};
use serde_json::Value;
use tonic::transport::Channel;
use tonic::{Response, Status};

use super::{Remote, SOCKET, request::date};
use guard::{WireStep, refuse_too_early, warn_if_early};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// The server's X.509 authorities
    #[command(subcommand)]
    X509(Step),
    /// The server's JWT authorities
    #[command(subcommand)]
    Jwt(Step),
}

#[derive(Debug, Subcommand)]
pub(super) enum Step {
    /// Lists the authority that signs, the prepared one and the old one
    Show(Remote<Show>),
    /// Makes a further authority and publishes it in the bundle; it doesn't sign yet
    Prepare(Remote<Prepare>),
    /// Lets the prepared authority sign from now on
    Activate(Remote<Activate>),
    /// Declares an old authority compromised: all that it signed is issued anew
    Taint(Remote<Taint>),
    /// Takes a tainted authority out of the bundle: nothing that it signed is valid any more
    Revoke(Remote<Revoke>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    X509,
    Jwt,
}

impl Kind {
    const fn noun(self) -> &'static str {
        match self {
            Self::X509 => "X.509",
            Self::Jwt => "JWT",
        }
    }
}

impl Command {
    pub(super) async fn call(&self, console: &mut Console<'_>) -> Result<(), CommandError> {
        let (kind, step) = match self {
            Self::X509(step) => (Kind::X509, step),
            Self::Jwt(step) => (Kind::Jwt, step),
        };
        match step {
            Step::Show(step) => call(step, kind, console).await,
            Step::Prepare(step) => call(step, kind, console).await,
            Step::Activate(step) => call(step, kind, console).await,
            Step::Taint(step) => call(step, kind, console).await,
            Step::Revoke(step) => call(step, kind, console).await,
        }
    }
}

async fn call<C: Args + KindCommand>(
    step: &Remote<C>,
    kind: Kind,
    console: &mut Console<'_>,
) -> Result<(), CommandError> {
    let channel = step.socket.connect(&SOCKET).await?;
    step.command.run(kind, channel, console).await
}

/// A command that X.509 and JWT authorities have.
trait KindCommand {
    async fn run(&self, kind: Kind, channel: Channel, console: &mut Console<'_>) -> Result<(), CommandError>;
}

#[derive(Args, Debug)]
pub(super) struct Show {
    #[command(flatten)]
    output: Output,
}

#[derive(Args, Debug)]
pub(super) struct Prepare {
    #[command(flatten)]
    output: Output,
}

#[derive(Args, Debug)]
pub(super) struct Activate {
    /// ID of the prepared authority
    #[arg(
        long = "authorityID",
        value_name = "ID",
        default_value = "",
        hide_default_value = true
    )]
    authority_id: String,
    #[command(flatten)]
    output: Output,
}

#[derive(Args, Debug)]
pub(super) struct Taint {
    /// ID of the old authority
    #[arg(
        long = "authorityID",
        value_name = "ID",
        default_value = "",
        hide_default_value = true
    )]
    authority_id: String,
    /// Don't wait for agents that haven't taken the step before
    #[arg(long = "force")]
    force: bool,
    #[command(flatten)]
    output: Output,
}

#[derive(Args, Debug)]
pub(super) struct Revoke {
    /// ID of the tainted authority
    #[arg(
        long = "authorityID",
        value_name = "ID",
        default_value = "",
        hide_default_value = true
    )]
    authority_id: String,
    /// Don't wait for agents that haven't taken the step before
    #[arg(long = "force")]
    force: bool,
    #[command(flatten)]
    output: Output,
}

impl KindCommand for Show {
    async fn run(&self, kind: Kind, channel: Channel, console: &mut Console<'_>) -> Result<(), CommandError> {
        let mut client = LocalAuthorityClient::new(channel);
        let (value, states) = match kind {
            Kind::X509 => {
                let request = pb::GetX509AuthorityStateRequest {};
                let answer = client.get_x509_authority_state(request).await;
                let shown = answer.map_err(|status| {
                    CommandError::from(status).context("could not get X.509 authorities")
                })?;
                let shown = shown.into_inner();
                (json::message(&shown)?, [shown.active, shown.prepared, shown.old])
            }
            Kind::Jwt => {
                let request = pb::GetJwtAuthorityStateRequest {};
                let shown = client.get_jwt_authority_state(request).await?.into_inner();
                (json::message(&shown)?, [shown.active, shown.prepared, shown.old])
            }
        };
        if self.output.format.is_data() {
            return self.output.format.print(console.out, &[value]);
        }
        let noun = kind.noun();
        let names = [
            ("", "Active", "active"),
            ("\n", "Prepared", "prepared"),
            ("\n", "Old", "old"),
        ];
        for ((gap, title, name), state) in names.into_iter().zip(&states) {
            writeln!(console.out, "{gap}{title} {noun} authority:")?;
            match state {
                Some(state) => print(kind, state, console)?,
                None => writeln!(console.out, "  No {name} {noun} authority found")?,
            }
        }
        Ok(())
    }
}

impl KindCommand for Prepare {
    async fn run(&self, kind: Kind, channel: Channel, console: &mut Console<'_>) -> Result<(), CommandError> {
        Change::Prepare.make(kind, channel, self.output, console).await
    }
}

impl KindCommand for Activate {
    async fn run(&self, kind: Kind, channel: Channel, console: &mut Console<'_>) -> Result<(), CommandError> {
        let id = required(&self.authority_id)?;
        warn_if_early(kind, &id, &channel, console).await?;
        Change::Activate(id)
            .make(kind, channel, self.output, console)
            .await
    }
}

impl KindCommand for Taint {
    async fn run(&self, kind: Kind, channel: Channel, console: &mut Console<'_>) -> Result<(), CommandError> {
        let id = required(&self.authority_id)?;
        if !self.force {
            refuse_too_early(kind, WireStep::Taint, &id, &channel, console).await?;
        }
        Change::Taint(id).make(kind, channel, self.output, console).await
    }
}

impl KindCommand for Revoke {
    async fn run(&self, kind: Kind, channel: Channel, console: &mut Console<'_>) -> Result<(), CommandError> {
        let id = required(&self.authority_id)?;
        if !self.force {
            refuse_too_early(kind, WireStep::Revoke, &id, &channel, console).await?;
        }
        Change::Revoke(id).make(kind, channel, self.output, console).await
    }
}

/// A step that changes something, with the ID of the authority.
enum Change {
    Prepare,
    Activate(String),
    Taint(String),
    Revoke(String),
}

impl Change {
    /// What is done, what was done, and that as a title.
    const fn words(&self) -> [&'static str; 3] {
        match self {
            Self::Prepare => ["prepare", "prepared", "Prepared"],
            Self::Activate(_) => ["activate", "activated", "Activated"],
            Self::Taint(_) => ["taint", "tainted", "Tainted"],
            Self::Revoke(_) => ["revoke", "revoked", "Revoked"],
        }
    }

    async fn make(
        self,
        kind: Kind,
        channel: Channel,
        output: Output,
        console: &mut Console<'_>,
    ) -> Result<(), CommandError> {
        let ([verb, name, title], noun) = (self.words(), kind.noun());
        let (value, state) = self
            .call(kind, &mut LocalAuthorityClient::new(channel))
            .await
            .map_err(|error| error.context(format_args!("could not {verb} {noun} authority")))?;
        if output.format.is_data() {
            return output.format.print(console.out, &[value]);
        }
        writeln!(console.out, "{title} {noun} authority:")?;
        let missing = || format!("internal error: expected to have {name} {noun} authority information");
        print(kind, &state.ok_or_else(|| CommandError::new(missing()))?, console)
    }

    async fn call(
        self,
        kind: Kind,
        client: &mut LocalAuthorityClient<Channel>,
    ) -> Result<(Value, Option<pb::AuthorityState>), CommandError> {
        match (kind, self) {
            (Kind::X509, Self::Prepare) => {
                let request = pb::PrepareX509AuthorityRequest {};
                told(client.prepare_x509_authority(request).await, |it| {
                    it.prepared_authority
                })
            }
            (Kind::X509, Self::Activate(authority_id)) => {
                let request = pb::ActivateX509AuthorityRequest { authority_id };
                told(client.activate_x509_authority(request).await, |it| {
                    it.activated_authority
                })
            }
            (Kind::X509, Self::Taint(authority_id)) => {
                let request = pb::TaintX509AuthorityRequest { authority_id };
                told(client.taint_x509_authority(request).await, |it| {
                    it.tainted_authority
                })
            }
            (Kind::X509, Self::Revoke(authority_id)) => {
                let request = pb::RevokeX509AuthorityRequest { authority_id };
                told(client.revoke_x509_authority(request).await, |it| {
                    it.revoked_authority
                })
            }
            (Kind::Jwt, Self::Prepare) => {
                let request = pb::PrepareJwtAuthorityRequest {};
                told(client.prepare_jwt_authority(request).await, |it| {
                    it.prepared_authority
                })
            }
            (Kind::Jwt, Self::Activate(authority_id)) => {
                let request = pb::ActivateJwtAuthorityRequest { authority_id };
                told(client.activate_jwt_authority(request).await, |it| {
                    it.activated_authority
                })
            }
            (Kind::Jwt, Self::Taint(authority_id)) => {
                let request = pb::TaintJwtAuthorityRequest { authority_id };
                told(client.taint_jwt_authority(request).await, |it| {
                    it.tainted_authority
                })
            }
            (Kind::Jwt, Self::Revoke(authority_id)) => {
                let request = pb::RevokeJwtAuthorityRequest { authority_id };
                told(client.revoke_jwt_authority(request).await, |it| {
                    it.revoked_authority
                })
            }
        }
    }
}

/// An answer for scripts, and what it says of the authority.
fn told<M: Message + Name>(
    answer: Result<Response<M>, Status>,
    state: impl FnOnce(M) -> Option<pb::AuthorityState>,
) -> Result<(Value, Option<pb::AuthorityState>), CommandError> {
    let answer = answer?.into_inner();
    Ok((json::message(&answer)?, state(answer)))
}

fn print(kind: Kind, state: &pb::AuthorityState, console: &mut Console<'_>) -> Result<(), CommandError> {
    writeln!(console.out, "  Authority ID: {}", state.authority_id)?;
    writeln!(console.out, "  Expires at: {}", date(state.expires_at))?;
    if kind == Kind::X509 {
        match state.upstream_authority_subject_key_id.as_str() {
            "" => writeln!(console.out, "  Upstream authority ID: No upstream authority")?,
            id => writeln!(console.out, "  Upstream authority Subject Key ID: {id}")?,
        }
    }
    Ok(())
}

fn required(authority_id: &str) -> Result<String, CommandError> {
    if authority_id.is_empty() {
        return Err(CommandError::new("an authority ID is required"));
    }
    Ok(authority_id.to_owned())
}
