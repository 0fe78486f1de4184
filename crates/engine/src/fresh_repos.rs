//! The repos or documents of many accounts, fetched a few at once and taken up one after the other.

use crate::fresh_repo::NoRepo;
use fetch::FetchError;
use process::Failure;
use std::collections::VecDeque;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

/// Runs `fetch` for each account, `at_once` of them concurrently, and passes what came of it to
/// `each` on this thread. False if it was stopped. No more results than `at_once` are held, beside
/// the one that `each` has.
///
/// # Errors
/// That of `each`.
pub(crate) fn fetch_each<T, F>(
    runtime: &Runtime,
    dids: Vec<String>,
    at_once: usize,
    fetch: impl Fn(String) -> F,
    mut each: impl FnMut(String, Result<T, NoRepo>) -> Result<(), Failure>,
) -> Result<bool, Failure>
where
    T: Send + 'static,
    F: Future<Output = Result<T, NoRepo>> + Send + 'static,
{
    let mut waiting: VecDeque<String> = dids.into();
    let mut tasks = JoinSet::new();
    loop {
        while tasks.len() < at_once
            && let Some(did) = waiting.pop_front()
        {
            let got = fetch(did.clone());
            let task = async move { (did, got.await) };
            tasks.spawn_on(task, runtime.handle());
        }
        let Some(ended) = runtime.block_on(tasks.join_next()) else {
            return Ok(true);
        };
        let (did, got) = ended.map_err(|error| Failure::new(format!("a task ended: {error}")))?;
        if matches!(got, Err(NoRepo::Failed(FetchError::Stopped))) {
            return Ok(false);
        }
        each(did, got)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    fn dids(count: usize) -> Vec<String> {
        (0..count)
            .map(|number| format!("did:plc:{number}"))
            .collect()
    }

    #[test]
    fn each_account_comes_once_and_no_more_than_so_many_are_held() {
        let runtime = process::threads::start().unwrap();
        let held = Arc::new(AtomicUsize::new(0));
        let fetch = |did: String| {
            let held = Arc::clone(&held);
            async move {
                assert!(held.fetch_add(1, Ordering::SeqCst) < 3);
                tokio::task::yield_now().await;
                Ok(did)
            }
        };
        let mut seen = Vec::new();
        let ended = fetch_each(&runtime, dids(50), 3, fetch, |did, got| {
            held.fetch_sub(1, Ordering::SeqCst);
            assert_eq!(got.unwrap(), did);
            seen.push(did);
            Ok(())
        });
        assert!(ended.unwrap());
        seen.sort();
        let mut all = dids(50);
        all.sort();
        assert_eq!(seen, all);
    }

    #[test]
    fn it_ends_when_it_is_stopped_and_when_a_result_cannot_be_used() {
        let runtime = process::threads::start().unwrap();
        let stopped = |_: String| async { Err::<(), _>(NoRepo::Failed(FetchError::Stopped)) };
        let ended = fetch_each(&runtime, dids(5), 2, stopped, |did, _| {
            panic!("{did}: a request that was stopped has no result")
        });
        assert!(!ended.unwrap());
        let fetch = |_: String| async { Ok(()) };
        let error = fetch_each(&runtime, dids(5), 2, fetch, |_, _| {
            Err(Failure::new("the disk is full"))
        });
        assert_eq!(error.unwrap_err().message(), "the disk is full");
    }
}
