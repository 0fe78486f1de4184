// Serves a database that skyfill filled with the official AppView: its data plane and its API in
// one process, and the ingester with APPVIEW_INGEST=1. Start the ingester only after `skyfill
// catch-up` has ended. compose.yaml sets the variables; `ServerConfig.readEnv` reads the rest.
import { BskyAppView, Database, DataPlaneServer, RepoSubscription, ServerConfig } from '@atproto/bsky'
import { Secp256k1Keypair } from '@atproto/crypto'
import { IdResolver } from '@atproto/identity'

const { env } = process
const url = env.BSKY_DB_POSTGRES_URL
const schema = env.BSKY_DB_POSTGRES_SCHEMA || 'bsky'
const plcUrl = (env.BSKY_DID_PLC_URL ||= 'https://plc.directory')
const dataPlanePort = Number(env.BSKY_DATAPLANE_PORT || 2585)
env.BSKY_DATAPLANE_URLS ||= `http://127.0.0.1:${dataPlanePort}`
env.BSKY_DATAPLANE_HTTP_VERSION ||= '1.1'

const db = new Database({ url, schema, poolSize: 20 })
const pending = (await db.migrator.getMigrations()).filter((migration) => !migration.executedAt)
if (pending.length > 0) {
  console.error(`run "skyfill migrate" first: ${pending.length} migrations are missing in schema ${schema}`)
  process.exit(3)
}
const dataPlane = await DataPlaneServer.create(db, dataPlanePort, plcUrl)
const signingKey = env.BSKY_SERVICE_SIGNING_KEY
  ? await Secp256k1Keypair.import(env.BSKY_SERVICE_SIGNING_KEY)
  : await Secp256k1Keypair.create()
const appView = BskyAppView.create({ config: ServerConfig.readEnv(), signingKey })
await appView.start()
let ingester
if (env.APPVIEW_INGEST === '1') {
  const service = env.BSKY_REPO_PROVIDER || 'wss://bsky.network'
  ingester = new RepoSubscription({ service, db, idResolver: new IdResolver({ plcUrl }) })
  await ingester.start()
}
console.log(`serving schema ${schema}${ingester ? ', ingesting' : ''}`)

let stopping = false
const stop = async () => {
  if (stopping) return
  stopping = true
  await ingester?.destroy()
  await appView.destroy()
  await dataPlane.destroy()
  await db.close()
  process.exit(0)
}
process.on('SIGTERM', stop)
process.on('SIGINT', stop)
