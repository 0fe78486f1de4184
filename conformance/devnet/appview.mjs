// The official AppView over the database that skyfill follows: read calls, each of which has to be
// answered, and what was just written, which has to appear.
import { start, sleep, until } from './processes.mjs'
import { freePort } from './network.mjs'

// What was just written has to be served after so many seconds.
const PATIENCE = 60

export class AppView {
  calls = 0
  // How often each method was called.
  methods = new Map()
  // Calls that were not answered with 200, and what did not appear.
  bad = []
  // Seconds until something appeared.
  delays = []

  static async start(database, plcUrl, log) {
    const view = new AppView()
    const [port, plane] = [await freePort(), await freePort()]
    view.url = `http://127.0.0.1:${port}`
    const env = {
      APPVIEW_INGEST: '0',
      BSKY_DB_POSTGRES_URL: database,
      BSKY_DB_POSTGRES_SCHEMA: 'bsky',
      BSKY_DID_PLC_URL: plcUrl,
      BSKY_PORT: port,
      BSKY_DATAPLANE_PORT: plane,
      BSKY_PUBLIC_URL: view.url,
      BSKY_SERVER_DID: 'did:web:appview.devnet.test',
      BSKY_BSYNC_URL: 'http://127.0.0.1:1',
      BSKY_BSYNC_HTTP_VERSION: '1.1',
      MOD_SERVICE_DID: 'did:web:nobody.devnet.test',
      LOG_ENABLED: 'false',
    }
    view.child = start(process.execPath, ['serve.mjs'], { log, env })
    await until('the official AppView serves', async () => {
      if (view.child.exitCode !== null) throw new Error(`the AppView ended; see ${log}`)
      return fetch(`${view.url}/xrpc/_health`).then((response) => response.ok, () => false)
    })
    return view
  }

  async ask(method, query) {
    const url = new URL(`/xrpc/${method}`, this.url)
    for (const [name, value] of Object.entries(query)) url.searchParams.append(name, value)
    const response = await fetch(url)
    const body = await response.json()
    return { status: response.status, body }
  }

  // A call that has to be answered.
  async read(method, query) {
    const { status, body } = await this.ask(method, query)
    this.calls += 1
    this.methods.set(method, (this.methods.get(method) ?? 0) + 1)
    if (status !== 200) this.bad.push(`${method} ${JSON.stringify(query)}: ${status} ${body.error}`)
    return body
  }

  // All that is asked about an account.
  async readAccount(actor) {
    await this.read('app.bsky.actor.getProfile', { actor })
    for (const filter of ['posts_with_replies', 'posts_no_replies', 'posts_and_author_threads']) {
      await this.read('app.bsky.feed.getAuthorFeed', { actor, filter, limit: 50 })
    }
    await this.read('app.bsky.graph.getFollows', { actor })
    await this.read('app.bsky.graph.getFollowers', { actor })
    await this.read('app.bsky.graph.getActorStarterPacks', { actor })
    await this.read('app.bsky.feed.getActorFeeds', { actor })
    const { lists } = await this.read('app.bsky.graph.getLists', { actor })
    for (const { uri } of lists ?? []) await this.read('app.bsky.graph.getList', { list: uri })
  }

  // All that is asked about a post, which may be removed meanwhile unless nothing is written.
  async readPost(uri, isStill) {
    await this.read('app.bsky.feed.getPosts', { uris: uri })
    await this.read('app.bsky.feed.getLikes', { uri })
    await this.read('app.bsky.feed.getRepostedBy', { uri })
    await this.read('app.bsky.feed.getQuotes', { uri })
    if (isStill) await this.read('app.bsky.feed.getPostThread', { uri, depth: 10 })
  }

  // Reads until told to stop; `choose` names an account and a post.
  readAlong(choose) {
    let isOver = false
    const reading = (async () => {
      while (!isOver) {
        const { actor, uri } = choose()
        await this.readAccount(actor)
        if (uri) await this.readPost(uri, false)
        await sleep(200)
      }
    })()
    return async () => {
      isOver = true
      await reading
    }
  }

  // Waits until an answer shows what was written, and notes how long that took.
  async appears(what, method, query, shows) {
    const shown = until(`it shows ${what}`, async () => {
      const { status, body } = await this.ask(method, query)
      return status === 200 && shows(body)
    }, { seconds: PATIENCE, every: 100 })
    const { took } = await shown.catch((error) => {
      this.bad.push(`${error.message}: ${method} ${JSON.stringify(query)}`)
      return { took: PATIENCE }
    })
    this.delays.push(took)
  }

  async stop() {
    this.child.kill('SIGTERM')
    return this.child.ended
  }
}
