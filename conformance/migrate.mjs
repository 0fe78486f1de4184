// Brings a database to the newest state of the installed official version. Usage: node migrate.mjs DATABASE-URL
import { Database } from '@atproto/bsky'

const db = new Database({ url: process.argv[2], schema: 'bsky', poolSize: 1 })
await db.migrateToLatestOrThrow()
await db.close()
