// Indexes the repos of a folder (as `conformance network` writes them) with the official indexer, serially, in the canonical order:
// everything but posts, gates, reposts and likes; the `record` rows of gates; posts; gates; reposts; likes; each by (rkey, uri). Replies
// of these networks come after what they reply to. Usage: node index.mjs DATABASE-URL FOLDER ISO-TIME
import fs from 'node:fs'
import path from 'node:path'
import { Database, RepoSubscription } from '@atproto/bsky'
import { MemoryBlockstore, Repo, WriteOpAction, parseDataKey, readCarWithRoot } from '@atproto/repo'
import { AtUri } from '@atproto/syntax'

const [url, folder, time] = process.argv.slice(2)
const now = Date.parse(time)
const { claims, leads } = JSON.parse(fs.readFileSync(path.join(folder, 'handles.json'), 'utf8'))

const db = new Database({ url, schema: 'bsky', poolSize: 6 })
await db.migrateToLatestOrThrow()
const idResolver = {
  did: { resolveAtprotoData: async (did) => ({ did, handle: claims[did], pds: 'http://localhost', signingKey: 'none' }) },
  handle: { resolve: async (handle) => leads[handle.toLowerCase()] },
}
const { indexingSvc, background } = new RepoSubscription({ service: 'ws://127.0.0.1:1', db, idResolver })
background.queue.concurrency = 1

// indexedAt: createdAt if it is a date and time with a zone and not the epoch, else the time in the record key, else the time of the run;
// never later than that.
const ALPHABET = '234567abcdefghijklmnopqrstuvwxyz'
function keyMillis(rkey) {
  if (!/^[2-7a-j][2-7a-z]{12}$/.test(rkey)) return NaN
  let bits = 0n
  for (const character of rkey) bits = bits * 32n + BigInt(ALPHABET.indexOf(character))
  return Math.floor(Number(bits / 1024n) / 1000)
}
function indexedAt(record, rkey) {
  const written = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)$/.test(record.createdAt) ? Date.parse(record.createdAt) : NaN
  const millis = written || keyMillis(rkey)
  return new Date(millis <= now ? millis : now).toISOString()
}

const repos = []
for (const file of fs.readdirSync(path.join(folder, 'cars'))) {
  const { root, blocks } = await readCarWithRoot(fs.readFileSync(path.join(folder, 'cars', file)))
  repos.push(await Repo.load(new MemoryBlockstore(blocks), root))
}
repos.sort((a, b) => (a.did < b.did ? -1 : 1))
const records = []
for (const repo of repos) {
  await indexingSvc.setCommitLastSeen(repo.did, repo.cid, repo.commit.rev)
  await indexingSvc.indexHandle(repo.did, new Date(now).toISOString(), true)
  for await (const leaf of repo.data.walkLeavesFrom('')) {
    const { collection, rkey } = parseDataKey(leaf.key)
    try {
      records.push({ uri: AtUri.make(repo.did, collection, rkey), cid: leaf.value, record: await repo.storage.readRecord(leaf.value) })
    } catch {} // a record that cannot be read leaves nothing
  }
}
records.sort((a, b) => (a.uri.rkey === b.uri.rkey ? (a.uri.toString() < b.uri.toString() ? -1 : 1) : a.uri.rkey < b.uri.rkey ? -1 : 1))

// Answers the records that were not refused.
async function index(some) {
  const taken = []
  for (const one of some) {
    try {
      await indexingSvc.indexRecord(one.uri, one.cid, one.record, WriteOpAction.Create, indexedAt(one.record, one.uri.rkey))
      taken.push(one)
    } catch {} // refused: it leaves nothing
  }
  await background.processAll()
  return taken
}
const LATER = ['post', 'threadgate', 'postgate', 'repost', 'like'].map((name) => `app.bsky.feed.${name}`)
const [POST, THREADGATE, POSTGATE, REPOST, LIKE] = LATER
const of = (...collections) => records.filter(({ uri }) => collections.includes(uri.collection))
await index(records.filter(({ uri }) => !LATER.includes(uri.collection)))
const gates = await index(of(THREADGATE, POSTGATE))
await db.pool.query('delete from bsky.thread_gate')
await db.pool.query('delete from bsky.post_gate')
await index(of(POST))
await index(gates)
await index(of(REPOST))
await index(of(LIKE))
await db.pool.query(`
  update bsky.post_agg a set "quoteCount" = (select count(*) from bsky.quote q where q."subjectCid" = last.cid)
  from (
    select distinct on (e."embedUri") e."embedUri" as uri, e."embedCid" as cid from bsky.post_embed_record e
    where split_part(split_part(e."embedUri", '#', 1), '/', 4) = '${POST}'
    order by e."embedUri", split_part(e."postUri", '/', 5) collate "C" desc, e."postUri" collate "C" desc
  ) last where a.uri = last.uri`)
process.exit(0)
