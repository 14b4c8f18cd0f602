use std::collections::BTreeSet;
use std::process::Stdio;

use credence_runtime::clock::SystemClock;
use nix::unistd::{getegid, geteuid, getgroups};
use tokio::net::UnixStream;

use super::*;

fn attestors(options: UnixOptions) -> WorkloadAttestors {
    WorkloadAttestors::new(Some(options), ProcFs::at("/proc"), Arc::new(SystemClock))
}

fn own(proc: &ProcFs) -> Process {
    let (stream, _other) = UnixStream::pair().unwrap();
    Process::at_other_end(&stream, proc).unwrap()
}

fn texts(selectors: &SelectorSet) -> BTreeSet<String> {
    selectors
        .iter()
        .map(|selector| selector.as_str().to_owned())
        .collect()
}

#[tokio::test]
async fn the_kernel_names_user_groups_and_program() {
    let options = UnixOptions {
        discover_workload_path: true,
        workload_size_limit: 0,
    };
    let selectors = texts(
        &attestors(options)
            .attest(&own(&ProcFs::at("/proc")))
            .await
            .unwrap(),
    );
    let mut wanted = BTreeSet::from([
        format!("unix:uid:{}", geteuid()),
        format!("unix:gid:{}", getegid()),
    ]);
    wanted.extend(
        getgroups()
            .unwrap()
            .iter()
            .map(|gid| format!("unix:supplementary_gid:{gid}")),
    );
    let exe = std::env::current_exe().unwrap();
    wanted.insert(format!("unix:path:{}", exe.display()));
    let hash = credence_crypto::hex(&credence_crypto::sha256(&std::fs::read(&exe).unwrap()));
    wanted.insert(format!("unix:sha256:{hash}"));
    assert!(wanted.is_subset(&selectors), "{selectors:?}");
    if geteuid().is_root() {
        assert!(
            selectors.contains("unix:user:root") && selectors.contains("unix:group:root"),
            "{selectors:?}"
        );
    }
    let names = ["unix:user:", "unix:group:", "unix:supplementary_group:"];
    let others: Vec<_> = selectors.difference(&wanted).collect();
    assert!(
        others
            .iter()
            .all(|other| names.iter().any(|name| other.starts_with(name))),
        "{others:?}"
    );
}

#[tokio::test]
async fn path_and_hash_only_where_asked_for() {
    let own = own(&ProcFs::at("/proc"));
    let plain = texts(&attestors(UnixOptions::default()).attest(&own).await.unwrap());
    assert!(
        !plain
            .iter()
            .any(|text| text.starts_with("unix:path:") || text.starts_with("unix:sha256:"))
    );
    let options = UnixOptions {
        discover_workload_path: true,
        workload_size_limit: -1,
    };
    let unhashed = texts(&attestors(options).attest(&own).await.unwrap());
    assert!(unhashed.iter().any(|text| text.starts_with("unix:path:")));
    assert!(!unhashed.iter().any(|text| text.starts_with("unix:sha256:")));
    let options = UnixOptions {
        discover_workload_path: true,
        workload_size_limit: 10,
    };
    let refused = attestors(options).attest(&own).await.unwrap_err();
    assert!(matches!(
        refused,
        AttestError::Unix(UnixError::Executable(ExecutableError::TooLarge { .. }))
    ));
}

#[tokio::test]
async fn without_attestor_there_are_no_selectors() {
    let none = WorkloadAttestors::new(None, ProcFs::at("/proc"), Arc::new(SystemClock));
    assert!(none.attest(&own(&ProcFs::at("/proc"))).await.unwrap().is_empty());
}

/// A process that connected and whose `/proc` is ours to write.
fn pretend(status_uid: u32) -> (tempfile::TempDir, Process) {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join(std::process::id().to_string());
    std::fs::create_dir(&folder).unwrap();
    let gid = getegid();
    std::fs::write(
        folder.join("stat"),
        "1 (x) S 1 1 1 0 -1 0 0 0 0 0 1 2 3 4 20 0 1 0 4711 0\n",
    )
    .unwrap();
    let status = format!("Uid:\t0\t{status_uid}\t0\t0\nGid:\t0\t{gid}\t0\t0\nGroups:\t\n");
    std::fs::write(folder.join("status"), status).unwrap();
    let process = own(&ProcFs::at(root.path()));
    (root, process)
}

#[tokio::test]
async fn a_changed_user_gets_nothing() {
    let attest = async |uid: u32| {
        let (root, process) = pretend(uid);
        let options = Some(UnixOptions::default());
        WorkloadAttestors::new(options, ProcFs::at(root.path()), Arc::new(SystemClock))
            .attest(&process)
            .await
    };
    let own = geteuid().as_raw();
    assert!(texts(&attest(own).await.unwrap()).contains(&format!("unix:uid:{own}")));
    assert!(matches!(
        attest(own + 1).await,
        Err(AttestError::Unix(UnixError::OtherUser))
    ));
}

#[tokio::test]
async fn a_process_that_ended_gets_nothing_though_a_child_holds_its_connection() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("api.sock");
    let listener = tokio::net::UnixListener::bind(&path).unwrap();
    // It connects and forks; when it ends, its child still holds the connection (until that is closed here).
    let script = "import os,socket,sys\n\
        s=socket.socket(socket.AF_UNIX)\ns.connect(sys.argv[1])\n\
        os.set_inheritable(s.fileno(),True)\n\
        if os.fork(): sys.stdin.read(1); os._exit(0)\n\
        s.recv(1)";
    let mut connecting = tokio::process::Command::new("python3")
        .args(["-c", script])
        .arg(&path)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let (stream, _) = listener.accept().await.unwrap();
    let proc = ProcFs::at("/proc");
    let process = Process::at_other_end(&stream, &proc).unwrap();
    assert_eq!(u32::try_from(process.pid()).ok(), connecting.id());
    let attestors = attestors(UnixOptions::default());
    assert!(attestors.attest(&process).await.is_ok());
    assert!(
        tokio::time::timeout(std::time::Duration::from_millis(50), process.ended())
            .await
            .is_err()
    );

    drop(connecting.stdin.take());
    process.ended().await;
    assert!(!process.is_alive());
    assert!(matches!(
        attestors.attest(&process).await,
        Err(AttestError::Gone(Gone))
    ));
    connecting.wait().await.unwrap();
    // The number is free for another process now, and one that connected earlier is still refused.
    let late = Process::at_other_end(&stream, &proc).unwrap();
    assert!(!late.is_alive());
    late.ended().await;
    assert!(matches!(
        attestors.attest(&late).await,
        Err(AttestError::Gone(Gone))
    ));
}
