//! A server that was replaced by one with other authorities.

use super::*;
use crate::attestor::node::X509Pop;
use crate::explain::{Note, TroubleKind};
use crate::state::BootstrapState;
use crate::sync::{BundleFormat, RebootstrapMode};

const DELAY: Duration = Duration::from_secs(600);

/// A plan for an agent that may attest again; its bundle is in the file `bundle.pem`.
fn plan(lab: &Lab, attestor: &X509Pop, mode: RebootstrapMode) -> SyncPlan {
    let keys = KeyManager::disk(&lab.path("keys")).unwrap();
    SyncPlan {
        bundle: BundleSource::Path(lab.path("bundle.pem"), BundleFormat::Pem),
        rebootstrap: Rebootstrap { mode, delay: DELAY },
        interval: Duration::from_millis(50),
        ..lab.plan(Arc::new(attestor.clone()), "data", keys)
    }
}

async fn until<T>(mut found: impl FnMut() -> Option<T>) -> T {
    let wait = async {
        loop {
            if let Some(found) = found() {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, wait).await.expect("in time")
}

/// Waits until the agent has seen the server's authority, from that moment on, and doesn't know it.
async fn doubts(journal: &Journal, from: Timestamp) {
    let doubted = |note: &Note| note.trouble.kind == TroubleKind::ServerNotTrusted && note.at >= from;
    until(|| journal.notes().synchronisation.filter(doubted)).await;
}

fn saved(lab: &Lab) -> (bool, bool, BootstrapState) {
    let state = StateFile::open(&lab.path("data")).unwrap();
    let has_svid = state.svid().unwrap().is_some();
    (has_svid, !state.bundle().unwrap().is_empty(), state.bootstrap())
}

#[tokio::test]
async fn without_rebootstrapping_an_agent_keeps_what_it_has_when_its_server_is_replaced() {
    let (mut lab, attestor) = Lab::with_certificate().await;
    lab.publish(&lab.path("bundle.pem")).await;
    let plan = plan(&lab, &attestor, RebootstrapMode::Never);
    let journal = plan.journal.clone();
    let agent = Agent::start(plan, &lab).await;
    lab.create(&agent.id, &[("a", "one", 1)]).await;
    agent.serves(1, &["/one"]).await;
    lab.replace().await;
    doubts(&journal, START).await;
    lab.publish(&lab.path("bundle.pem")).await;
    lab.clock.step_forward(2 * DELAY);
    doubts(&journal, START + 2 * DELAY).await;
    agent.serves(1, &["/one"]).await;
    let (svid, bundle, bootstrap) = saved(&lab);
    assert!(svid && bundle && bootstrap.began.is_none());
    agent.stop().await;
}

#[tokio::test]
async fn with_it_the_agent_bears_the_server_for_a_while_looks_at_its_source_and_begins_anew() {
    let (mut lab, attestor) = Lab::with_certificate().await;
    lab.publish(&lab.path("bundle.pem")).await;
    let first = plan(&lab, &attestor, RebootstrapMode::Auto);
    let state = first.state.clone();
    let agent = Agent::start(first, &lab).await;
    lab.create(&agent.id, &[("a", "one", 1)]).await;
    agent.serves(1, &["/one"]).await;

    // The right server comes back in time: the next time is counted anew.
    let right = lab.replace().await;
    until(|| state.bootstrap().began).await;
    lab.clock.step_forward(DELAY / 2);
    lab.replace_by(right).await;
    until(|| state.bootstrap().began.is_none().then_some(())).await;

    lab.replace().await;
    let began = until(|| state.bootstrap().began).await;
    assert!(began >= (START + DELAY / 2).floor_to_second());
    lab.clock.step_forward(DELAY);
    // Its source has only the old authorities: they would be lost for nothing.
    until(|| (state.bootstrap().attempts >= 2).then_some(())).await;
    agent.serves(1, &["/one"]).await;
    assert!(state.svid().unwrap().is_some());

    lab.publish(&lab.path("bundle.pem")).await;
    let failure = agent.end().await;
    assert!(
        matches!(end_of(&failure), AgentEnd::Rebootstrap(_)),
        "{failure:?}"
    );
    let (svid, bundle, bootstrap) = saved(&lab);
    assert!(!svid && !bundle && bootstrap.again && bootstrap.began.is_some());

    let again = Agent::start(plan(&lab, &attestor, RebootstrapMode::Auto), &lab).await;
    assert_eq!(again.id, agent.id);
    lab.create(&again.id, &[("a", "two", 1)]).await;
    again.serves(1, &["/two"]).await;
    let (svid, bundle, bootstrap) = saved(&lab);
    let well = BootstrapState {
        again: true,
        began: None,
        attempts: 0,
    };
    assert!(svid && bundle);
    assert_eq!(bootstrap, well);
    again.stop().await;
}

#[tokio::test]
async fn an_agent_that_starts_without_an_svid_passes_over_a_saved_bundle_that_fits_no_more() {
    let (mut lab, attestor) = Lab::with_certificate().await;
    lab.publish(&lab.path("bundle.pem")).await;
    let first = Agent::start(plan(&lab, &attestor, RebootstrapMode::Always), &lab).await;
    first.stop().await;
    lab.replace().await;
    lab.publish(&lab.path("bundle.pem")).await;
    let again = plan(&lab, &attestor, RebootstrapMode::Always);
    again.state.delete_svid().unwrap();
    let seen = BootstrapState {
        again: true,
        began: Some(lab.clock.now() - DELAY),
        attempts: 0,
    };
    again.state.store_bootstrap(seen).unwrap();
    let again = Agent::start(again, &lab).await;
    assert_eq!(saved(&lab).2.began, None);
    again.stop().await;
}

#[tokio::test]
async fn a_node_that_cannot_attest_again_cannot_bootstrap_again() {
    let lab = Lab::new().await;
    let token: Arc<dyn NodeAttestor> = Arc::new(JoinToken::new(lab.token().await));
    let plan = |mode| SyncPlan {
        rebootstrap: Rebootstrap { mode, delay: DELAY },
        ..lab.plan(
            token.clone(),
            "data",
            KeyManager::disk(&lab.path("keys")).unwrap(),
        )
    };
    let refused = Agent::try_start(plan(RebootstrapMode::Always), &lab).await;
    assert!(matches!(refused, Err(FirstError::NoRebootstrap(_))));
    // The token is still there.
    let agent = Agent::start(plan(RebootstrapMode::Auto), &lab).await;
    agent.stop().await;
    let refused = Agent::try_start(plan(RebootstrapMode::Always), &lab).await;
    assert!(matches!(refused, Err(FirstError::NoRebootstrap(_))));
}
