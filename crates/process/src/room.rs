//! The disk that a database lies on: how much of it is free, where this machine can see it.

use crate::database::Database;
use crate::failure::Failure;
use postgres::Client;
use std::path::{Path, PathBuf};

/// The disk of a database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Room {
    /// Bytes that the database has.
    pub used: u64,
    /// The folder of the server's files, and its free bytes.
    pub free: Result<(PathBuf, u64), Unseen>,
}

/// Why the free disk of a server is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unseen {
    /// It is on another machine.
    Elsewhere,
    /// The role may not see where the server has its files.
    NotAllowed,
    /// The folder cannot be looked at.
    NotThere,
}

impl Unseen {
    /// For people.
    #[must_use]
    pub const fn why(self) -> &'static str {
        match self {
            Self::Elsewhere => "the server's disk cannot be seen from here",
            Self::NotAllowed => "this role may not see where the server has its files",
            Self::NotThere => "its folder cannot be looked at",
        }
    }
}

/// Free bytes of the file system of `folder`, or of the folder in which it is to be made.
#[must_use]
pub fn free_at(folder: &Path) -> Option<u64> {
    let folder = std::path::absolute(folder).ok()?;
    // The folder itself may be closed to others; where it lies is not.
    let mut places = folder.ancestors();
    let stat = places.find_map(|place| rustix::fs::statvfs(place).ok())?;
    Some(stat.f_bavail.saturating_mul(stat.f_frsize))
}

impl Database {
    /// Looks at its disk.
    ///
    /// # Errors
    /// The server refused.
    pub fn room(&self, client: &mut Client) -> Result<Room, Failure> {
        let row = client
            .query_one(
                "SELECT pg_database_size(current_database()),
                   CASE WHEN pg_has_role(current_user, 'pg_read_all_settings', 'USAGE') THEN current_setting('data_directory') END",
                &[],
            )
            .map_err(|error| self.failure(error))?;
        let folder: Option<String> = row.get(1);
        let free = match (self.machine(), folder) {
            (None, _) => Err(Unseen::Elsewhere),
            (_, None) => Err(Unseen::NotAllowed),
            (_, Some(folder)) => {
                let folder = PathBuf::from(folder);
                let free = free_at(&folder).ok_or(Unseen::NotThere);
                free.map(|free| (folder, free))
            }
        };
        Ok(Room {
            used: u64::try_from(row.get::<_, i64>(0)).unwrap_or(0),
            free,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_is_not_there_yet_has_the_disk_of_the_one_above() {
        let folder = Path::new("/nobody/made/this");
        assert!(free_at(folder).is_some_and(|free| free > 0));
    }
}
