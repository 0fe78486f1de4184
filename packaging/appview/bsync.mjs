// Serves the official bsync, which keeps mutes and notification settings for the AppView. Its
// tables are in a schema of its own, beside the AppView's.
import { BsyncService, Database, envToCfg, readEnv } from '@atproto/bsync'

const config = envToCfg(readEnv())
const db = new Database({ url: config.db.url, schema: config.db.schema })
await db.migrateToLatestOrThrow()
await db.close()
const bsync = await BsyncService.create(config)
await bsync.start()
console.log('serving bsync')
const stop = async () => {
  await bsync.destroy()
  process.exit(0)
}
process.on('SIGTERM', stop)
process.on('SIGINT', stop)
