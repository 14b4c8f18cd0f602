//! Misconfigured entries, sockets and a server that is away, below one agent that runs throughout.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::time::{SystemTime, UNIX_EPOCH};

use credence_proto::spiffe_workload::X509svidRequest;
use credence_proto::spiffe_workload::spiffe_workload_api_client::SpiffeWorkloadApiClient;
use credence_runtime::grpc::{RequestId, connect_unix};

use super::Case;
use super::world::{World, own_uid};

const fn case(area: &'static str, name: &'static str, run: fn(&mut World, &str)) -> Case {
    Case { area, name, run }
}

pub(super) const CASES: &[Case] = &[
    case("selectors", "wrong-uid", |w, n| {
        selector(w, n, "selector-missing", |_| "unix:uid:4242".into())
    }),
    case("selectors", "wrong-user", |w, n| {
        selector(w, n, "selector-missing", |_| "unix:user:nobodyatall".into())
    }),
    case("selectors", "unknown-type", |w, n| {
        selector(w, n, "selector-type-unknown", |uid| uid.replace("unix", "unx"))
    }),
    case("selectors", "unknown-kind", |w, n| {
        selector(w, n, "selector-kind-unknown", |uid| uid.replace("uid", "usr"))
    }),
    case("selectors", "no-such-group", |w, n| {
        selector(w, n, "selector-missing", |_| {
            "unix:supplementary_gid:54321".into()
        });
    }),
    case("selectors", "old-hash", |w, n| {
        selector(w, n, "selector-missing", |_| {
            format!("unix:sha256:{}", "0".repeat(64))
        });
    }),
    case("selectors", "wrong-path", wrong_path),
    case("entry", "expired", expired),
    case("entry", "deleted", deleted),
    case("entry", "for-a-store", for_a_store),
    case("entry", "hint-taken", hint_taken),
    case("entry", "no-such-id", no_such_id),
    case("parent chain", "parent-mistyped", |w, n| {
        parent(w, n, "parent-unknown", "node/nod")
    }),
    case("parent chain", "parent-no-agent", |w, n| {
        parent(w, n, "parent-agent-unknown", "spire/agent/join_token/nobody");
    }),
    case("parent chain", "parent-the-server", |w, n| {
        parent(w, n, "workload-below-server", "spire/server")
    }),
    case("parent chain", "alias-mismatch", alias_mismatch),
    case("parent chain", "parent-expired", parent_expired),
    case("socket", "no-header", no_header),
    case("socket", "other-socket", other_socket),
    case("socket", "shut-folder", shut_folder),
    case("sync", "server-away", server_away),
    case("signing", "server-away-unsigned", server_away_unsigned),
    case("socket", "socket-removed", socket_removed),
];

/// An entry with one wrong selector beside the right one.
fn selector(world: &mut World, name: &str, cause: &str, wrong: fn(String) -> String) {
    let workload = world.workload(name);
    let path = workload.selector();
    let wrong = wrong(own_uid());
    world.entry(name, "node/node", &[&path, &wrong], &[]);
    world.of_process(name, cause, "node", &workload, &[]);
    world.update(name, "node/node", &[&path, &own_uid()], &[]);
    world.of_process(name, "", "node", &workload, &[]);
    world.delete(name);
}

fn wrong_path(world: &mut World, name: &str) {
    let workload = world.workload(name);
    let wrong = workload.selector().replace("/sleep", "/slep");
    world.entry(name, "node/node", &[&wrong, &own_uid()], &[]);
    world.of_process(name, "selector-missing", "node", &workload, &[]);
    world.update(name, "node/node", &[&workload.selector(), &own_uid()], &[]);
    world.of_process(name, "", "node", &workload, &[]);
    world.delete(name);
}

fn in_seconds(seconds: u64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    (now.as_secs() + seconds).to_string()
}

fn expired(world: &mut World, name: &str) {
    let workload = world.workload(name);
    let selectors = [&*workload.selector()];
    world.entry(name, "node/node", &selectors, &["-entryExpiry", &in_seconds(2)]);
    world.of_process(name, "entry-expired", "node", &workload, &[]);
    world.of_id(name, "entry-expired", &World::id(name), &[]);
    world.update(
        name,
        "node/node",
        &selectors,
        &["-entryExpiry", &in_seconds(3600)],
    );
    world.of_process(name, "", "node", &workload, &[]);
    world.of_id(name, "", &World::id(name), &[]);
    world.delete(name);
}

fn deleted(world: &mut World, name: &str) {
    let workload = world.workload(name);
    world.entry(name, "node/node", &[&workload.selector()], &[]);
    world.of_process(name, "", "node", &workload, &[]);
    world.delete(name);
    world.of_process(name, "entry-removed", "node", &workload, &[]);
}

fn for_a_store(world: &mut World, name: &str) {
    let workload = world.workload(name);
    let selectors = [&*workload.selector()];
    world.entry(name, "node/node", &selectors, &["-storeSVID"]);
    world.of_process(name, "store-svid", "node", &workload, &[]);
    world.update(name, "node/node", &selectors, &["-storeSVID=false"]);
    world.of_process(name, "", "node", &workload, &[]);
    world.delete(name);
}

fn hint_taken(world: &mut World, name: &str) {
    let workload = world.workload(name);
    let selectors = [&*workload.selector()];
    let younger = format!("{name}-younger");
    let id = World::id(&younger);
    world.entry(name, "node/node", &selectors, &["-hint", "db"]);
    world.entry(&younger, "node/node", &selectors, &["-hint", "db"]);
    world.of_process(name, "hint-taken", "node", &workload, &["-spiffeID", &id]);
    world.update(&younger, "node/node", &selectors, &["-hint", "web"]);
    world.of_process(name, "", "node", &workload, &["-spiffeID", &id]);
    world.delete(name);
    world.delete(&younger);
}

fn no_such_id(world: &mut World, name: &str) {
    let workload = world.workload(name);
    world.entry(name, "node/node", &[&workload.selector()], &[]);
    let wrong = World::id("no-sush-id");
    world.of_process(name, "no-entry", "node", &workload, &["-spiffeID", &wrong]);
    world.of_id(name, "no-entry", &wrong, &[]);
    world.of_process(name, "", "node", &workload, &["-spiffeID", &World::id(name)]);
    world.of_id(name, "", &World::id(name), &[]);
    world.delete(name);
}

/// An entry below a wrong parent: the node knows that it isn't its, the server why.
fn parent(world: &mut World, name: &str, cause: &str, wrong: &str) {
    let workload = world.workload(name);
    let selectors = [&*workload.selector(), &*own_uid()];
    world.entry(name, wrong, &selectors, &[]);
    world.of_id(name, cause, &World::id(name), &[]);
    if wrong != "spire/server" {
        world.of_process(name, "other-parent", "node", &workload, &[]);
        let agent = world.agent_id("node");
        world.of_id(name, "other-parent", &World::id(name), &["-agentID", &agent]);
    }
    world.update(name, "node/node", &selectors, &[]);
    world.of_id(name, "", &World::id(name), &[]);
    world.of_process(name, "", "node", &workload, &[]);
    world.delete(name);
}

fn alias_mismatch(world: &mut World, name: &str) {
    let workload = world.workload(name);
    let alias = "alias";
    let agent = world.agent_id("node");
    world.entry(
        alias,
        "spire/server",
        &["spiffe_id:spiffe://example.org/spire/agent/join_token/other"],
        &[],
    );
    world.entry(name, alias, &[&workload.selector()], &[]);
    world.of_id(name, "alias-selector-missing", &World::id(name), &[]);
    world.of_process(name, "other-parent", "node", &workload, &[]);
    world.update(alias, "spire/server", &[&format!("spiffe_id:{agent}")], &[]);
    world.of_id(name, "", &World::id(name), &[]);
    world.of_process(name, "", "node", &workload, &[]);
    world.delete(name);
    world.delete(alias);
}

fn parent_expired(world: &mut World, name: &str) {
    let workload = world.workload(name);
    let between = "between";
    let nobody = ["unix:uid:4000000000"];
    world.entry(between, "node/node", &nobody, &["-entryExpiry", &in_seconds(2)]);
    world.entry(name, between, &[&workload.selector()], &[]);
    world.of_process(name, "", "node", &workload, &[]);
    world.of_id(name, "parent-expired", &World::id(name), &[]);
    world.update(
        between,
        "node/node",
        &nobody,
        &["-entryExpiry", &in_seconds(3600)],
    );
    world.of_id(name, "", &World::id(name), &[]);
    world.of_process(name, "", "node", &workload, &[]);
    world.delete(name);
    world.delete(between);
}

/// The number under which a client of the Workload API was refused; none if it was served.
fn fetch(world: &World, with_header: bool) -> Option<RequestId> {
    let runtime = tokio::runtime::Runtime::new().expect("start a runtime");
    runtime.block_on(async {
        let channel = connect_unix(&world.lab.agent_socket("node"))
            .await
            .expect("connect");
        let mut request = tonic::Request::new(X509svidRequest {});
        if with_header {
            let value = "true".parse().expect("a value");
            request.metadata_mut().insert("workload.spiffe.io", value);
        }
        let answer = SpiffeWorkloadApiClient::new(channel)
            .fetch_x509svid(request)
            .await;
        answer
            .err()
            .map(|status| RequestId::of(&status).expect("a request id"))
    })
}

fn no_header(world: &mut World, name: &str) {
    let own = std::env::current_exe().expect("an executable");
    world.entry(name, "node/node", &[&format!("unix:path:{}", own.display())], &[]);
    let refused = fetch(world, false).expect("a refusal");
    world.of_request(name, "header-missing", "node", &refused.to_string());
    credence_test_support::wait_until("an identity", std::time::Duration::from_secs(10), || {
        fetch(world, true).is_none().then_some(())
    });
    world.of_pid(name, "", "node", &std::process::id().to_string(), &[]);
    world.delete(name);
}

fn other_socket(world: &mut World, name: &str) {
    let path = world.workload(name).selector();
    world.entry(name, "node/node", &[&path], &[]);
    let variable = "SPIFFE_ENDPOINT_SOCKET";
    let astray = world.workload_with(name, |command| {
        command.env(variable, "unix:///run/other/api.sock")
    });
    world.of_process(name, "other-socket", "node", &astray, &[]);
    let address = world.lab.workload_api("node");
    let right = world.workload_with(name, |command| command.env(variable, address));
    world.of_process(name, "", "node", &right, &[]);
    world.delete(name);
}

fn shut_folder(world: &mut World, name: &str) {
    if !nix::unistd::geteuid().is_root() {
        world.skip(name, "acting as another user is not installed for this user");
        return;
    }
    let workload = world.workload_with(name, |command| command.uid(65534).gid(65534));
    world.entry(name, "node/node", &[&workload.selector()], &[]);
    let socket = world.lab.agent_socket("node");
    let folder = socket.parent().expect("a folder");
    fs::set_permissions(folder, fs::Permissions::from_mode(0o700)).expect("chmod");
    world.of_process(name, "socket-shut", "node", &workload, &[]);
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).expect("chmod");
    world.of_process(name, "", "node", &workload, &[]);
    world.delete(name);
}

fn stop_server(world: &mut World) {
    world.server.take().expect("a server").kill();
}

fn start_server(world: &mut World) {
    world.server = Some(world.lab.server());
}

/// What was mended while the server was away can't have reached the agent.
fn server_away(world: &mut World, name: &str) {
    let workload = world.workload(name);
    world.entry(name, "node/node", &[&workload.selector(), "unix:uid:4242"], &[]);
    world.of_process(name, "selector-missing", "node", &workload, &[]);
    stop_server(world);
    world.of_process(name, "out-of-step", "node", &workload, &[]);
    start_server(world);
    world.update(name, "node/node", &[&workload.selector(), &own_uid()], &[]);
    world.of_process(name, "", "node", &workload, &[]);
    world.delete(name);
}

/// An entry that waits for a caller before it is signed for, and the server is gone when one comes.
fn server_away_unsigned(world: &mut World, name: &str) {
    let workload = world.workload(name);
    world.entry(
        name,
        "node/node",
        &[&workload.selector()],
        &["-disableX509SVIDPrefetch", "true"],
    );
    world.of_process(name, "", "node", &workload, &[]);
    stop_server(world);
    world.of_process(name, "not-signed", "node", &workload, &[]);
    start_server(world);
    world.of_process(name, "", "node", &workload, &[]);
    world.delete(name);
}

/// Last of the cases of this agent: its socket is gone for good.
fn socket_removed(world: &mut World, name: &str) {
    let workload = world.workload(name);
    world.entry(name, "node/node", &[&workload.selector()], &[]);
    world.of_process(name, "", "node", &workload, &[]);
    fs::remove_file(world.lab.agent_socket("node")).expect("remove the socket");
    world.of_process(name, "socket-removed", "node", &workload, &[]);
    world.delete(name);
    drop(world.node.take());
}
