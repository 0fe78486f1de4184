//! Who makes the schema.

use ledger::locks::{self, Hold, Lock};
use pg::Waits;
use testbed::TestDb;

/// A session remembers of a name that nothing has it, and waits inside a transaction, in which
/// nobody tells it otherwise.
#[test]
fn who_waited_while_another_made_the_schema_goes_on_with_it() {
    let db = TestDb::migrated();
    let mut other = db.client();
    let mut making = other.transaction().unwrap();
    locks::acquire(&mut making, Lock::Schema, Hold::Transaction, Waits::SILENT).unwrap();

    let mut waiting = pg::connect(&db.url).unwrap();
    assert!(!ledger::exists(&mut waiting).unwrap());
    let pid: i32 = waiting
        .query_one("SELECT pg_backend_pid()", &[])
        .unwrap()
        .get(0);
    let prepared = std::thread::spawn(move || ledger::prepare(&mut waiting, Waits::SILENT));
    let mut watching = db.client();
    testbed::wait_until("the session waits in its transaction", || {
        let sql = "SELECT state LIKE 'idle in transaction%' FROM pg_stat_activity WHERE pid = $1";
        watching.query_one(sql, &[&pid]).unwrap().get(0)
    });
    let step = "CREATE SCHEMA skyfill;
        CREATE TABLE skyfill.step (number integer PRIMARY KEY, ran_at timestamptz NOT NULL DEFAULT now())";
    making.batch_execute(step).unwrap();
    making.commit().unwrap();

    prepared.join().unwrap().unwrap();
    assert!(ledger::exists(&mut watching).unwrap());
}
