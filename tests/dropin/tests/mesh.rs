//! A mesh of mTLS pairs, each with one workload behind SPIRE's agent and one behind ours, lives through the replacement
//! of our server's authorities: each step is taken once every agent shows the one before.

mod pairs;

use std::fmt::{self, Display, Write};
use std::process::Output;
use std::time::Duration;

use credence_dropin::{Programs, Site, said, spire};
use credence_proto::credence::authority::v1::authority_client::AuthorityClient;
use credence_proto::credence::authority::v1::{CheckStepRequest, check_step_request as check};
use credence_runtime::grpc::connect_unix;
use credence_test_support::{Process, counterparts, wait_until};
use nix::sys::signal::Signal;
use serde_json::Value;

use self::pairs::Mesh;
use crate::mtls::NAME;
use crate::{credence, passed};

const PAIRS: usize = 20;
/// Our agent's node and that of SPIRE's.
const NODES: [&str; 2] = ["ours", SPIRES];
const SPIRES: &str = "spires";
const PATIENCE: Duration = Duration::from_secs(60);

/// What is replaced.
#[derive(Debug, Clone, Copy)]
enum Kind {
    X509,
    Jwt,
}

impl Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::X509 => "x509",
            Self::Jwt => "jwt",
        })
    }
}

/// A workload of each pair at each of the two nodes.
fn entries() -> String {
    let mut text = String::from("{\"entries\": [");
    for n in 0..PAIRS {
        for node in NODES {
            write!(
                text,
                "{comma}{{\"parent_id\": \"spiffe://example.org/node/{node}\", \
                 \"spiffe_id\": \"spiffe://example.org/{node}/{n}\", \"dns_names\": [\"{NAME}\"], \
                 \"selectors\": [{{\"type\": \"unix\", \"value\": \"uid:{uid}\"}}]}}",
                comma = if text.ends_with('}') { "," } else { "" },
                uid = nix::unistd::geteuid(),
            )
            .expect("write to a string");
        }
    }
    text + "]}"
}

/// Our server with its command line, and SPIRE's agent beside ours.
struct Scene {
    site: Site,
    cli: Programs,
    mesh: Mesh,
    theirs: Process,
}

impl Scene {
    fn command(&self, kind: Kind, words: &str) -> Output {
        let line = format!("localauthority {kind} {words}");
        let words: Vec<_> = line.split_whitespace().collect();
        self.site.server_cli(&self.cli, &words)
    }

    /// Runs a command that must succeed and returns the ID at `pointer` of its JSON.
    fn id(&self, kind: Kind, words: &str, pointer: &str) -> String {
        let output = self.command(kind, &format!("{words} -output json"));
        let printed: Value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}", said(&output)));
        let id = printed.pointer(pointer).and_then(Value::as_str);
        id.unwrap_or_else(|| panic!("no {pointer} in {printed}"))
            .to_owned()
    }

    /// Runs `act` while SPIRE's agent stands still: it can't have learnt of what `act` did.
    fn held<T>(&self, act: impl FnOnce() -> T) -> T {
        self.theirs.signal(Signal::SIGSTOP);
        let done = act();
        self.theirs.signal(Signal::SIGCONT);
        done
    }

    /// How many agents aren't ready for the activation, which the command line warns of but doesn't hold up.
    fn unready(&self, kind: Kind, id: &str) -> u32 {
        let kind = match kind {
            Kind::X509 => check::Kind::X509,
            Kind::Jwt => check::Kind::Jwt,
        };
        let request = CheckStepRequest {
            kind: kind.into(),
            step: check::Step::Activate.into(),
            authority_id: id.to_owned(),
        };
        let answer = self.mesh.runtime.block_on(async {
            let channel = connect_unix(&self.site.server_socket()).await.expect("connect");
            AuthorityClient::new(channel).check_step(request).await
        });
        answer.expect("an answer").into_inner().obstacle_count
    }

    /// Replaces the authority, step by step; returns how often a step was refused as too early.
    fn replace(&self, kind: Kind) -> usize {
        let Self { mesh, .. } = self;
        let old = self.id(kind, "show", "/active/authority_id");
        mesh.wait_for_signer(kind, &old);

        let new = self.held(|| {
            let new = self.id(kind, "prepare", "/prepared_authority/authority_id");
            assert_ne!(self.unready(kind, &new), 0, "SPIRE's agent can't have it");
            new
        });
        mesh.wait_for_authorities(kind, 2);
        mesh.wait("all agents hold the new authority", || {
            self.unready(kind, &new) == 0
        });

        let activated = self.command(kind, &format!("activate -authorityID {new}"));
        assert!(
            activated.status.success() && activated.stderr.is_empty(),
            "{}",
            said(&activated)
        );
        let revoke = format!("revoke -authorityID {old}");
        let early = self.command(kind, &revoke);
        assert!(!early.status.success(), "untainted: {}", said(&early));
        mesh.round("calls with two authorities that sign");

        self.held(|| {
            let tainted = self.command(kind, &format!("taint -authorityID {old}"));
            assert!(tainted.status.success(), "{}", said(&tainted));
            assert!(self.too_early(kind, &revoke), "SPIRE's agent can't be ready");
        });
        // The refusals are all that keeps this from coming too early.
        let mut refused = 1;
        mesh.wait("the revocation", || {
            let early = self.too_early(kind, &revoke);
            refused += usize::from(early);
            !early
        });
        mesh.wait_for_authorities(kind, 1);
        mesh.round("calls after the revocation");
        mesh.wait_for_signer(kind, &new);
        refused
    }

    /// Takes the step without `-force`; true if it was refused as too early.
    fn too_early(&self, kind: Kind, words: &str) -> bool {
        let output = self.command(kind, words);
        let early = String::from_utf8_lossy(&output.stderr).contains("it is too early to");
        assert!(early != output.status.success(), "{}", said(&output));
        early
    }
}

/// X.509 and JWT authorities are prepared, activated, tainted and revoked under the calls of the mesh.
#[test]
fn a_mesh_of_20_pairs_loses_no_call_while_authorities_are_replaced() {
    const TEST: &str = "mesh of 20 pairs (mTLS calls)";
    let Some(spire) = spire(TEST) else {
        return;
    };
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    let (site, cli) = (Site::new(""), credence());
    let _server = site.start_server(&cli);
    let [ours, theirs] = NODES;
    let _ours = site.join(&cli, &cli, ours, "");
    let theirs = site.join(&cli, &spire, theirs, "");
    let created = site.server_cli_with(&cli, &["entry", "create", "-data", "-"], &entries());
    assert!(created.status.success(), "{}", said(&created));
    for node in NODES {
        wait_until("all identities arrive", PATIENCE, || {
            let fetched = site.agent_cli(&cli, node, &["api", "fetch", "x509"]);
            let listed = String::from_utf8_lossy(&fetched.stdout);
            (listed.matches("SPIFFE ID:").count() == PAIRS).then_some(())
        });
    }
    let mesh = Mesh::start(&site);
    mesh.round("calls before");
    let scene = Scene {
        site,
        cli,
        mesh,
        theirs,
    };
    let refused = [Kind::X509, Kind::Jwt].map(|kind| scene.replace(kind));
    let calls = scene.mesh.end();
    counterparts::record(
        "spire (mesh)",
        &format!(
            "{calls} calls, none lost; {refused:?} revocations of X.509 and JWT authorities refused as too early"
        ),
    );
    passed(TEST, calls, &spire);
}
