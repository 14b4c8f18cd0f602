//! `credence dev`: a whole trust domain on this machine in one command, for the first minute and for tests of others.
//!
//! It does what an operator does, by the same doors: writes two configuration files, starts server and agent from them,
//! creates a join token and an entry over the server's socket, and asks the Workload API as a workload. Nothing here
//! reaches into either program.

mod client;
mod place;
mod show;

use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use clap::Parser;
use credence_agent::config::{AgentConfig, AgentOverrides};
use credence_command::{Console, flags};
use credence_crypto::bundle::certificate_to_pem;
use credence_crypto::x509::Certificate;
use credence_identity::TrustDomain;
use credence_proto::spiffe_workload::X509svidResponse;
use credence_proto::spire::api::types::Bundle;
use credence_runtime::clock::{Clock, SystemClock};
use credence_runtime::config::Fault;
use credence_runtime::fs::write_atomic;
use credence_runtime::log::{self, LogHandle, LogOptions};
use credence_runtime::supervisor::Supervisor;
use credence_server::config::{ServerConfig, ServerOverrides};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tonic::Streaming;

use client::{Admin, Workload};
use place::Place;
use show::{Form, Issued, Welcome};

/// The node identity of the agent, and the workload's.
const NODE: &str = "/dev/node";
/// How long the parts may take to come up.
const START_LIMIT: Duration = Duration::from_secs(30);
/// Who the JWT-SVID that is shown is for.
const AUDIENCE: &str = "feature-store";

/// Start a trust domain on this machine: server, agent, and an identity for your user
#[derive(Debug, Parser)]
#[command(
    after_help = "Examples:\n  credence dev\n  credence dev --ttl 1m\n  credence dev -- python3 app.py"
)]
struct DevArgs {
    /// Name of the trust domain.
    #[arg(long, value_name = "NAME", default_value = "dev.credence.internal")]
    trust_domain: String,
    /// Lifetime of X.509-SVIDs, such as 30s, 10m or 1h.
    #[arg(long, value_name = "DURATION", default_value = "1h")]
    ttl: String,
    /// Keep the data in this folder instead of a fresh one that is removed at the end.
    #[arg(long, value_name = "FOLDER")]
    dir: Option<PathBuf>,
    /// One JSON object a line, for scripts.
    #[arg(long)]
    json: bool,
    /// Run this command with SPIFFE_ENDPOINT_SOCKET set, and end with its status.
    #[arg(last = true, value_name = "CMD")]
    command: Vec<String>,
}

/// The command line, for completion.
pub(crate) fn command() -> clap::Command {
    flags::command::<DevArgs>()
}

/// Runs `credence dev` with its own tokio runtime and returns the exit status: the command's, if there is one.
pub(crate) fn main(program: &str, arguments: &[String], console: &mut Console<'_>) -> u8 {
    let args = match flags::parse::<DevArgs>(&format!("{program} dev"), arguments, console) {
        Ok(args) => args,
        Err(status) => return status,
    };
    let outcome = tokio::runtime::Runtime::new()
        .context("start the runtime")
        .and_then(|runtime| runtime.block_on(run(&args, program, console)));
    outcome.unwrap_or_else(|error| {
        // Nothing better can be done when stderr is gone.
        drop(writeln!(console.err, "Error: {error:#}"));
        1
    })
}

/// Runs until a signal, or until the command ends; returns the status to end with.
async fn run(args: &DevArgs, program: &str, console: &mut Console<'_>) -> Result<u8> {
    let trust_domain = TrustDomain::parse(&args.trust_domain).context("--trust-domain")?;
    // Both before anything is started, so that an early Ctrl-C cleans up too.
    let mut interrupts = [signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?];
    let place = Place::new(args.dir.as_deref())?;
    let supervisor = Supervisor::new();
    let outcome = tokio::select! {
        outcome = serve(args, program, trust_domain, &place, &supervisor, console) => outcome,
        () = any(&mut interrupts) => Ok(0),
        failure = supervisor.wait() => Err(failure.err().map_or_else(|| anyhow!("stopped"), Into::into)),
    };
    supervisor.shutdown();
    supervisor.wait().await.context("stop")?;
    outcome.with_context(|| match &args.dir {
        Some(dir) => format!("see {}", dir.join("dev.log").display()),
        None => "use --dir to keep the log".to_owned(),
    })
}

async fn any(signals: &mut [Signal; 2]) {
    let [first, second] = signals;
    tokio::select! {
        _ = first.recv() => {}
        _ = second.recv() => {}
    }
}

async fn serve(
    args: &DevArgs,
    program: &str,
    trust_domain: TrustDomain,
    place: &Place,
    supervisor: &Supervisor,
    console: &mut Console<'_>,
) -> Result<u8> {
    let log = log::init(&LogOptions {
        file: Some(place.log()),
        ..LogOptions::default()
    })?;
    let server_address = start_server(args, place, log.clone(), supervisor).await?;
    let admin = Admin::connect(&place.server_socket(), trust_domain).await?;
    start_agent(args, &admin, place, (log, supervisor), server_address.port()).await?;
    let user = nix::unistd::User::from_uid(nix::unistd::geteuid()).ok().flatten();
    let uid = nix::unistd::geteuid().as_raw();
    let path = format!(
        "/dev/{}",
        user.map_or_else(|| format!("uid-{uid}"), |user| user.name)
    );
    admin.register(NODE, &path, uid).await?;

    let (mut workload, mut stream) = first_identity(place).await?;
    let issued = next_identity(&mut stream).await?;
    if let Some((name, arguments)) = args.command.split_first() {
        return run_command(name, arguments, place).await;
    }
    let token = workload.jwt_svid(AUDIENCE).await?;
    let form = Form::choose(args.json);
    let out = &mut console.out;
    let welcome = Welcome {
        place,
        server_address: server_address.to_string(),
        issued: &issued,
        token: &token,
        now: SystemClock.now(),
    };
    match form {
        Form::Json => welcome.json(out)?,
        Form::Terminal | Form::Lines => welcome.pretty(out, program)?,
    }
    for count in 1.. {
        let issued = next_identity(&mut stream).await?;
        show::renewal(out, form, count, &issued, SystemClock.now())?;
    }
    Ok(0)
}

async fn start_server(
    args: &DevArgs,
    place: &Place,
    log: LogHandle,
    supervisor: &Supervisor,
) -> Result<SocketAddr> {
    place.write_server_config(&args.trust_domain, &args.ttl)?;
    let (config, _) =
        ServerConfig::load(&place.server_config(), &ServerOverrides::default(), false).map_err(all)?;
    let plan = credence_server::app::Plan::of(config)?;
    Ok(
        credence_server::app::start(plan, Arc::new(SystemClock), log, supervisor)
            .await?
            .tcp,
    )
}

async fn start_agent(
    args: &DevArgs,
    admin: &Admin,
    place: &Place,
    (log, supervisor): (LogHandle, &Supervisor),
    port: u16,
) -> Result<()> {
    let bundle = x509_from_wire(&admin.bundle().await?);
    write_atomic(&place.bundle(), bundle.as_bytes(), 0o644)?;
    let token = admin.join_token(NODE).await?;
    place.write_agent_config(&args.trust_domain, port, &token)?;
    let (config, _) =
        AgentConfig::load(&place.agent_config(), &AgentOverrides::default(), false).map_err(all)?;
    let plan = credence_agent::app::Plan::of(config)?;
    credence_agent::app::start(plan, Arc::new(SystemClock), log, supervisor).await?;
    Ok(())
}

fn all(faults: Vec<Fault>) -> anyhow::Error {
    anyhow!(
        faults
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join("\n")
    )
}

fn x509_from_wire(bundle: &Bundle) -> String {
    bundle
        .x509_authorities
        .iter()
        .map(|authority| certificate_to_pem(&authority.asn1))
        .collect()
}

/// The stream of our identity, once there is one.
async fn first_identity(place: &Place) -> Result<(Workload, Streaming<X509svidResponse>)> {
    let deadline = tokio::time::Instant::now() + START_LIMIT;
    loop {
        if let Ok(mut workload) = Workload::connect(&place.agent_socket()).await
            && let Some(stream) = workload.x509_svids().await?
        {
            return Ok((workload, stream));
        }
        if tokio::time::Instant::now() > deadline {
            bail!("no identity within {} s", START_LIMIT.as_secs());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The next X.509-SVID of the stream; the first identity is the workload's default one.
async fn next_identity(stream: &mut Streaming<X509svidResponse>) -> Result<Issued> {
    let answer = stream.message().await?.context("the agent closed the stream")?;
    let svid = answer
        .svids
        .into_iter()
        .next()
        .context("the agent sent no identity")?;
    let mut chain = Certificate::parse_concatenated(&svid.x509_svid)?;
    chain.extend(Certificate::parse_concatenated(&svid.bundle)?);
    Ok(Issued {
        spiffe_id: svid.spiffe_id,
        chain,
    })
}

/// Runs the command and returns its status as a shell would: 128 + N if signal N ended it.
async fn run_command(name: &str, arguments: &[String], place: &Place) -> Result<u8> {
    let status = tokio::process::Command::new(name)
        .args(arguments)
        .env("SPIFFE_ENDPOINT_SOCKET", show::endpoint(place))
        .kill_on_drop(true)
        .status()
        .await
        .with_context(|| format!("run {name}"))?;
    let code = status
        .code()
        .or_else(|| status.signal().map(|signal| 128 + signal))
        .unwrap_or(1);
    Ok(u8::try_from(code).unwrap_or(1))
}
