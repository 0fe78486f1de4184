// Databases: made, and compared table by table and row by row.
import pg from 'pg'

const SCHEMA = 'bsky'
// What another run of the migrations, or another order of inserts, gives other values to.
const LEFT_OUT = new Set(['kysely_migration', 'kysely_migration_lock'])

// The URL of another database of the same server.
export function databaseUrl(url, name) {
  return url.replace(/\/[^/?]*(\?|$)/, `/${name}$1`)
}

export async function connect(url) {
  const client = new pg.Client({ connectionString: url })
  client.on('error', () => {})
  await client.connect()
  return client
}

export async function makeDatabase(url, name) {
  const client = await connect(url)
  await client.query(`DROP DATABASE IF EXISTS "${name}" WITH (FORCE)`)
  await client.query(`CREATE DATABASE "${name}"`)
  await client.end()
  return databaseUrl(url, name)
}

// A row as text, without what depends on when the indexer saw a record: `indexedAt`, the number of
// a notification, and the time of a notification that has no other time than `indexedAt`.
function printed(table, row) {
  const { id, ...rest } = row
  const shown = table === 'notification' ? rest : row
  if ('indexedAt' in shown && shown.indexedAt !== null) shown.indexedAt = '*'
  if (shown.reason === 'starterpack-joined') shown.sortAt = '*'
  return JSON.stringify(shown, Object.keys(shown).sort())
}

async function tablesOf(client) {
  const { rows } = await client.query(
    `SELECT table_name AS name FROM information_schema.tables
     WHERE table_schema = $1 AND table_type = 'BASE TABLE' ORDER BY 1`,
    [SCHEMA],
  )
  return rows.map(({ name }) => name).filter((name) => !LEFT_OUT.has(name))
}

// Values are compared as the server prints them: JSON columns keep their text.
async function rowsOf(client, table) {
  const { rows } = await client.query({
    text: `SELECT * FROM "${SCHEMA}"."${table}"`,
    types: { getTypeParser: () => (value) => value },
  })
  return rows.map((row) => printed(table, row)).sort()
}

// The rows that only one of two databases has, and how many were compared.
export async function compareDatabases(url, otherUrl) {
  const [client, other] = [await connect(url), await connect(otherUrl)]
  const tables = await tablesOf(client)
  const differences = []
  const counts = {}
  if ((await tablesOf(other)).join() !== tables.join()) differences.push('other tables')
  for (const table of tables) {
    const [rows, others] = [await rowsOf(client, table), await rowsOf(other, table)]
    if (rows.length > 0) counts[table] = rows.length
    let at = 0
    for (const row of rows) {
      while (at < others.length && others[at] < row) differences.push(`${table} + ${others[at++]}`)
      if (others[at] === row) at += 1
      else differences.push(`${table} - ${row}`)
    }
    for (const row of others.slice(at)) differences.push(`${table} + ${row}`)
  }
  await client.end()
  await other.end()
  return { differences, counts, rows: Object.values(counts).reduce((sum, count) => sum + count, 0) }
}

// Checks the times that the comparison leaves out: `record.indexedAt` is the time of an event that
// made this version of the record or, where the repo was fetched, the time that the record claims;
// every other table has the time of `record`. `times` leads from a URI and CID to such times.
export async function checkTimes(url, times, begin, end) {
  const client = await connect(url)
  const wrong = []
  const [OF_EVENT, OF_RECORD, OF_RUN] = ['the time of the event', 'of the record', 'of the run']
  const counts = { [OF_EVENT]: 0, [OF_RECORD]: 0, [OF_RUN]: 0 }
  const { rows } = await client.query(
    `SELECT uri, cid, json::jsonb ->> 'createdAt' AS claimed, "indexedAt" AS time
     FROM "${SCHEMA}".record`,
  )
  for (const { uri, cid, claimed, time } of rows) {
    const isDate = /^\d{4}-\d\d-\d\dT[\d:.]+(Z|[+-]\d\d:\d\d)$/.test(claimed ?? '')
    if (times.get(`${uri} ${cid}`)?.has(time)) counts[OF_EVENT] += 1
    else if (isDate && new Date(claimed).toISOString() === time) counts[OF_RECORD] += 1
    else if (!isDate && time >= begin && time <= end) counts[OF_RUN] += 1
    else wrong.push(`record ${uri} ${cid} has the time ${time}, and claims ${claimed}`)
  }
  for (const table of await tablesOf(client)) {
    const { rows: columns } = await client.query(
      `SELECT column_name AS name FROM information_schema.columns
       WHERE table_schema = $1 AND table_name = $2`,
      [SCHEMA, table],
    )
    const names = columns.map(({ name }) => name)
    if (table === 'record' || !names.includes('uri') || !names.includes('indexedAt')) continue
    const others = await client.query(
      `SELECT t.uri, t."indexedAt" AS time, r."indexedAt" AS wanted
       FROM "${SCHEMA}"."${table}" t LEFT JOIN "${SCHEMA}".record r USING (uri)
       WHERE t."indexedAt" IS DISTINCT FROM r."indexedAt"`,
    )
    for (const { uri, time, wanted } of others.rows) {
      wrong.push(`${table} ${uri} has the time ${time}, and record has ${wanted}`)
    }
  }
  await client.end()
  return { wrong, counts }
}
