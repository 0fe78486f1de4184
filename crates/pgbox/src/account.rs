//! Which user PostgreSQL's programs run as: the caller, or, for root, an unprivileged user.

use crate::PgBoxError;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

/// A user that PostgreSQL runs as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Account {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) name: String,
    /// Whether the caller is root, so that the programs must switch to this user.
    pub(crate) drop_root: bool,
}

impl Account {
    /// The caller; for root the owner of `cluster` if that exists, the user behind sudo, `postgres`
    /// or `nobody`.
    pub(crate) fn choose(cluster: &Path) -> Result<Self, PgBoxError> {
        let (uid, gid) = (
            rustix::process::getuid().as_raw(),
            rustix::process::getgid().as_raw(),
        );
        if uid != 0 {
            return Ok(Self {
                uid,
                gid,
                name: format!("user {uid}"),
                drop_root: false,
            });
        }
        let of = |name: String, uid, gid| Self {
            uid,
            gid,
            name,
            drop_root: true,
        };
        let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
        if let Ok(found) = fs::metadata(cluster)
            && found.uid() != 0
        {
            return Ok(of(name_of(&passwd, found.uid()), found.uid(), found.gid()));
        }
        let sudo = |key: &str| {
            std::env::var(key)
                .ok()
                .and_then(|v| v.parse::<u32>().ok())
                .filter(|id| *id != 0)
        };
        if let (Some(uid), Some(gid)) = (sudo("SUDO_UID"), sudo("SUDO_GID")) {
            return Ok(of(name_of(&passwd, uid), uid, gid));
        }
        ["postgres", "nobody"]
            .iter()
            .find_map(|name| {
                ids_of(&passwd, name).map(|(uid, gid)| of((*name).to_owned(), uid, gid))
            })
            .ok_or(PgBoxError::NoUser)
    }

    /// A command that runs as this user, free of the caller's PostgreSQL settings and locale.
    pub(crate) fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        for (key, _) in std::env::vars_os() {
            if key.to_string_lossy().starts_with("PG") {
                command.env_remove(&key);
            }
        }
        command
            .env("LC_ALL", "C")
            .env_remove("LANGUAGE")
            .current_dir("/");
        if self.drop_root {
            // This also drops root's supplementary groups.
            command.uid(self.uid).gid(self.gid);
        }
        command
    }

    /// Whether this user can enter `folder`, judged by the mode bits of all folders on the path.
    pub(crate) fn can_enter(&self, folder: &Path) -> bool {
        !self.drop_root
            || folder
                .ancestors()
                .filter(|a| !a.as_os_str().is_empty())
                .all(|ancestor| {
                    let Ok(found) = fs::metadata(ancestor) else {
                        return true;
                    };
                    let wanted = match (found.uid() == self.uid, found.gid() == self.gid) {
                        (true, _) => 0o100,
                        (false, true) => 0o010,
                        (false, false) => 0o001,
                    };
                    found.mode() & wanted != 0
                })
    }
}

fn name_of(passwd: &str, uid: u32) -> String {
    let entry = passwd
        .lines()
        .find(|line| line.split(':').nth(2) == Some(&uid.to_string()));
    entry
        .and_then(|line| line.split(':').next())
        .map_or_else(|| format!("user {uid}"), str::to_owned)
}

fn ids_of(passwd: &str, name: &str) -> Option<(u32, u32)> {
    let mut fields = passwd
        .lines()
        .find(|line| line.split(':').next() == Some(name))?
        .split(':')
        .skip(2);
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwd_is_read_by_name_and_by_id() {
        let passwd =
            "root:x:0:0:root:/r:/bin/sh\npostgres:x:105:107::/var/lib/postgresql:/bin/bash\n";
        assert_eq!(ids_of(passwd, "postgres"), Some((105, 107)));
        assert_eq!(ids_of(passwd, "nobody"), None);
        assert_eq!(name_of(passwd, 105), "postgres");
        assert_eq!(name_of(passwd, 9), "user 9");
    }
}
