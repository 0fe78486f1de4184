//! Confidence intervals of shares that were measured in a sample of repos.
//!
//! Rows are not drawn one by one: a repo is drawn, and all of its rows come with it. Rows of one
//! repo share their fate, so a sample of a million rows in a hundred repos says no more than some
//! hundred observations do. The share is therefore estimated as a ratio over clusters, its variance
//! from the residuals of the repos (Cochran, Sampling Techniques, 6.4), and the interval is
//! Wilson's with the number of independent observations that has the same variance (Korn and
//! Graubard, 1998), with Student's quantile. It is corrected for what was drawn of a finite
//! population: if all was drawn, nothing is left to guess.
//!
//! Residuals show nothing of what the sample did not meet. If one account in a thousand is absent,
//! most samples of a hundred have none, and vary little. So a sample never counts as more
//! observations than the repos in it that have rows in the table. That assumes that whether an
//! account is lost does not depend on its size.

/// A share, and the interval that holds the true one with 95 % confidence.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Share {
    /// The estimate, from 0 to 1.
    pub share: f64,
    /// The lower end.
    pub low: f64,
    /// The upper end.
    pub high: f64,
}

/// The quantile of the normal distribution for 95 %.
const NORMAL: f64 = 1.959_963_984_540_054;

/// Student's quantile for 95 % and so many degrees of freedom, by the expansion of Cornish and
/// Fisher; up to three, where that is too small, those of the tables.
fn student(degrees: f64) -> f64 {
    match degrees {
        f if f < 1.5 => 12.706,
        f if f < 2.5 => 4.303,
        f if f < 3.5 => 3.182,
        f => {
            let z = NORMAL;
            let (z3, z5, z7) = (z.powi(3), z.powi(5), z.powi(7));
            z + (z3 + z) / (4.0 * f)
                + (5.0 * z5 + 16.0 * z3 + 3.0 * z) / (96.0 * f * f)
                + (3.0 * z7 + 19.0 * z5 + 17.0 * z3 - 15.0 * z) / (384.0 * f.powi(3))
        }
    }
}

/// Wilson's interval for a share among `n` independent observations.
fn wilson(share: f64, n: f64, t: f64) -> Share {
    let t2 = t * t;
    let scale = 1.0 + t2 / n;
    let center = (share + t2 / (2.0 * n)) / scale;
    let half = t / scale * (share * (1.0 - share) / n + t2 / (4.0 * n * n)).sqrt();
    Share {
        share,
        low: (center - half).clamp(0.0, share),
        high: (center + half).clamp(share, 1.0),
    }
}

/// The share of what is there among what should be: of each repo that was drawn, what should be
/// there and what is. `population` is the number of repos that were drawn from. Nothing if nothing
/// should be there.
#[allow(clippy::cast_precision_loss)]
pub(crate) fn ratio(repos: &[(u64, u64)], population: u64) -> Option<Share> {
    let expected: f64 = repos.iter().map(|(expected, _)| *expected as f64).sum();
    if expected == 0.0 {
        return None;
    }
    let present: f64 = repos.iter().map(|(_, present)| *present as f64).sum();
    let share = present / expected;
    let drawn = repos.len() as f64;
    let left = 1.0 - (drawn / population.max(1) as f64).min(1.0);
    if left == 0.0 {
        return Some(Share {
            share,
            low: share,
            high: share,
        });
    }
    let with_rows = repos.iter().filter(|(expected, _)| *expected > 0).count() as f64;
    let residuals: f64 = repos
        .iter()
        .map(|(expected, present)| (*present as f64 - share * *expected as f64).powi(2))
        .sum();
    let variance = drawn / (drawn - 1.0).max(1.0) * residuals / (expected * expected);
    let observations = match share * (1.0 - share) / variance {
        n if n > 0.0 => n.min(with_rows),
        _ => with_rows,
    };
    Some(wilson(share, observations / left, student(with_rows - 1.0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_quantiles_are_those_of_the_tables() {
        for (degrees, wanted) in [
            (3.0, 3.182),
            (5.0, 2.571),
            (10.0, 2.228),
            (30.0, 2.042),
            (1e9, 1.960),
        ] {
            let found = student(degrees);
            assert!((found - wanted).abs() < 0.02, "{degrees}: {found}");
        }
    }

    #[test]
    fn rows_of_one_repo_are_not_independent() {
        // A hundred repos of a hundred rows; 3 % of all rows are missing: from each repo, or three
        // whole repos.
        let even = vec![(100, 97); 100];
        let mut whole = vec![(100, 100); 97];
        whole.extend([(100, 0); 3]);
        let (even, whole) = (
            ratio(&even, 1 << 20).unwrap(),
            ratio(&whole, 1 << 20).unwrap(),
        );
        assert!((even.share - 0.97).abs() < 1e-9 && (whole.share - 0.97).abs() < 1e-9);
        assert!(whole.high - whole.low > 0.05, "{whole:?}");
        // Each repo lacks the same: no variance is to be seen, and each is one observation.
        assert!(even.high - even.low > 0.03 && even.low > 0.9, "{even:?}");
    }

    #[test]
    fn what_was_drawn_completely_is_certain_and_nothing_says_nothing() {
        let all = ratio(&[(10, 9), (10, 10)], 2).unwrap();
        assert_eq!((all.low, all.share, all.high), (0.95, 0.95, 0.95));
        assert_eq!(ratio(&[(0, 0)], 10), None);
        // No row is missing in ten repos of a large network: the truth may still be far from 1.
        let good = ratio(&[(1000, 1000); 10], 45_000_000).unwrap();
        assert!(good.low < 0.75 && good.high == 1.0, "{good:?}");
        let better = ratio(&[(1000, 1000); 1000], 45_000_000).unwrap();
        assert!(better.low > 0.995, "{better:?}");
    }
}
