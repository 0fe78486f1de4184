//! Which options are stored, and for which commands.

/// Which options are stored. All are named by their arguments, with underscores.
#[derive(Debug)]
pub struct Policy {
    /// Commands that stored options apply to. The others have no database, or nothing to do with
    /// the network.
    pub commands: &'static [&'static str],
    /// Commands that load.
    pub loads: &'static [&'static str],
    /// The command whose runs are continued. Another that loads may have many runs, of which none
    /// is its own.
    pub run: &'static str,
    /// Options for every command that talks to the network.
    pub of_network: &'static [&'static str],
    /// Options for every command that loads.
    pub of_loads: &'static [&'static str],
    /// Options of the run that is under way.
    pub of_run: &'static [&'static str],
    /// Files and folders among them, which may also be URLs: another command may be started
    /// elsewhere.
    pub paths: &'static [&'static str],
    /// Options that exclude each other: one that is given displaces the other where that is
    /// stored.
    pub either: &'static [(&'static str, &'static str)],
}

/// How long an option is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    /// Until it is forgotten.
    Lasting,
    /// Until the run that is under way is done.
    Run,
}

impl Policy {
    /// How long an option of `command` is stored, if it is.
    pub(crate) fn scope(&self, command: &str, id: &str) -> Option<Scope> {
        if !self.commands.contains(&command) {
            return None;
        }
        let loads = self.loads.contains(&command);
        if self.of_network.contains(&id) || loads && self.of_loads.contains(&id) {
            return Some(Scope::Lasting);
        }
        (loads && self.of_run.contains(&id)).then_some(Scope::Run)
    }

    /// The option that `id` excludes.
    pub(crate) fn excluded_by(&self, id: &str) -> Option<&'static str> {
        let mut both = self.either.iter().flat_map(|(a, b)| [(*a, *b), (*b, *a)]);
        both.find(|(one, _)| *one == id).map(|(_, other)| other)
    }

    /// The names of all options that it stores.
    pub fn all(&self) -> impl Iterator<Item = &'static str> {
        let all = [self.of_network, self.of_loads, self.of_run];
        all.into_iter().flatten().copied()
    }
}

/// The option on the command line of an argument's name.
#[must_use]
pub(crate) fn long_of(id: &str) -> String {
    id.replace('_', "-")
}
