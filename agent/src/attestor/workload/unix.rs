//! The workload attestor `unix`: what the kernel of this node knows of a process, as selectors.
//!
//! Never trusts what the process says of itself. Invariant: a process that changed its user or group since it connected
//! gets nothing, or it could lend its connection to a program with more rights (a set-user-ID program, say).

use std::io;
use std::sync::{Arc, PoisonError, RwLock};

use credence_identity::diagnosis::Offer;
use credence_identity::{Selector, SelectorError, SelectorSet};
use credence_runtime::clock::Clock;

use super::executable::{Executable, ExecutableError, Executables, Hashing};
use super::names::Names;
use super::process::Process;
use super::procfs::ProcFs;

const TYPE: &str = "unix";
const DISCOVERY_FIX: &str = "set discover_workload_path = true in the plugin_data of WorkloadAttestor \"unix\", and restart the agent";
const HASHING_FIX: &str =
    "set workload_size_limit = 0 in the plugin_data of WorkloadAttestor \"unix\", and restart the agent";

/// The attestor's `plugin_data`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct UnixOptions {
    /// Adds the selectors `path` and `sha256`.
    pub discover_workload_path: bool,
    /// Executables above this many bytes fail; 0 means no limit, and a negative value means no `sha256`.
    pub workload_size_limit: i64,
}

/// Why the attestor has no selectors for a process.
#[derive(Debug, thiserror::Error)]
pub enum UnixError {
    /// `/proc` doesn't answer.
    #[error("could not read the credentials of the caller")]
    Credentials(#[source] io::Error),
    /// The process acts as another user or group than when it connected.
    #[error("caller has changed its user or group since it connected")]
    OtherUser,
    /// No path or hash.
    #[error(transparent)]
    Executable(#[from] ExecutableError),
    /// The look at the executable broke off.
    #[error("look at the executable broke off")]
    Interrupted,
    /// A value that no selector can hold.
    #[error(transparent)]
    Selector(#[from] SelectorError),
}

#[derive(Debug)]
pub(super) struct UnixAttestor {
    /// Of the executable, where it is looked at.
    hashing: RwLock<Option<Hashing>>,
    proc: ProcFs,
    users: Names,
    groups: Names,
    executables: Arc<Executables>,
}

impl UnixAttestor {
    pub(super) fn new(options: UnixOptions, proc: ProcFs, clock: Arc<dyn Clock>) -> Self {
        Self {
            hashing: RwLock::new(hashing(options)),
            proc,
            users: Names::of_users(),
            groups: Names::of_groups(),
            executables: Arc::new(Executables::new(clock)),
        }
    }

    /// Has other options from the next process on.
    pub(super) fn configure(&self, options: UnixOptions) {
        *self.hashing.write().unwrap_or_else(PoisonError::into_inner) = hashing(options);
    }

    fn hashing(&self) -> Option<Hashing> {
        *self.hashing.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// What this attestor says of a process.
    pub(super) fn offer(&self) -> Offer {
        let mut offer = Offer {
            selector_type: TYPE,
            kinds: vec![
                "uid",
                "user",
                "gid",
                "group",
                "supplementary_gid",
                "supplementary_group",
            ],
            off: Vec::new(),
        };
        let hashing = self.hashing();
        let hashes = matches!(hashing, Some(Hashing::Always | Hashing::UpTo(_)));
        let of_the_executable = [("path", hashing.is_some()), ("sha256", hashes)];
        for (kind, is_on) in of_the_executable {
            match (is_on, hashing.is_some()) {
                (true, _) => offer.kinds.push(kind),
                (false, true) => offer.off.push((kind, HASHING_FIX)),
                (false, false) => offer.off.push((kind, DISCOVERY_FIX)),
            }
        }
        offer
    }

    /// The selectors of the process as it is now.
    pub(super) async fn attest(&self, caller: &Process) -> Result<SelectorSet, UnixError> {
        let now = self
            .proc
            .credentials(caller.pid())
            .map_err(UnixError::Credentials)?;
        if (now.uid, now.gid) != (caller.uid(), caller.gid()) {
            return Err(UnixError::OtherUser);
        }
        let mut selectors = Vec::with_capacity(6 + 2 * now.groups.len());
        let mut add = |name: &str, value: &str| -> Result<(), SelectorError> {
            selectors.push(Selector::new(TYPE, &format!("{name}:{value}"))?);
            Ok(())
        };
        add("uid", &now.uid.to_string())?;
        if let Some(Some(user)) = self.users.of(&[now.uid]).await.first() {
            add("user", user)?;
        }
        let ids: Vec<u32> = std::iter::once(now.gid).chain(now.groups).collect();
        let names = self.groups.of(&ids).await;
        let prefixes = std::iter::once(("gid", "group"))
            .chain(std::iter::repeat(("supplementary_gid", "supplementary_group")));
        for (((by_id, by_name), id), name) in prefixes.zip(ids).zip(names) {
            add(by_id, &id.to_string())?;
            if let Some(name) = name {
                add(by_name, &name)?;
            }
        }
        if let Some(hashing) = self.hashing() {
            let Executable { path, sha256 } = self.executable(caller.pid(), hashing).await?;
            path.map_or(Ok(()), |path| add("path", &path))?;
            sha256.map_or(Ok(()), |hash| add("sha256", &hash))?;
        }
        Ok(selectors.into_iter().collect())
    }

    async fn executable(&self, pid: i32, hashing: Hashing) -> Result<Executable, UnixError> {
        let (executables, exe) = (self.executables.clone(), self.proc.path(pid, "exe"));
        let looked = tokio::task::spawn_blocking(move || executables.look(&exe, hashing)).await;
        Ok(looked.map_err(|_| UnixError::Interrupted)??)
    }
}

fn hashing(options: UnixOptions) -> Option<Hashing> {
    let hashing = match u64::try_from(options.workload_size_limit) {
        Err(_) => Hashing::Never,
        Ok(0) => Hashing::Always,
        Ok(limit) => Hashing::UpTo(limit),
    };
    options.discover_workload_path.then_some(hashing)
}
