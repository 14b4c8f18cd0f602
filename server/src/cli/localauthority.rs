//! `localauthority`: rotation of the authorities by hand. X.509 and JWT have the same commands.

mod guard;

use clap::{Args, Subcommand};
use credence_command::{CommandError, Console, json, output::Output};
use credence_proto::spire::api::server::localauthority::v1 as pb;
use credence_proto::spire::api::server::localauthority::v1::local_authority_client::LocalAuthorityClient;
use prost::{Message, Name};
use tonic::transport::Channel;

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
                let shown = answer.map_err(could_not("get X.509 authorities"))?.into_inner();
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
        let mut client = LocalAuthorityClient::new(channel);
        let done = Done {
            kind,
            title: "Prepared",
            name: "prepared",
            output: self.output,
        };
        match kind {
            Kind::X509 => {
                let answer = client
                    .prepare_x509_authority(pb::PrepareX509AuthorityRequest {})
                    .await;
                let answer = answer.map_err(could_not("prepare X.509 authority"))?.into_inner();
                done.print(&answer, answer.prepared_authority.as_ref(), console)
            }
            Kind::Jwt => {
                let answer = client
                    .prepare_jwt_authority(pb::PrepareJwtAuthorityRequest {})
                    .await;
                let answer = answer.map_err(could_not("prepare JWT authority"))?.into_inner();
                done.print(&answer, answer.prepared_authority.as_ref(), console)
            }
        }
    }
}

impl KindCommand for Activate {
    async fn run(&self, kind: Kind, channel: Channel, console: &mut Console<'_>) -> Result<(), CommandError> {
        let authority_id = required(&self.authority_id)?;
        warn_if_early(kind, &authority_id, &channel, console).await?;
        let mut client = LocalAuthorityClient::new(channel);
        let done = Done {
            kind,
            title: "Activated",
            name: "activated",
            output: self.output,
        };
        match kind {
            Kind::X509 => {
                let request = pb::ActivateX509AuthorityRequest { authority_id };
                let answer = client.activate_x509_authority(request).await;
                let answer = answer
                    .map_err(could_not("activate X.509 authority"))?
                    .into_inner();
                done.print(&answer, answer.activated_authority.as_ref(), console)
            }
            Kind::Jwt => {
                let request = pb::ActivateJwtAuthorityRequest { authority_id };
                let answer = client.activate_jwt_authority(request).await;
                let answer = answer.map_err(could_not("activate JWT authority"))?.into_inner();
                done.print(&answer, answer.activated_authority.as_ref(), console)
            }
        }
    }
}

impl KindCommand for Taint {
    async fn run(&self, kind: Kind, channel: Channel, console: &mut Console<'_>) -> Result<(), CommandError> {
        let authority_id = required(&self.authority_id)?;
        if !self.force {
            refuse_too_early(kind, WireStep::Taint, &authority_id, &channel, console).await?;
        }
        let mut client = LocalAuthorityClient::new(channel);
        let done = Done {
            kind,
            title: "Tainted",
            name: "tainted",
            output: self.output,
        };
        match kind {
            Kind::X509 => {
                let answer = client
                    .taint_x509_authority(pb::TaintX509AuthorityRequest { authority_id })
                    .await;
                let answer = answer.map_err(could_not("taint X.509 authority"))?.into_inner();
                done.print(&answer, answer.tainted_authority.as_ref(), console)
            }
            Kind::Jwt => {
                let answer = client
                    .taint_jwt_authority(pb::TaintJwtAuthorityRequest { authority_id })
                    .await;
                let answer = answer.map_err(could_not("taint JWT authority"))?.into_inner();
                done.print(&answer, answer.tainted_authority.as_ref(), console)
            }
        }
    }
}

impl KindCommand for Revoke {
    async fn run(&self, kind: Kind, channel: Channel, console: &mut Console<'_>) -> Result<(), CommandError> {
        let authority_id = required(&self.authority_id)?;
        if !self.force {
            refuse_too_early(kind, WireStep::Revoke, &authority_id, &channel, console).await?;
        }
        let mut client = LocalAuthorityClient::new(channel);
        let done = Done {
            kind,
            title: "Revoked",
            name: "revoked",
            output: self.output,
        };
        match kind {
            Kind::X509 => {
                let answer = client
                    .revoke_x509_authority(pb::RevokeX509AuthorityRequest { authority_id })
                    .await;
                let answer = answer.map_err(could_not("revoke X.509 authority"))?.into_inner();
                done.print(&answer, answer.revoked_authority.as_ref(), console)
            }
            Kind::Jwt => {
                let answer = client
                    .revoke_jwt_authority(pb::RevokeJwtAuthorityRequest { authority_id })
                    .await;
                let answer = answer.map_err(could_not("revoke JWT authority"))?.into_inner();
                done.print(&answer, answer.revoked_authority.as_ref(), console)
            }
        }
    }
}

/// A step that was taken.
struct Done {
    kind: Kind,
    title: &'static str,
    name: &'static str,
    output: Output,
}

impl Done {
    fn print<M: Message + Name>(
        &self,
        answer: &M,
        state: Option<&pb::AuthorityState>,
        console: &mut Console<'_>,
    ) -> Result<(), CommandError> {
        if self.output.format.is_data() {
            return self.output.format.print(console.out, &[json::message(answer)?]);
        }
        let Self {
            kind, title, name, ..
        } = self;
        let noun = kind.noun();
        writeln!(console.out, "{title} {noun} authority:")?;
        let missing = || {
            CommandError::new(format!(
                "internal error: expected to have {name} {noun} authority information"
            ))
        };
        print(*kind, state.ok_or_else(missing)?, console)
    }
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

fn could_not(what: &'static str) -> impl FnOnce(tonic::Status) -> CommandError {
    move |status| CommandError::from(status).context(format_args!("could not {what}"))
}
