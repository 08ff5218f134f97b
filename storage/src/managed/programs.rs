//! Finds the Postgres programs of this machine.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    process::Command,
};

use super::ManagedError;

/// The oldest Postgres that the statements of this crate work with.
const OLDEST: u32 = 14;

/// A directory with the programs of one Postgres version.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Programs {
    pub(super) major: u32,
    directory: PathBuf,
}

impl Programs {
    /// The newest programs of this machine, or for an existing cluster those of the version that made it.
    pub(super) fn find(cluster: &Path) -> Result<Self, ManagedError> {
        let found: BTreeSet<Self> = directories().into_iter().filter_map(Self::of).collect();
        choose(&found, made_by(cluster), cluster)
    }

    /// The path of one of the programs.
    pub(super) fn path(&self, program: &str) -> PathBuf {
        self.directory.join(program)
    }

    /// The programs of this directory, if a server is among them and says which version it is.
    fn of(directory: PathBuf) -> Option<Self> {
        let postgres = directory.join("postgres");
        if !postgres.is_file() || !directory.join("initdb").is_file() {
            return None;
        }
        let output = Command::new(postgres).arg("--version").output().ok()?;
        let major = parse_version(&String::from_utf8_lossy(&output.stdout))?;
        Some(Self { major, directory })
    }
}

/// The version that made the cluster; `None` when there is no cluster yet.
fn made_by(cluster: &Path) -> Option<u32> {
    std::fs::read_to_string(cluster.join("PG_VERSION")).ok()?.trim().parse().ok()
}

fn choose(
    found: &BTreeSet<Programs>,
    made_by: Option<u32>,
    cluster: &Path,
) -> Result<Programs, ManagedError> {
    let newest = found.last().filter(|newest| newest.major >= OLDEST);
    let newest = newest.ok_or(ManagedError::ProgramsMissing { oldest: OLDEST })?;
    let Some(made_by) = made_by else { return Ok(newest.clone()) };
    let same = found.iter().find(|programs| programs.major == made_by && programs.major >= OLDEST);
    same.cloned().ok_or_else(|| ManagedError::VersionDiffers {
        cluster: cluster.to_owned(),
        made_by,
        found: newest.major,
    })
}

/// The directories in which Postgres programs usually are.
fn directories() -> Vec<PathBuf> {
    let mut directories = Vec::new();
    if let Ok(output) = Command::new("pg_config").arg("--bindir").output() {
        directories.push(PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()));
    }
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    directories.extend(versions.map(|version| version.path().join("bin")));
    directories.extend(std::env::var_os("PATH").iter().flat_map(std::env::split_paths));
    directories
}

/// The major version in the answer to `postgres --version`, such as `postgres (PostgreSQL) 15.14 (Debian ..)`.
fn parse_version(answer: &str) -> Option<u32> {
    let version = answer.split_once("(PostgreSQL)")?.1.trim_start();
    let digits = version.find(|character: char| !character.is_ascii_digit()).unwrap_or(version.len());
    version[..digits].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn programs(major: u32) -> Programs {
        Programs { major, directory: PathBuf::from(format!("/usr/lib/postgresql/{major}/bin")) }
    }

    #[test]
    fn versions_are_read_as_distributions_write_them() {
        assert_eq!(parse_version("postgres (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)\n"), Some(15));
        assert_eq!(parse_version("postgres (PostgreSQL) 18beta1"), Some(18));
        assert_eq!(parse_version("bash: postgres: command not found"), None);
    }

    #[test]
    fn newest_programs_make_a_new_cluster() {
        let found = BTreeSet::from([programs(17), programs(15)]);
        assert_eq!(choose(&found, None, Path::new("/x")).ok(), Some(programs(17)));
    }

    #[test]
    fn existing_cluster_gets_the_programs_that_made_it() {
        let found = BTreeSet::from([programs(17), programs(15)]);
        assert_eq!(choose(&found, Some(15), Path::new("/x")).ok(), Some(programs(15)));
        let error = choose(&found, Some(16), Path::new("/x")).expect_err("16 is not installed");
        assert!(matches!(error, ManagedError::VersionDiffers { made_by: 16, found: 17, .. }));
    }

    #[test]
    fn old_programs_are_as_good_as_none() {
        let found = BTreeSet::from([programs(13)]);
        let error = choose(&found, None, Path::new("/x")).expect_err("too old");
        assert!(matches!(error, ManagedError::ProgramsMissing { oldest: 14 }));
        assert!(error.to_string().contains("apt install postgresql"));
    }
}
