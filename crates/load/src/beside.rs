//! Loading beside another program that writes the same tables, such as the AppView's own ingester.
//!
//! The official ingester applies events in an order of its own, and keeps no rev with a row. So no
//! condition on a row says whether it is older than a repo at hand. What says so is the account's
//! host: if the newest commit is the one at hand, nothing that anybody stored is newer. That holds
//! until the host has another commit, so nobody may store one between the question and the commit
//! of the transaction. Each of the official ingester's transactions begins with a statement that
//! writes `record` (`insertRecord`, `updateRecord`, `deleteRecord` in
//! `data-plane/server/indexing/processor.ts`). While `record` is locked against writers, such a
//! transaction has ended, and its rows are seen, or it has not begun, and finds the rows that are
//! stored now. Readers do not wait.
//!
//! The lock is waited for but briefly: whoever writes meanwhile waits behind it.

use pg::DbError;
use postgres::Client;

/// Lets no other program write records until the transaction ends.
pub(crate) fn hold_others(client: &mut Client) -> Result<(), DbError> {
    client.batch_execute(
        "SET LOCAL lock_timeout = '3s';
         LOCK TABLE record IN SHARE ROW EXCLUSIVE MODE;
         SET LOCAL lock_timeout = 0",
    )?;
    Ok(())
}
