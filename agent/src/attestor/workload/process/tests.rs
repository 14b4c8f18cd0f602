use super::*;

/// A process of a kernel without pidfds.
fn without_pidfd(root: &tempfile::TempDir, started: u64) -> (ProcFs, impl Fn(u64) + use<>) {
    let file = root.path().join("77/stat");
    let write = move |started: u64| {
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(
            &file,
            format!("77 (x) S 1 1 1 0 -1 0 0 0 0 0 1 2 3 4 20 0 1 0 {started} 0\n"),
        )
        .unwrap();
    };
    write(started);
    (ProcFs::at(root.path()), write)
}

#[tokio::test]
async fn a_recycled_number_is_another_process() {
    let root = tempfile::tempdir().unwrap();
    let (proc, restart) = without_pidfd(&root, 100);
    let process = Process::pin(77, 0, 0, Pin::Unknown, &proc).unwrap();
    assert!(process.is_alive());
    restart(101);
    assert_eq!(process.check(), Err(Gone));
    std::fs::remove_dir_all(root.path().join("77")).unwrap();
    assert_eq!(process.check(), Err(Gone));
}

#[tokio::test]
async fn what_cannot_be_seen_cannot_be_pinned() {
    let root = tempfile::tempdir().unwrap();
    let (proc, _) = without_pidfd(&root, 100);
    for (pid, pin) in [(77, Pin::Ended), (78, Pin::Unknown), (0, Pin::Unknown)] {
        let process = Process::pin(pid, 0, 0, pin, &proc).unwrap();
        assert!(!process.is_alive(), "{pid}");
        process.ended().await;
    }
}

#[tokio::test]
async fn this_process_is_alive() {
    let process = Process::own(&ProcFs::at("/proc")).unwrap();
    assert!(process.is_alive() && process.pidfd.is_some());
}

#[tokio::test]
async fn the_end_is_seen_at_once_and_for_good() {
    let mut child = tokio::process::Command::new("sleep").arg("600").spawn().unwrap();
    let pid = i32::try_from(child.id().unwrap()).unwrap();
    let proc = ProcFs::at("/proc");
    let process = Process::pin(pid, 0, 0, open_pidfd(pid).unwrap(), &proc).unwrap();
    assert!(process.is_alive());
    child.start_kill().unwrap();
    process.ended().await;
    assert!(!process.is_alive(), "not reaped yet");
    child.wait().await.unwrap();
    assert!(!process.is_alive(), "reaped");
}
