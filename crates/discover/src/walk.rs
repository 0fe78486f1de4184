//! Decides how far a list is followed. A host itself decides how many pages its list has, so each
//! page must be worth its cost. A list is not followed further if it goes in circles, has next to
//! nothing on its pages, takes far longer than its lines need, or is longer than a list can be.

use std::hash::{BuildHasher, Hash, Hasher, RandomState};
use std::time::Duration;

/// The budget of a list.
#[derive(Clone, Copy, Debug)]
pub struct Allowance {
    /// Number of pages that may contain anything or nothing.
    pub free_pages: u64,
    /// Minimum number of lines per page on the others, on average.
    pub lines_per_page: u64,
    /// Maximum number of lines.
    pub lines: u64,
    /// Time for the first lines.
    pub first_time: Duration,
    /// Additional time per line.
    pub time_per_line: Duration,
}

impl Allowance {
    /// Budget for the repos of a host. The fullest hosts have half a million repos and return a
    /// thousand per page, in less than a second. This is enough for a host that is twice as full,
    /// has pages a twentieth as large, and is about twenty times slower.
    pub const HOST: Self = Self {
        free_pages: 64,
        lines_per_page: 50,
        lines: 1_000_000,
        first_time: Duration::from_secs(120),
        time_per_line: Duration::from_millis(20),
    };
    /// Budget for lists of a relay, which the operator chose: ten times the whole network, in pages
    /// of any size.
    pub const RELAY: Self = Self {
        lines_per_page: 5,
        lines: 500_000_000,
        ..Self::HOST
    };
}

/// What to do after a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Request the page after this cursor.
    Next(String),
    /// Stop: the list is at its end.
    End,
    /// Stop for now: there is more, and the list can be continued later.
    InPart(&'static str),
    /// Stop: the rest of the list is unusable.
    Broken(&'static str),
}

/// A list that is being followed.
#[derive(Debug)]
pub struct Walk {
    allowance: Allowance,
    hasher: RandomState,
    last: Option<u64>,
    /// Hash of the lines of the previous page.
    last_lines: Option<u64>,
    /// Whether the same cursor came twice and is requested once more, to see if that is the end.
    is_confirming: bool,
    /// Hash of an earlier cursor, and how many pages ago it was. It is replaced at twice the
    /// distance each time, so that a circle of any length returns to it although only one hash is
    /// kept (Brent's algorithm).
    mark: Option<u64>,
    since_mark: u64,
    next_mark: u64,
    pages: u64,
    lines: u64,
}

impl Walk {
    /// A walk that begins at `cursor`.
    #[must_use]
    pub fn new(allowance: Allowance, cursor: Option<&str>) -> Self {
        let hasher = RandomState::new();
        let last = cursor.map(|cursor| hasher.hash_one(cursor));
        Self {
            allowance,
            hasher,
            last,
            last_lines: None,
            is_confirming: false,
            mark: last,
            since_mark: 0,
            next_mark: 1,
            pages: 0,
            lines: 0,
        }
    }

    /// Lines so far.
    #[must_use]
    pub fn lines(&self) -> u64 {
        self.lines
    }

    /// Decides after a page with these lines and this next cursor; `took` is the time for the list
    /// so far.
    pub fn page<'l>(
        &mut self,
        names: impl IntoIterator<Item = &'l str>,
        cursor: Option<String>,
        took: Duration,
    ) -> Step {
        let mut hasher = self.hasher.build_hasher();
        let mut lines = 0u64;
        for name in names {
            name.hash(&mut hasher);
            lines = lines.saturating_add(1);
        }
        let is_same_page = self.last_lines.replace(hasher.finish()) == Some(hasher.finish());
        self.pages = self.pages.saturating_add(1);
        self.lines = self.lines.saturating_add(lines);
        let Some(cursor) = cursor else {
            return Step::End;
        };
        let hash = self.hasher.hash_one(&cursor);
        if self.last.replace(hash) == Some(hash) {
            // Some hosts repeat the cursor at the end of the list. They repeat it a second time.
            return match (lines, is_same_page, self.is_confirming) {
                (0, _, _) | (_, true, true) => Step::End,
                (_, true, false) => Step::Broken("its list gives the same page again and again"),
                (_, false, true) => {
                    Step::Broken("its list gives other repos for the same cursor each time")
                }
                (_, false, false) => {
                    self.is_confirming = true;
                    Step::Next(cursor)
                }
            };
        }
        self.is_confirming = false;
        if self.mark == Some(hash) {
            return Step::Broken("its list goes round in circles");
        }
        self.since_mark = self.since_mark.saturating_add(1);
        if self.since_mark >= self.next_mark {
            self.mark = Some(hash);
            self.since_mark = 0;
            self.next_mark = self.next_mark.saturating_mul(2);
        }
        let of = &self.allowance;
        let costly_pages = self.pages.saturating_sub(of.free_pages);
        if self.lines < costly_pages.saturating_mul(of.lines_per_page) {
            return Step::InPart("its pages hold next to nothing");
        }
        if self.lines >= of.lines {
            return Step::InPart("it lists more repos than a host can have");
        }
        if took > allowed(of.first_time, of.time_per_line, self.lines) {
            return Step::InPart("its list takes far longer than its length needs");
        }
        Step::Next(cursor)
    }
}

/// The time that `lines` lines may take.
#[must_use]
pub fn allowed(first: Duration, each: Duration, lines: u64) -> Duration {
    let lines = u32::try_from(lines).unwrap_or(u32::MAX);
    first.saturating_add(each.saturating_mul(lines))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Follows a list of pages of `lines` lines, each of which takes `each`; pages and the last
    /// step.
    fn follow(
        lines: u64,
        each: Duration,
        mut cursor: impl FnMut(u64) -> Option<String>,
    ) -> (u64, Step) {
        let mut walk = Walk::new(Allowance::HOST, None);
        for page in 1u64.. {
            let took = each.saturating_mul(u32::try_from(page).unwrap());
            let names: Vec<String> = (0..lines).map(|line| format!("{page} {line}")).collect();
            match walk.page(names.iter().map(String::as_str), cursor(page), took) {
                Step::Next(_) => {}
                end => return (page, end),
            }
        }
        unreachable!()
    }

    #[test]
    fn an_honest_list_is_followed_to_its_end() {
        let to = |last: u64| move |page: u64| (page < last).then(|| page.to_string());
        // Half a million repos, a page per second; a small host, a page a minute; a host whose
        // pages are small.
        for (lines, last, each) in [(1000, 500, 1), (20, 2, 60), (100, 1000, 1)] {
            let each = Duration::from_secs(each);
            assert_eq!(follow(lines, each, to(last)), (last, Step::End));
        }
        // Some give the last cursor again when there is nothing after it, with the last lines or
        // without.
        let same = || Some("b".to_owned());
        let mut walk = Walk::new(Allowance::HOST, Some("b"));
        assert_eq!(walk.page([], same(), Duration::ZERO), Step::End);
        let mut walk = Walk::new(Allowance::HOST, Some("b"));
        assert_eq!(
            walk.page(["x"], same(), Duration::ZERO),
            Step::Next("b".to_owned())
        );
        assert_eq!(walk.page(["x"], same(), Duration::ZERO), Step::End);
    }

    #[test]
    fn circles_of_any_length_are_noticed() {
        for length in [2u64, 3, 7, 100, 2000] {
            let (pages, end) = follow(100, Duration::ZERO, |page| {
                Some((page % length).to_string())
            });
            assert!(matches!(end, Step::Broken(_)), "{length}: {end:?}");
            assert!(pages <= 4 * length + 4, "{length}: {pages} pages");
        }
        // A host that does not look at the cursor, and one that gives something else for it each
        // time.
        let mut walk = Walk::new(Allowance::HOST, None);
        let same = || Some("b".to_owned());
        assert_eq!(
            walk.page(["x"], same(), Duration::ZERO),
            Step::Next("b".to_owned())
        );
        assert!(matches!(
            walk.page(["x"], same(), Duration::ZERO),
            Step::Broken(_)
        ));
        let (pages, end) = follow(100, Duration::ZERO, |_| same());
        assert!(
            matches!(end, Step::Broken(_)) && pages == 3,
            "{end:?} after {pages}"
        );
        // One that leads into a circle.
        let (_, end) = follow(100, Duration::ZERO, |page| {
            Some((page.min(40) + page % 3).to_string())
        });
        assert!(matches!(end, Step::Broken(_)), "{end:?}");
    }

    #[test]
    fn a_list_that_is_not_worth_its_cost_is_not_followed() {
        let on = |page: u64| Some(page.to_string());
        // Ten invented repos every four seconds.
        let (pages, end) = follow(10, Duration::from_secs(4), on);
        assert!(pages < 100, "{pages}");
        assert_eq!(
            end,
            Step::InPart("its list takes far longer than its length needs")
        );
        let (pages, end) = follow(0, Duration::ZERO, on);
        assert_eq!(
            (pages, end),
            (65, Step::InPart("its pages hold next to nothing"))
        );
        // Five million invented ones, as fast as can be.
        let (pages, end) = follow(1000, Duration::ZERO, on);
        assert_eq!(
            (pages, end),
            (
                1000,
                Step::InPart("it lists more repos than a host can have")
            )
        );
    }
}
