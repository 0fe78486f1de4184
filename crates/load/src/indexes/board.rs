//! The schedule of a rebuild: which build is next, and what it may take of the server.
//!
//! CREATE INDEX lets others build on the same table, so all of a table's indexes are built side by
//! side, those of its constraints too. A constraint is added to its finished index at the end,
//! which takes no time but locks the table, so it waits for all other builds of the table. Large
//! tables come first: what takes longest must not begin last.

use super::resources::{Resources, Share};
use ledger::dropped::Dropped;

/// One thing that is missing.
#[derive(Debug)]
pub(super) struct Missing<'m> {
    /// What it is.
    pub(super) what: &'m Dropped,
    /// Bytes of its table.
    pub(super) table_bytes: u64,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Waiting,
    Building(Share),
    /// The index of a constraint is there.
    Built,
    /// The constraint is being added.
    Adding,
    Done,
}

/// What a worker does next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Builds an index.
    Build(usize, Share),
    /// Adds constraints of one table to their indexes.
    Add(Vec<usize>),
    /// Waits until another worker has finished something.
    Wait,
    /// Ends.
    End,
}

/// The schedule.
pub(super) struct Board<'m> {
    all: Vec<Missing<'m>>,
    resources: Resources,
    is_closed: bool,
}

impl<'m> Board<'m> {
    /// All of `missing`, with the bytes of their tables.
    pub(super) fn new(
        missing: &'m [Dropped],
        table_bytes: impl Fn(&str) -> u64,
        resources: Resources,
    ) -> Self {
        let of = |what: &'m Dropped| Missing {
            what,
            table_bytes: table_bytes(&what.table),
            state: State::Waiting,
        };
        let mut all: Vec<Missing<'m>> = missing.iter().map(of).collect();
        all.sort_by_key(|one| {
            let cost = one.table_bytes.saturating_mul(weight(one.what));
            (std::cmp::Reverse(cost), one.what.name.clone())
        });
        Self {
            all,
            resources,
            is_closed: false,
        }
    }

    /// What is at `at`.
    pub(super) fn at(&self, at: usize) -> Option<&'m Dropped> {
        self.all.get(at).map(|one| one.what)
    }

    /// Nothing more begins.
    pub(super) fn close(&mut self) {
        self.is_closed = true;
    }

    /// Whether all is done.
    pub(super) fn is_done(&self) -> bool {
        self.all.iter().all(|one| one.state == State::Done)
    }

    /// What a worker does next.
    pub(super) fn next(&mut self) -> Next {
        if self.is_closed || self.is_done() {
            return Next::End;
        }
        if let Some(constraints) = self.addable() {
            for at in &constraints {
                self.set(*at, State::Adding);
            }
            return Next::Add(constraints);
        }
        let running = || self.all.iter().filter_map(Missing::share);
        if running().count() >= self.resources.builds {
            return Next::Wait;
        }
        let left = self.resources.without(running());
        let waiting = self.all.iter().filter(|one| one.state == State::Waiting);
        let waiting = waiting.count();
        let found = self.all.iter().enumerate();
        let mut found = found.filter(|(_, one)| one.state == State::Waiting && self.may_begin(one));
        let Some((at, one)) = found.next() else {
            return Next::Wait;
        };
        let share = left.share(waiting, one.table_bytes);
        self.set(at, State::Building(share));
        Next::Build(at, share)
    }

    /// Constraints whose indexes are there, of a table on which nothing is left to build.
    fn addable(&self) -> Option<Vec<usize>> {
        let built = self.all.iter().filter(|one| one.state == State::Built);
        let mut tables = built.map(|one| one.what.table.as_str());
        let table = tables.find(|table| {
            let mut of_table = self.all.iter().filter(|one| one.what.table == *table);
            of_table.all(|one| matches!(one.state, State::Built | State::Done))
        })?;
        let of_table = |one: &Missing<'_>| one.what.table == table && one.state == State::Built;
        let all = self.all.iter().enumerate();
        let found = all.filter(|(_, one)| of_table(one)).map(|(at, _)| at);
        Some(found.collect())
    }

    /// Whether nothing that runs on its table is in the way.
    fn may_begin(&self, one: &Missing<'_>) -> bool {
        let others = self.all.iter().filter(|other| {
            other.what.table == one.what.table && matches!(other.state, State::Building(_))
        });
        let mut others = others.peekable();
        if locks_table(one.what) {
            return others.peek().is_none();
        }
        others.all(|other| !locks_table(other.what))
    }

    /// The index at `at` is there, and with it a constraint that `is_added`.
    pub(super) fn built(&mut self, at: usize, is_added: bool) {
        self.set(at, if is_added { State::Done } else { State::Built });
    }

    /// The constraints are there.
    pub(super) fn added(&mut self, constraints: &[usize]) {
        for at in constraints {
            self.set(*at, State::Done);
        }
    }

    /// The server had no more disk or memory for the build at `at` beside others: from now on one
    /// runs at a time, and this one again. False if it ran alone: that does not mend it.
    pub(super) fn retry_alone(&mut self, at: usize) -> bool {
        let running = self.all.iter().filter(|one| one.share().is_some()).count();
        self.set(at, State::Waiting);
        self.resources.builds = 1;
        running > 1
    }

    fn set(&mut self, at: usize, state: State) {
        if let Some(one) = self.all.get_mut(at) {
            one.state = state;
        }
    }
}

impl Missing<'_> {
    fn share(&self) -> Option<Share> {
        match self.state {
            State::Building(share) => Some(share),
            _ => None,
        }
    }
}

/// Whether its build locks the table for all others: a constraint that earlier versions saved, or
/// an exclusion constraint, which cannot be added to an index.
fn locks_table(what: &Dropped) -> bool {
    what.ddl.starts_with("ALTER ") && what.index.is_none()
}

/// How long a build takes, beside one of a btree index on the same table: a GIN index has an entry
/// for each three letters of a text, and is built by one process.
fn weight(what: &Dropped) -> u64 {
    if what.ddl.contains(" USING gin ") {
        4
    } else {
        1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(table: &str, name: &str) -> Dropped {
        Dropped {
            table: table.to_owned(),
            name: name.to_owned(),
            ddl: format!("CREATE INDEX {name} ON {table} USING btree (x)"),
            index: None,
            tablespace: None,
        }
    }

    fn unique(table: &str, name: &str) -> Dropped {
        Dropped {
            ddl: format!("ALTER TABLE {table} ADD CONSTRAINT {name} UNIQUE (x)"),
            index: Some(format!("CREATE UNIQUE INDEX {name} ON {table}")),
            ..plain(table, name)
        }
    }

    fn resources(builds: usize) -> Resources {
        Resources {
            builds,
            memory: 1 << 30,
            processes: builds,
        }
    }

    fn bytes(table: &str) -> u64 {
        if table == "large" { 1 << 30 } else { 1 << 20 }
    }

    /// The names of what begins now.
    fn begin(board: &mut Board<'_>) -> Vec<(usize, String)> {
        let mut begun = Vec::new();
        while let Next::Build(at, _) = board.next() {
            begun.push((at, board.at(at).unwrap().name.clone()));
        }
        begun
    }

    #[test]
    fn a_table_has_several_builds_at_once_and_its_constraints_come_last() {
        let missing = [
            plain("small", "s"),
            plain("large", "b"),
            unique("large", "a"),
        ];
        let mut board = Board::new(&missing, bytes, resources(2));
        let begun = begin(&mut board);
        assert_eq!(begun, [(0, "a".to_owned()), (1, "b".to_owned())]);
        // The index of the constraint is there, but the other build would be waited for.
        board.built(0, false);
        let begun = begin(&mut board);
        assert_eq!(begun, [(2, "s".to_owned())]);
        assert_eq!(board.next(), Next::Wait);
        board.built(1, true);
        assert_eq!(board.next(), Next::Add(vec![0]));
        assert_eq!(board.next(), Next::Wait);
        board.built(2, true);
        board.added(&[0]);
        assert!(board.is_done());
        assert_eq!(board.next(), Next::End);
    }

    #[test]
    fn a_constraint_without_an_index_of_its_own_is_built_alone_on_its_table() {
        let locking = Dropped {
            index: None,
            ..unique("large", "c")
        };
        let missing = [plain("large", "b"), locking, plain("large", "d")];
        let mut board = Board::new(&missing, bytes, resources(9));
        let begun = begin(&mut board);
        assert_eq!(begun, [(0, "b".to_owned()), (2, "d".to_owned())]);
        board.built(0, true);
        assert_eq!(board.next(), Next::Wait);
        board.built(2, true);
        assert!(matches!(board.next(), Next::Build(1, _)));
        // And the other way around.
        let locking = Dropped {
            index: None,
            ..unique("large", "a")
        };
        let missing = [plain("large", "b"), locking];
        let mut board = Board::new(&missing, bytes, resources(9));
        assert_eq!(begin(&mut board), [(0, "a".to_owned())]);
    }

    #[test]
    fn a_gin_index_of_a_table_begins_first() {
        let gin = Dropped {
            ddl: "CREATE INDEX z ON large USING gin (x)".to_owned(),
            ..plain("large", "z")
        };
        let missing = [plain("large", "a"), gin];
        let mut board = Board::new(&missing, bytes, resources(1));
        assert_eq!(begin(&mut board), [(0, "z".to_owned())]);
    }

    #[test]
    fn a_build_for_which_there_is_no_disk_beside_others_comes_again_alone() {
        let missing = [plain("large", "a"), plain("large", "b")];
        let mut board = Board::new(&missing, bytes, resources(2));
        assert_eq!(begin(&mut board).len(), 2);
        assert!(board.retry_alone(0));
        assert_eq!(board.next(), Next::Wait);
        board.built(1, true);
        assert!(matches!(board.next(), Next::Build(0, _)));
        assert!(!board.retry_alone(0));
        board.close();
        assert_eq!(board.next(), Next::End);
        assert!(!board.is_done());
    }
}
