// Judges records as the official indexer does before it writes anything: can its decoder read them, does its lexicon check
// accept them, and what would record.json hold.
// stdin: lines {"collection":NSID,"cbor":HEX}. stdout: for each a line {"json":TEXT} or {"error":WHY}.
import readline from 'node:readline'
import { Database, RepoSubscription } from '@atproto/bsky'
import { cborToLexRecord } from '@atproto/repo'
import { lexStringify } from '@atproto/lex'

// Never connected to: only the indexer's plugins are wanted.
const db = new Database({ url: 'postgresql://nobody@127.0.0.1:1/none', schema: 'bsky', poolSize: 1 })
const { indexingSvc } = new RepoSubscription({ service: 'ws://127.0.0.1:1', db, idResolver: {} })
const plugins = new Map(Object.values(indexingSvc.records).map((plugin) => [plugin.collection, plugin]))

function judge({ collection, cbor }) {
  try {
    const record = cborToLexRecord(Buffer.from(cbor, 'hex'))
    plugins.get(collection).assertValidRecord(record)
    return { json: lexStringify(record) }
  } catch (error) {
    return { error: `${error?.name}: ${String(error?.message).slice(0, 200).toWellFormed()}` }
  }
}

for await (const line of readline.createInterface({ input: process.stdin })) {
  if (!process.stdout.write(JSON.stringify(judge(JSON.parse(line))) + '\n')) await new Promise((go) => process.stdout.once('drain', go))
}
process.stdout.end(() => process.exit(0))
