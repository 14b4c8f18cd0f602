//! A forced rotation is harmless if each step is taken once every agent has taken the one before. Our server says who
//! hasn't; SPIRE's doesn't know, and then nothing holds the step up.

use std::time::Duration;

use credence_command::{CommandError, Console};
use credence_proto::credence::authority::v1 as pb;
use credence_proto::credence::authority::v1::authority_client::AuthorityClient;
pub(super) use credence_proto::credence::authority::v1::check_step_request::Step as WireStep;
use tokio::time::{Instant, sleep};
use tonic::Code;
use tonic::transport::Channel;

use super::Kind;

/// Obstacles that are shown.
const SHOWN: usize = 10;

/// How long the last agents may take to say that they have what they were just told.
const HEARD_WITHIN: Duration = Duration::from_millis(500);
/// How long to wait for workloads, once all agents are ready.
const SETTLED_WITHIN: Duration = Duration::from_secs(5);

/// Refuses a step that somebody isn't ready for, and warns of what it will cost all the same.
pub(super) async fn refuse_too_early(
    kind: Kind,
    step: WireStep,
    authority_id: &str,
    channel: &Channel,
    console: &mut Console<'_>,
) -> Result<(), CommandError> {
    let Some(answer) = settled(kind, step, authority_id, channel).await? else {
        return Ok(());
    };
    if answer.obstacle_count > 0 {
        let (verb, noun) = (verb(step), kind.noun());
        let text = obstacles(&answer);
        return Err(CommandError::new(format!(
            "it is too early to {verb} {noun} authority {authority_id}; wait, or use -force:{text}"
        )));
    }
    for note in &answer.notes {
        writeln!(console.err, "Warning: {note}")?;
    }
    Ok(())
}

/// Warns where agents don't hold the prepared authority yet. The step itself is SPIRE's: scripts take it at once.
pub(super) async fn warn_if_early(
    kind: Kind,
    authority_id: &str,
    channel: &Channel,
    console: &mut Console<'_>,
) -> Result<(), CommandError> {
    let answer = settled(kind, WireStep::Activate, authority_id, channel).await?;
    if let Some(answer) = answer.filter(|answer| answer.obstacle_count > 0) {
        let text = obstacles(&answer);
        writeln!(
            console.err,
            "Warning: what the authority signs can't be verified everywhere yet:{text}"
        )?;
    }
    Ok(())
}

/// What stands in the way when a moment has passed, if one was needed: scripts take one step right after the other.
async fn settled(
    kind: Kind,
    step: WireStep,
    authority_id: &str,
    channel: &Channel,
) -> Result<Option<pb::CheckStepResponse>, CommandError> {
    let began = Instant::now();
    loop {
        let answer = check(kind, step, authority_id, channel).await?;
        let patience = match &answer {
            Some(answer) if answer.obstacle_count == 0 => return Ok(Some(answer.clone())),
            Some(answer) if answer.settling => SETTLED_WITHIN,
            Some(_) => HEARD_WITHIN,
            None => return Ok(None),
        };
        if began.elapsed() >= patience {
            return Ok(answer);
        }
        sleep(Duration::from_millis(100)).await;
    }
}

/// What the server knows; nothing if it isn't ours.
async fn check(
    kind: Kind,
    step: WireStep,
    authority_id: &str,
    channel: &Channel,
) -> Result<Option<pb::CheckStepResponse>, CommandError> {
    let kind = match kind {
        Kind::X509 => pb::check_step_request::Kind::X509,
        Kind::Jwt => pb::check_step_request::Kind::Jwt,
    };
    let request = pb::CheckStepRequest {
        kind: kind.into(),
        step: step.into(),
        authority_id: authority_id.to_owned(),
    };
    match AuthorityClient::new(channel.clone()).check_step(request).await {
        Ok(answer) => Ok(Some(answer.into_inner())),
        // A policy of the operator's own may not know the call.
        Err(status) if matches!(status.code(), Code::Unimplemented | Code::PermissionDenied) => Ok(None),
        Err(status) => Err(CommandError::from(status).context("could not ask who isn't ready")),
    }
}

const fn verb(step: WireStep) -> &'static str {
    match step {
        WireStep::Activate => "activate",
        WireStep::Taint => "taint",
        WireStep::Revoke => "revoke",
    }
}

/// One line for each, indented.
fn obstacles(answer: &pb::CheckStepResponse) -> String {
    let mut text = String::new();
    for obstacle in answer.obstacles.iter().take(SHOWN) {
        text.push_str(&format!("\n  {}: {}", obstacle.spiffe_id, obstacle.reason));
    }
    let count = usize::try_from(answer.obstacle_count).unwrap_or(usize::MAX);
    let more = count.saturating_sub(answer.obstacles.len().min(SHOWN));
    if more > 0 {
        text.push_str(&format!("\n  and {more} more"));
    }
    text
}
