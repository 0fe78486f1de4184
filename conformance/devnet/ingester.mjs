// How long the official ingester takes for the stream of a relay, from its beginning to an event, into a database that holds the repos
// before it; prints a line of JSON. DID documents and handles are answered at once, and the ingester checks no signatures: what is
// measured is decoding and indexing. Usage: node ingester.mjs DATABASE-URL RELAY-URL EVENT
import { Database, RepoSubscription } from '@atproto/bsky'

const [url, relay, event] = process.argv.slice(2)
const db = new Database({ url, schema: 'bsky', poolSize: 10 })
const idResolver = {
  did: { resolveAtprotoData: async (did) => ({ did, handle: 'handle.invalid', pds: 'http://localhost', signingKey: 'none' }) },
  handle: { resolve: async () => undefined },
}
const subscription = new RepoSubscription({ service: relay.replace(/^http/, 'ws'), db, idResolver })
const began = performance.now()
await subscription.start()
// All events up to the cursor are stored.
while ((subscription.getCursor() ?? 0) < Number(event)) await new Promise((resolve) => setTimeout(resolve, 20))
// Counts are computed in a queue beside it.
await subscription.background.processAll()
console.log(JSON.stringify({ seconds: (performance.now() - began) / 1000 }))
process.exit(0)
