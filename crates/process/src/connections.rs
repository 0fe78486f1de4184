//! The number of connections that a process may have.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Open files at most.
const MANY: u64 = 65_536;

/// Lets the process have as many connections at once as the system allows it.
pub fn allow_many() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let wanted = maximum.unwrap_or(MANY).min(MANY);
    if current.is_some_and(|current| current < wanted) {
        // What it has is enough for most networks.
        let _unchanged = setrlimit(
            Resource::Nofile,
            Rlimit {
                current: Some(wanted),
                maximum,
            },
        );
    }
}

/// How many files and connections the process may have after that; nothing if there is no limit.
#[must_use]
pub fn most_files() -> Option<u64> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let most = maximum.unwrap_or(MANY).min(MANY);
    current.map(|current| current.max(most))
}
