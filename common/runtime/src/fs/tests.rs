use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use tokio::net::UnixStream;

use super::tmp::refuse_foreign_below;
use super::*;

fn mode_of(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn ensure_dir_makes_parents_with_the_mode_and_keeps_what_exists() {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), Permissions::from_mode(0o700)).unwrap();
    let deep = dir.path().join("a/b/c");
    ensure_dir(&deep, 0o755).unwrap();
    ensure_dir(&deep, 0o700).unwrap();
    assert_eq!(mode_of(&deep), 0o755);
    assert_eq!(mode_of(&dir.path().join("a")), 0o755);
    assert_eq!(mode_of(dir.path()), 0o700);
    fs::write(dir.path().join("file"), "").unwrap();
    let error = ensure_dir(&dir.path().join("file/x"), 0o755).unwrap_err();
    assert!(
        error.to_string().starts_with("unable to create directory"),
        "{error}"
    );
}

#[test]
fn write_atomic_replaces_content_and_mode_and_leaves_nothing_beside() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("keys.json");
    fs::write(&path, "old").unwrap();
    fs::write(dir.path().join("keys.json.tmp"), "left by a crash").unwrap();
    write_atomic(&path, b"new", 0o600).unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"new");
    assert_eq!(mode_of(&path), 0o600);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    assert!(write_atomic(&dir.path().join("none/x"), b"", 0o600).is_err());
}

/// Conforms: WEP-26
#[tokio::test]
async fn bind_unix_makes_folders_sets_the_mode_and_replaces_a_stale_socket() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("run/public/api.sock");
    let first = bind_unix(&path, 0o777).unwrap();
    assert_eq!(mode_of(&path), 0o777);
    assert_eq!(mode_of(&dir.path().join("run")), 0o755);
    UnixStream::connect(&path).await.unwrap();

    let refused = bind_unix(&path, 0o777).unwrap_err();
    assert!(matches!(refused, FsError::SocketInUse { .. }), "{refused}");

    drop(first);
    assert!(path.exists(), "the socket must be stale now, not gone");
    let _second = bind_unix(&path, 0o770).unwrap();
    assert_eq!(mode_of(&path), 0o770);
    UnixStream::connect(&path).await.unwrap();
}

#[tokio::test]
async fn bind_unix_never_removes_what_is_no_socket() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("precious");
    fs::write(&path, "data").unwrap();
    assert!(matches!(
        bind_unix(&path, 0o777).unwrap_err(),
        FsError::NotASocket { .. }
    ));
    assert_eq!(fs::read(&path).unwrap(), b"data");
    let long = dir.path().join("x".repeat(200));
    assert!(bind_unix(&long, 0o777).is_err());
}

#[test]
fn foreign_tmp_is_refused() {
    let tmp = tempfile::tempdir().unwrap();
    let tmp = tmp.path().canonicalize().unwrap();
    let own = geteuid_of(&tmp);
    let stranger = own + 1;
    fs::create_dir(tmp.join("theirs")).unwrap();
    // What we own is foreign in the eyes of another uid, unless root owns it.
    let verdict = |path: &Path, uid| refuse_foreign_below(&tmp, path, uid);
    for path in ["theirs", "theirs/deep/missing/api.sock"] {
        assert!(verdict(&tmp.join(path), own).is_ok());
        if own != 0 {
            let refused = verdict(&tmp.join(path), stranger).unwrap_err();
            assert!(matches!(refused, FsError::ForeignTmp { owner, .. } if owner == own));
        }
    }
    assert!(verdict(&tmp.join("not-there-yet/api.sock"), stranger).is_ok());
    assert!(verdict(Path::new("/usr"), stranger).is_ok());
}

#[test]
fn foreign_tmp_is_refused_through_links_and_when_root_asks() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let root = tempfile::tempdir().unwrap();
    let root = root.path().canonicalize().unwrap();
    let tmp = root.join("tmp");
    fs::create_dir_all(tmp.join("theirs/data")).unwrap();
    std::os::unix::fs::chown(tmp.join("theirs"), Some(4711), None).unwrap();
    symlink(tmp.join("theirs"), root.join("link")).unwrap();
    symlink("/usr", tmp.join("planted")).unwrap();
    std::os::unix::fs::lchown(tmp.join("planted"), Some(4711), None).unwrap();
    fs::create_dir_all(tmp.join("x")).unwrap();
    for path in [
        "tmp/theirs/data",
        "link/data",
        "tmp/x/../theirs",
        "tmp/planted/api.sock",
    ] {
        let refused = refuse_foreign_below(&tmp, &root.join(path), 0);
        assert!(
            matches!(refused, Err(FsError::ForeignTmp { owner: 4711, .. })),
            "{path}"
        );
    }
    assert!(
        refuse_foreign_below(&tmp, &tmp.join("theirs"), 4711).is_ok(),
        "its owner may"
    );
}

fn geteuid_of(path: &Path) -> u32 {
    use std::os::unix::fs::MetadataExt;
    fs::metadata(path).unwrap().uid()
}
