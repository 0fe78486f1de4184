//! Checks that schema `skyfill` belongs to skyfill. Statements that are stored there are executed
//! later, with the rights of whoever runs skyfill then.

use postgres::{Error, GenericClient};

/// Something in schema `skyfill`, or the schema itself, that belongs to somebody else: what it is,
/// and whose.
///
/// Trusted are the role of this session and roles that it is a member of, superusers, and the
/// owners of the database and of the AppView's schema. A superuser is a member only of what was
/// granted to it: it may act as anybody, and so could be made to.
///
/// # Errors
/// The server refused.
pub fn stranger(
    client: &mut impl GenericClient,
    schema: &str,
) -> Result<Option<(String, String)>, Error> {
    let row = client.query_opt(
        "WITH me AS (SELECT oid, rolsuper FROM pg_roles WHERE rolname = current_user),
         thing AS (
           SELECT 'schema skyfill' AS name, nspowner AS owner FROM pg_namespace WHERE nspname = 'skyfill'
           UNION ALL
           SELECT format('skyfill.%I', c.relname), c.relowner FROM pg_class c
             JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname = 'skyfill'
           UNION ALL
           SELECT format('function skyfill.%I', p.proname), p.proowner FROM pg_proc p
             JOIN pg_namespace n ON n.oid = p.pronamespace AND n.nspname = 'skyfill')
         SELECT t.name, r.rolname::text FROM thing t JOIN pg_roles r ON r.oid = t.owner, me
         WHERE r.oid <> me.oid AND NOT r.rolsuper
           AND NOT EXISTS (SELECT FROM pg_namespace n WHERE n.nspname = $1 AND n.nspowner = r.oid)
           AND NOT EXISTS (SELECT FROM pg_database d WHERE d.datname = current_database() AND d.datdba = r.oid)
           AND NOT EXISTS (SELECT FROM pg_auth_members m WHERE m.roleid = r.oid AND m.member = me.oid)
           AND (me.rolsuper OR NOT pg_has_role(r.oid, 'MEMBER'))
         ORDER BY t.name LIMIT 1",
        &[&schema],
    )?;
    Ok(row.map(|row| (row.get(0), row.get(1))))
}
