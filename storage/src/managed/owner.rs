//! Whose cluster it is: our own user's, or, since Postgres refuses to run as root, an unprivileged user's.

use std::{
    io,
    os::unix::fs::{DirBuilderExt, MetadataExt, chown},
    path::{Path, PathBuf},
};

use nix::unistd::{User, getegid, geteuid};
use tokio::process::Command;

use super::ManagedError;

/// The user that owns the cluster's files and processes.
#[derive(Clone, Debug)]
pub(super) struct Owner {
    name: String,
    uid: u32,
    gid: u32,
    /// Whether that is another user than ours, because ours is root.
    is_other: bool,
}

impl Owner {
    /// Ourselves, or for root the user `postgres`, or where there is none `nobody`.
    pub(super) fn find() -> Result<Self, ManagedError> {
        if !geteuid().is_root() {
            let (uid, gid) = (geteuid().as_raw(), getegid().as_raw());
            return Ok(Self { name: uid.to_string(), uid, gid, is_other: false });
        }
        let unprivileged =
            ["postgres", "nobody"].iter().find_map(|name| User::from_name(name).ok().flatten());
        let user = unprivileged.ok_or(ManagedError::NoUnprivilegedUser)?;
        Ok(Self { name: user.name, uid: user.uid.as_raw(), gid: user.gid.as_raw(), is_other: true })
    }

    /// A command that runs as the owner, in a process group of its own (so that Ctrl-C in the terminal does not
    /// stop it before us), from a directory that it can enter, and without settings from our environment.
    pub(super) fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.current_dir("/").process_group(0).stdin(std::process::Stdio::null());
        if self.is_other {
            command.uid(self.uid).gid(self.gid);
        }
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("PG") {
                command.env_remove(name);
            }
        }
        command
    }

    /// Makes a directory that only the owner can enter.
    pub(super) fn create_directory(&self, path: &Path) -> io::Result<()> {
        std::fs::DirBuilder::new().mode(0o700).create(path)?;
        if self.is_other {
            chown(path, Some(self.uid), Some(self.gid))?;
        }
        Ok(())
    }

    /// Makes a directory as [`Self::create_directory`] does, or accepts one that was made so. In a directory
    /// that others can write to, nobody else's must be accepted.
    pub(super) fn ensure_directory(&self, path: &Path) -> io::Result<()> {
        match self.create_directory(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            other => return other,
        }
        let metadata = std::fs::symlink_metadata(path)?;
        if metadata.is_dir() && metadata.uid() == self.uid && metadata.mode() & 0o777 == 0o700 {
            return Ok(());
        }
        Err(io::Error::other(format!("it exists, but not as a private directory of {}", self.name)))
    }

    /// Whether the owner can reach what is in this directory; the parents of root's directories are often closed.
    pub(super) fn require_entry(&self, directory: &Path) -> Result<(), ManagedError> {
        if !self.is_other {
            return Ok(());
        }
        let closed = directory.ancestors().find(|ancestor| {
            std::fs::metadata(ancestor)
                .is_ok_and(|metadata| !self.may_enter(metadata.uid(), metadata.gid(), metadata.mode()))
        });
        match closed {
            None => Ok(()),
            Some(path) => Err(ManagedError::Closed { path: PathBuf::from(path), user: self.name.clone() }),
        }
    }

    fn may_enter(&self, uid: u32, gid: u32, mode: u32) -> bool {
        let bit = if uid == self.uid {
            0o100
        } else if gid == self.gid {
            0o010
        } else {
            0o001
        };
        mode & bit != 0
    }
}

#[cfg(test)]
impl Owner {
    /// Someone who is nobody's friend.
    pub(super) fn of_tests() -> Self {
        Self { name: "postgres".to_owned(), uid: 4_000_070, gid: 4_000_071, is_other: true }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entry_is_decided_by_the_first_class_that_fits() {
        let owner = Owner { name: "postgres".to_owned(), uid: 70, gid: 71, is_other: true };
        assert!(owner.may_enter(0, 0, 0o755));
        assert!(!owner.may_enter(0, 0, 0o700));
        assert!(owner.may_enter(70, 0, 0o700));
        assert!(!owner.may_enter(70, 71, 0o077));
        assert!(owner.may_enter(0, 71, 0o710));
    }
}
