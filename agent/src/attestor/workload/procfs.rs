//! Reads what `/proc` says of a process, afresh each time and without more copies than the kernel's own.
//!
//! It never keeps anything. Invariant: a file that doesn't have the kernel's form is an error, never a default.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

/// The proc file system: `/proc`, or where the variable `HOST_PROC` says it is mounted.
#[derive(Debug, Clone)]
pub struct ProcFs {
    root: Arc<Path>,
}

/// The user and the groups that a process acts as.
#[derive(Debug, PartialEq, Eq)]
pub struct Credentials {
    /// The effective user.
    pub uid: u32,
    /// The effective group.
    pub gid: u32,
    /// The supplementary groups.
    pub groups: Vec<u32>,
}

impl ProcFs {
    /// The proc file system mounted at `root`.
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self {
            root: root.into().into(),
        }
    }

    /// Where the environment says (`HOST_PROC`, as SPIRE's agent), else `/proc`.
    pub fn from_env() -> Self {
        Self::at(
            std::env::var_os("HOST_PROC")
                .filter(|root| !root.is_empty())
                .unwrap_or_else(|| "/proc".into()),
        )
    }

    /// The path of a file of that process.
    pub(crate) fn path(&self, pid: i32, file: &str) -> PathBuf {
        self.root.join(format!("{pid}/{file}"))
    }

    /// When the process started, in clock ticks since boot: with the number it names a process for good.
    pub(super) fn start_time(&self, pid: i32) -> io::Result<u64> {
        let stat = self.read(pid, "stat")?;
        // The name of the program may hold spaces and parentheses; the last one ends it, and field 22 is the time.
        let after_name = stat.rsplit(|byte| *byte == b')').next().unwrap_or_default();
        let mut fields = after_name
            .split(u8::is_ascii_whitespace)
            .filter(|field| !field.is_empty());
        fields.nth(19).and_then(number).ok_or_else(|| malformed("stat"))
    }

    /// As whom the process acts now.
    pub(crate) fn credentials(&self, pid: i32) -> io::Result<Credentials> {
        parse_status(&self.read(pid, "status")?).ok_or_else(|| malformed("status"))
    }

    fn read(&self, pid: i32, file: &str) -> io::Result<Vec<u8>> {
        let mut opened = File::open(self.path(pid, file))?;
        // One read fills it as a rule. `read_to_end` would first ask for a size that these files don't have.
        let mut bytes = vec![0; 4096];
        let mut filled = 0;
        loop {
            let room = bytes.get_mut(filled..).unwrap_or_default();
            match opened.read(room) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
            if filled == bytes.len() {
                bytes.resize(filled * 2, 0);
            }
        }
        bytes.truncate(filled);
        Ok(bytes)
    }
}

fn parse_status(status: &[u8]) -> Option<Credentials> {
    let (mut uid, mut gid, mut groups) = (None, None, None);
    for line in status.split(|byte| *byte == b'\n') {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else {
            continue;
        };
        let (name, rest) = line.split_at(colon);
        let mut values = rest
            .split(|byte| matches!(byte, b':' | b'\t' | b' '))
            .filter(|value| !value.is_empty());
        match name {
            // Real, effective, saved, file system.
            b"Uid" => uid = values.nth(1).and_then(number),
            b"Gid" => gid = values.nth(1).and_then(number),
            b"Groups" => {
                groups = values.map(number).collect::<Option<Vec<u32>>>();
                break;
            }
            _ => {}
        }
    }
    Some(Credentials {
        uid: uid?,
        gid: gid?,
        groups: groups?,
    })
}

fn number<T: FromStr>(digits: &[u8]) -> Option<T> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

fn malformed(file: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("{file} of the process has an unknown form"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUS: &[u8] = b"Name:\tUid:\t7\nUmask:\t0022\nState:\tS (sleeping)\nTgid:\t4\nPid:\t4\n\
        Uid:\t1000\t1001\t1002\t1003\nGid:\t100\t101\t102\t103\nFDSize:\t64\nGroups:\t4 24 27 \nNStgid:\t4\n";

    #[test]
    fn effective_ids_and_groups() {
        let wanted = Credentials {
            uid: 1001,
            gid: 101,
            groups: vec![4, 24, 27],
        };
        assert_eq!(parse_status(STATUS), Some(wanted));
        let none = b"Uid:\t0\t0\t0\t0\nGid:\t0\t0\t0\t0\nGroups:\t\n";
        assert_eq!(
            parse_status(none),
            Some(Credentials {
                uid: 0,
                gid: 0,
                groups: vec![]
            })
        );
    }

    #[test]
    fn a_program_cannot_forge_its_lines() {
        // The kernel escapes line feeds in names, and the first colon ends the field's name.
        assert_eq!(
            parse_status(b"Name:\tx\nUid:\t1\t2\t3\t4\nGroups:\t\n"),
            None,
            "no group"
        );
        assert_eq!(parse_status(b"Uid:\t1\nGid:\t1\t1\t1\t1\nGroups:\t\n"), None);
        assert_eq!(
            parse_status(b"Uid:\t1\t-1\t1\t1\nGid:\t1\t1\t1\t1\nGroups:\t\n"),
            None
        );
        assert_eq!(parse_status(b""), None);
    }

    #[test]
    fn start_time_survives_odd_names() {
        let root = tempfile::tempdir().unwrap();
        let proc = ProcFs::at(root.path());
        std::fs::create_dir(root.path().join("7")).unwrap();
        for name in ["cat", "a) R 1 2 3", "(", ")"] {
            let stat = format!("7 ({name}) S 1 7 7 0 -1 4194560 115 0 0 0 1 2 3 4 20 0 1 0 987654 5 6\n");
            std::fs::write(root.path().join("7/stat"), stat).unwrap();
            assert_eq!(proc.start_time(7).unwrap(), 987_654, "{name}");
        }
        std::fs::write(root.path().join("7/stat"), "7 (cat) S 1").unwrap();
        assert!(proc.start_time(7).is_err());
    }

    #[test]
    fn long_files_are_read_whole() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("7")).unwrap();
        let groups: Vec<u32> = (0..20_000).collect();
        let list: Vec<String> = groups.iter().map(u32::to_string).collect();
        let status = format!(
            "Uid:\t1\t1\t1\t1\nGid:\t1\t1\t1\t1\nGroups:\t{} \n",
            list.join(" ")
        );
        std::fs::write(root.path().join("7/status"), status).unwrap();
        assert_eq!(ProcFs::at(root.path()).credentials(7).unwrap().groups, groups);
    }
}
