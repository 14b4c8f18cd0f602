use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::sync::atomic::{AtomicBool, Ordering};

use zeroize::Zeroizing;

use super::*;
use crate::files::owner::Owner;

const NAMES: [&str; 3] = ["svid.pem", "svid_key.pem", "bundle.pem"];

fn target(folder: &Path) -> Target {
    Target {
        folder: folder.to_owned(),
        owner: Owner::this_process(),
        guarded: false,
    }
}

fn rendered(name: &str, text: &str) -> Rendered {
    Rendered {
        name: name.into(),
        mode: if name.contains("key") { 0o600 } else { 0o644 },
        bytes: Zeroizing::new(text.as_bytes().to_vec()),
    }
}

/// Three files that all say which generation they are of, long enough to be torn.
fn generation(number: u32) -> Batch {
    let text = format!("{number}\n").repeat(20_000);
    Batch::Generation(NAMES.iter().map(|name| rendered(name, &text)).collect())
}

fn single(name: &str, number: u32) -> Batch {
    Batch::Single(rendered(name, &format!("{number}\n").repeat(20_000)))
}

/// The generation that a file is of; a torn one fails.
fn number_in(path: &Path) -> u32 {
    let text = fs::read_to_string(path).unwrap();
    let number = text.lines().next().unwrap();
    assert_eq!(
        text,
        format!("{number}\n").repeat(20_000),
        "{} is torn",
        path.display()
    );
    number.parse().unwrap()
}

/// What a reader finds that looks the folder up once, as whoever wants a whole pair does; none if nothing is there, or not
/// any more: two writes later a generation is gone.
fn read(folder: &Path) -> Option<u32> {
    let current = fs::canonicalize(folder.join(".svid.pem.current")).ok()?;
    let texts = NAMES.map(|name| fs::read_to_string(current.join(name)).ok());
    let [Some(one), Some(two), Some(three)] = texts else {
        return None;
    };
    let number = one.lines().next().unwrap();
    assert_eq!(one, format!("{number}\n").repeat(20_000), "torn");
    assert!(one == two && two == three, "mixed");
    number.parse().ok()
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let (path, to) = (entry.path(), to.join(entry.file_name()));
        let kind = entry.file_type().unwrap();
        if kind.is_symlink() {
            symlink(fs::read_link(&path).unwrap(), to).unwrap();
        } else if kind.is_dir() {
            copy(&path, &to);
        } else {
            fs::copy(&path, &to).unwrap();
        }
    }
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// After each step the folder is kept as a process that dies there leaves it: each is whole, and the next writer goes on.
#[test]
fn a_writer_that_dies_at_any_step_leaves_a_whole_generation() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("live");
    fs::create_dir(&folder).unwrap();
    let mut left = Vec::new();
    for number in 1..=3 {
        let mut keep = |step: Step| {
            let at = root.path().join(format!("{number}-{}", left.len()));
            copy(&folder, &at);
            left.push((number, step, at));
        };
        target(&folder)
            .write_observed(&generation(number), &mut keep)
            .unwrap();
        target(&folder)
            .write_observed(&single("combined.pem", number), &mut keep)
            .unwrap();
    }
    assert_eq!(
        left.len(),
        3 * (1 + 3 + 1 + 1 + 3 + 1 + 1),
        "steps of three writes"
    );
    for (number, step, at) in left {
        let swapped = !matches!(step, Step::Begun | Step::FileWritten | Step::Whole);
        let expected = if swapped { number } else { number - 1 };
        assert_eq!(read(&at).unwrap_or(0), expected, "{number} at {step:?}");
        if number > 1 {
            assert!([number, number - 1].contains(&number_in(&at.join("combined.pem"))));
        }
        target(&at).write(&generation(9)).unwrap();
        target(&at).write(&single("combined.pem", 9)).unwrap();
        assert_eq!((read(&at), number_in(&at.join("combined.pem"))), (Some(9), 9));
        assert_eq!(number_in(&at.join("svid_key.pem")), 9);
        let hidden = names(&at)
            .into_iter()
            .filter(|name| name.starts_with(".svid.pem."));
        assert!(hidden.count() <= 3, "{:?}", names(&at));
    }
}

#[test]
fn a_reader_beside_a_writer_never_sees_a_mixture() {
    let folder = tempfile::tempdir().unwrap();
    target(folder.path()).write(&generation(1)).unwrap();
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let (mut reads, mut last) = (0, 0);
            while !over.load(Ordering::Relaxed) {
                let Some(number) = read(folder.path()) else {
                    continue;
                };
                assert!(number >= last, "{number} after {last}");
                (reads, last) = (reads + 1, number);
            }
            reads
        });
        for number in 2..40 {
            target(folder.path()).write(&generation(number)).unwrap();
            // The one before stays for readers that found it, not the one before that.
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
        over.store(true, Ordering::Relaxed);
        assert!(reader.join().unwrap() > 1);
    });
}

#[test]
fn files_have_their_modes_and_the_names_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    target(folder.path()).write(&generation(1)).unwrap();
    target(folder.path()).write(&single("all.pem", 1)).unwrap();
    let mode = |name: &str| fs::metadata(folder.path().join(name)).unwrap().mode() & 0o7777;
    assert_eq!(NAMES.map(mode), [0o644, 0o600, 0o644]);
    assert_eq!((mode("all.pem"), mode(".svid.pem.current")), (0o644, 0o755));
    assert_eq!(number_in(&folder.path().join("svid.pem")), 1);
    assert_eq!(names(folder.path()).len(), 6);
}

/// Everything that could be put in the way, beforehand and all the time, by whoever may write to the folder.
#[test]
fn hostile_links_and_races_write_nothing_elsewhere() {
    let root = tempfile::tempdir().unwrap();
    let (folder, outside) = (root.path().join("target"), root.path().join("outside"));
    fs::create_dir(&folder).unwrap();
    fs::create_dir(&outside).unwrap();
    for name in NAMES {
        fs::write(outside.join(name), "untouched").unwrap();
        symlink(outside.join(name), folder.join(name)).unwrap();
    }
    symlink(outside.join("new.pem"), folder.join("combined.pem")).unwrap();
    symlink(&outside, folder.join(".svid.pem.current")).unwrap();
    symlink(&outside, folder.join(".svid.pem.0123456789abcdef")).unwrap();
    target(&folder).write(&generation(1)).unwrap();
    target(&folder).write(&single("combined.pem", 1)).unwrap();
    assert_eq!(read(&folder), Some(1));

    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                for name in names(&folder) {
                    let path = folder.join(&name);
                    let moved = folder.join(format!("moved{name}"));
                    drop(fs::rename(&path, &moved));
                    drop(symlink(&outside, &path));
                    drop(fs::remove_dir_all(&moved).or_else(|_| fs::remove_file(&moved)));
                }
            }
        });
        for number in 2..60 {
            // Most of them fail: what counts is where they don't write.
            drop(target(&folder).write(&generation(number)));
            drop(target(&folder).write(&single("combined.pem", number)));
        }
        over.store(true, Ordering::Relaxed);
    });
    assert_eq!(names(&outside), ["bundle.pem", "svid.pem", "svid_key.pem"]);
    for name in NAMES {
        assert_eq!(fs::read_to_string(outside.join(name)).unwrap(), "untouched");
    }
}

#[test]
fn no_link_on_the_way_to_the_folder_is_followed() {
    let root = tempfile::tempdir().unwrap();
    let root = root.path().canonicalize().unwrap();
    fs::create_dir_all(root.join("real/deep")).unwrap();
    symlink(root.join("real"), root.join("way")).unwrap();
    symlink(root.join("real/deep"), root.join("real/last")).unwrap();
    fs::write(root.join("file"), "").unwrap();
    for path in ["way/deep", "real/last", "file", "file/deep"] {
        let error = target(&root.join(path)).write(&generation(1)).unwrap_err();
        assert!(
            matches!(error, WriteError::Folder(FolderError::NotAFolder { .. })),
            "{path}: {error}"
        );
    }
    target(&root.join("real/../real/./deep"))
        .write(&generation(1))
        .unwrap();
    assert_eq!(read(&root.join("real/deep")), Some(1));
    let error = target(&root.join("missing")).write(&generation(1)).unwrap_err();
    let error = credence_command::CommandError::chain(&error).to_string();
    assert!(error.ends_with("missing: no such file or directory"), "{error}");
}

#[test]
fn a_folder_that_strangers_write_to_is_refused_where_it_is_guarded() {
    let folder = tempfile::tempdir().unwrap();
    let guarded = Target {
        guarded: true,
        ..target(folder.path())
    };
    guarded.write(&generation(1)).unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o1777)).unwrap();
    let error = guarded.write(&generation(2)).unwrap_err();
    assert!(
        matches!(error, WriteError::Folder(FolderError::Exposed { .. })),
        "{error}"
    );
    assert_eq!(read(folder.path()), Some(1));
}

/// As spiffe-helper's names can have them.
#[test]
fn names_with_folders_are_links_into_one_generation() {
    let root = tempfile::tempdir().unwrap();
    let (folder, outside) = (root.path().join("target"), root.path().join("outside"));
    fs::create_dir_all(folder.join("private/deep")).unwrap();
    fs::create_dir(&outside).unwrap();
    let batch = |number: u32| {
        let text = format!("{number}\n").repeat(20_000);
        let names = ["certs.pem", "private/deep/key.pem", "private/key.pem"];
        Batch::Generation(names.iter().map(|name| rendered(name, &text)).collect())
    };
    for number in 1..=3 {
        target(&folder).write(&batch(number)).unwrap();
        target(&folder).write(&single("private/all.pem", number)).unwrap();
        for name in [
            "certs.pem",
            "private/deep/key.pem",
            "private/key.pem",
            "private/all.pem",
        ] {
            assert_eq!(number_in(&folder.join(name)), number, "{name}");
        }
    }
    let link = fs::read_link(folder.join("private/deep/key.pem")).unwrap();
    assert_eq!(
        link.to_str(),
        Some("../../.certs.pem.current/private%deep%key.pem")
    );
    assert_eq!(names(&folder).len(), 1 + 1 + 1 + 2, "{:?}", names(&folder));
    fs::rename(folder.join("private"), folder.join("moved")).unwrap();
    symlink(&outside, folder.join("private")).unwrap();
    target(&folder).write(&single("private/all.pem", 4)).unwrap_err();
    target(&folder).write(&batch(4)).unwrap_err();
    assert_eq!(names(&outside), [] as [&str; 0]);
}

#[test]
fn two_writers_are_not_in_one_folder_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let held = Folder::open(folder.path()).unwrap();
    let lock = held.lock().unwrap();
    let error = target(folder.path()).write(&generation(1)).unwrap_err();
    assert!(
        matches!(error, WriteError::Folder(FolderError::Busy { .. })),
        "{error}"
    );
    drop(lock);
    target(folder.path()).write(&generation(1)).unwrap();
}

/// A name that can't be replaced fails the write, and nothing stays behind.
#[test]
fn what_fails_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    target(folder.path()).write(&generation(1)).unwrap();
    fs::create_dir(folder.path().join("all.pem")).unwrap();
    target(folder.path()).write(&single("all.pem", 1)).unwrap_err();
    let before = names(folder.path());
    fs::remove_file(folder.path().join(".svid.pem.current")).unwrap();
    fs::create_dir(folder.path().join(".svid.pem.current")).unwrap();
    target(folder.path()).write(&generation(2)).unwrap_err();
    assert_eq!(names(folder.path()), before);
}

/// As root: the kernel judges by the owner's rights, so that a folder of root's isn't written to for anybody else.
#[test]
fn files_are_made_by_their_owner() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let root = tempfile::tempdir().unwrap();
    fs::set_permissions(root.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let folder = root.path().join("theirs");
    fs::create_dir(&folder).unwrap();
    let theirs = Target {
        owner: Owner::parse("4000000:4000001").unwrap(),
        guarded: true,
        ..target(&folder)
    };
    let error = theirs.write(&generation(1)).unwrap_err();
    let error = credence_command::CommandError::chain(&error).to_string();
    assert!(error.ends_with(": permission denied"), "{error}");
    std::os::unix::fs::chown(&folder, Some(4_000_000), None).unwrap();
    theirs.write(&generation(1)).unwrap();
    theirs.write(&single("all.pem", 1)).unwrap();
    for name in ["svid.pem", "svid_key.pem", "all.pem", ".svid.pem.current"] {
        let found = fs::metadata(folder.join(name)).unwrap();
        assert_eq!((found.uid(), found.gid()), (4_000_000, 4_000_001), "{name}");
    }
    assert_eq!(
        fs::symlink_metadata(folder.join("svid.pem")).unwrap().uid(),
        4_000_000
    );
    assert_eq!(read(&folder), Some(1));
}
