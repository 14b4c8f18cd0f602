//! Whose files they are to be, and doing the work of a file system as that user.
//!
//! A root agent that writes into somebody else's folder does so with that user's rights: the kernel then refuses whatever
//! the user could not have done, whatever has been put in the way. Invariant: a thread that has left [`Owner::acting`]
//! acts as this process again.

use std::fmt;
use std::path::{Path, PathBuf};

use nix::unistd::{Gid, Group, Uid, User, getegid, geteuid, setfsgid, setfsuid};

/// A user and group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    uid: Uid,
    gid: Gid,
    user: Option<(String, PathBuf)>,
}

/// Why a text names no owner.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OwnerError {
    /// No such user.
    #[error("there is no user {0:?}")]
    NoUser(String),
    /// No such group.
    #[error("there is no group {0:?}")]
    NoGroup(String),
    /// A uid without an account has no group of its own.
    #[error("uid {0} has no account: name a group too, as in \"{0}:GROUP\"")]
    NeedsGroup(Uid),
}

/// Only root may act as another user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("acting as uid {0} is not permitted: run as root, or leave the owner out")]
pub(crate) struct NotPermitted(u32);

impl Owner {
    /// The user of this process.
    pub fn this_process() -> Self {
        Self {
            uid: geteuid(),
            gid: getegid(),
            user: None,
        }
    }

    /// `USER`, `USER:GROUP`, `UID` or `UID:GID`; without a group that of the user. Asks the system's databases.
    pub(crate) fn parse(text: &str) -> Result<Self, OwnerError> {
        let (user, group) = match text.split_once(':') {
            Some((user, group)) => (user, Some(group)),
            None => (text, None),
        };
        let by_name = || User::from_name(user).ok().flatten();
        let by_number = |uid| User::from_uid(Uid::from_raw(uid)).ok().flatten();
        let number = user.parse::<u32>().ok();
        let account = by_name().or_else(|| number.and_then(by_number));
        let uid = match (&account, number) {
            (Some(account), _) => account.uid,
            (None, Some(number)) => Uid::from_raw(number),
            (None, None) => return Err(OwnerError::NoUser(user.to_owned())),
        };
        let gid = match (group, &account) {
            (Some(group), _) => group_id(group).ok_or_else(|| OwnerError::NoGroup(group.to_owned()))?,
            (None, Some(account)) => account.gid,
            (None, None) => return Err(OwnerError::NeedsGroup(uid)),
        };
        let user = account.map(|account| (account.name, account.dir));
        Ok(Self { uid, gid, user })
    }

    pub(crate) fn uid(&self) -> Uid {
        self.uid
    }

    pub(crate) fn gid(&self) -> Gid {
        self.gid
    }

    /// The account's name and home, where the owner was named and has one.
    pub(crate) fn account(&self) -> Option<(&str, &Path)> {
        self.user
            .as_ref()
            .map(|(name, home)| (name.as_str(), home.as_path()))
    }

    /// Whether that is the user of this process.
    pub(crate) fn is_this_process(&self) -> bool {
        self.uid == geteuid() && self.gid == getegid()
    }

    /// Does `work` on this thread with the file system rights of the owner. Must not be called on a thread that others
    /// use meanwhile: `work` blocks.
    ///
    /// # Errors
    /// [`NotPermitted`], before anything was done.
    pub(crate) fn acting<T>(&self, work: impl FnOnce() -> T) -> Result<T, NotPermitted> {
        let _back = Back;
        // The group may stay behind where the user is the process's own: files get it by a change of owner then.
        setfsgid(self.gid);
        setfsuid(self.uid);
        if acts_as() == self.uid {
            Ok(work())
        } else {
            Err(NotPermitted(self.uid.as_raw()))
        }
    }
}

/// The kernel's answer to a uid that there isn't is the one that counts.
fn acts_as() -> Uid {
    setfsuid(Uid::from_raw(u32::MAX))
}

struct Back;

impl Drop for Back {
    fn drop(&mut self) {
        setfsuid(geteuid());
        setfsgid(getegid());
    }
}

fn group_id(text: &str) -> Option<Gid> {
    let named = Group::from_name(text).ok().flatten();
    named
        .map(|group| group.gid)
        .or_else(|| text.parse().ok().map(Gid::from_raw))
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.user {
            Some((name, _)) => write!(f, "{name}:{}", self.gid),
            None => write!(f, "{}:{}", self.uid, self.gid),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_are_named_or_numbered() {
        let root = Owner::parse("root").unwrap();
        assert_eq!((root.uid().as_raw(), root.gid().as_raw()), (0, 0));
        assert_eq!(root.account().unwrap().0, "root");
        let (numbered, other) = (Owner::parse("0").unwrap(), Owner::parse("root:7").unwrap());
        assert_eq!(numbered, root);
        assert_eq!(other.gid().as_raw(), 7);
        assert_eq!(Owner::parse("4000000000:7").unwrap().to_string(), "4000000000:7");
        for (text, error) in [
            ("nobody-of-that-name", "there is no user \"nobody-of-that-name\""),
            ("root:no-such-group", "there is no group \"no-such-group\""),
            (
                "4000000000",
                "uid 4000000000 has no account: name a group too, as in \"4000000000:GROUP\"",
            ),
        ] {
            assert_eq!(Owner::parse(text).unwrap_err().to_string(), error);
        }
    }

    #[test]
    fn only_root_acts_as_others_and_comes_back() {
        let other = Owner::parse("4000000000:4000000001").unwrap();
        let acted = other.acting(acts_as);
        if geteuid().is_root() {
            assert_eq!(acted, Ok(other.uid()));
        } else {
            assert_eq!(acted, Err(NotPermitted(4_000_000_000)));
        }
        assert_eq!(acts_as(), geteuid());
        assert_eq!(Owner::this_process().acting(acts_as), Ok(geteuid()));
    }
}
