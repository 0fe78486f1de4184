// What the accounts of the dev network do: records of all kinds, made, changed and removed, chosen
// by a seed. The times that records claim lie in the past, so that nothing that the indexer makes
// of them depends on when it saw them.
import { Refused } from './network.mjs'

const POST = 'app.bsky.feed.post'
const LIKE = 'app.bsky.feed.like'
const REPOST = 'app.bsky.feed.repost'
const FOLLOW = 'app.bsky.graph.follow'
const BLOCK = 'app.bsky.graph.block'
const LIST = 'app.bsky.graph.list'
const LISTITEM = 'app.bsky.graph.listitem'
const LISTBLOCK = 'app.bsky.graph.listblock'
const THREADGATE = 'app.bsky.feed.threadgate'
const POSTGATE = 'app.bsky.feed.postgate'
const PROFILE = 'app.bsky.actor.profile'
const GENERATOR = 'app.bsky.feed.generator'
const STARTERPACK = 'app.bsky.graph.starterpack'
const VERIFICATION = 'app.bsky.graph.verification'

// How often each thing is done, in parts of their sum. Names of methods of World.
const WEIGHTS = {
  post: 14, reply: 20, quote: 8, like: 28, repost: 9, follow: 14, block: 2, list: 2, listitem: 7,
  listblock: 1, threadgate: 4, postgate: 3, profile: 4, generator: 1, starterpack: 1,
  verification: 1, declare: 2, alien: 2, invalid: 2, again: 4, edit: 3, remove: 22, many: 3,
}
// An image of one point.
const IMAGE = Buffer.from(
  'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6' +
    'kgAAAABJRU5ErkJggg==',
  'base64',
)

const refOf = ({ uri, cid }) => ({ uri, cid })
const nameOf = (collection) => collection.split('.').pop()

// Numbers that a seed decides, as xorshift32 makes them.
export class Chance {
  constructor(seed) {
    this.state = (Math.imul(seed, 2_654_435_761) ^ 0x9e3779b9) | 1
  }
  next() {
    let state = this.state
    state ^= state << 13
    state ^= state >>> 17
    state ^= state << 5
    this.state = state
    return (state >>> 0) / 2 ** 32
  }
  below(count) {
    return Math.floor(this.next() * count)
  }
  is(share) {
    return this.next() < share
  }
  pick(all) {
    return all[this.below(all.length)]
  }
  // One of the last ones, which are seen more often.
  recent(all, most = 60) {
    return this.pick(all.slice(-most))
  }
}

export class World {
  accounts = []
  // The records that exist, by collection.
  records = new Map()
  // How often each thing was done, and what PDSes refused.
  done = new Map()
  refused = new Map()
  clock = Date.parse('2024-01-01T00:00:00.000Z')

  constructor(seed) {
    this.chance = new Chance(seed)
    this.weights = Object.entries(WEIGHTS)
    this.sum = this.weights.reduce((sum, [, weight]) => sum + weight, 0)
  }

  // A time that is later than the last one.
  time() {
    this.clock += 1 + this.chance.below(90_000)
    return new Date(this.clock).toISOString()
  }

  of(collection) {
    if (!this.records.has(collection)) this.records.set(collection, [])
    return this.records.get(collection)
  }

  // The accounts that may write, but for those that are to be left alone.
  active() {
    return this.accounts.filter(({ status, isQuiet }) => status === undefined && !isQuiet)
  }

  count(what) {
    this.done.set(what, (this.done.get(what) ?? 0) + 1)
  }

  // Forgets the records of an account that is deleted; what others said of them stays.
  forget(did) {
    for (const [collection, all] of this.records) {
      this.records.set(collection, all.filter((record) => record.did !== did))
    }
  }

  async add(account) {
    this.accounts.push(account)
    this.count('account created')
    account.image = await account.upload(IMAGE, 'image/png')
    await this.make(account, PROFILE, this.newProfile(account), 'self')
    return account
  }

  // Creates a record, or replaces one; what is to be noted of it then.
  async store(account, collection, record, rkey, replaces = false) {
    const full = { $type: collection, ...record }
    await this.upload(account, full)
    const made = replaces
      ? await account.put(collection, rkey, full)
      : await account.create(collection, full, rkey)
    made.record = full
    return () => {
      const all = this.of(collection)
      const at = all.findIndex(({ uri }) => uri === made.uri)
      if (at >= 0) all[at] = made
      else all.push(made)
      this.count(`${nameOf(collection)} ${replaces ? 'changed' : 'created'}`)
      return made
    }
  }

  // A PDS removes an image of which it has no record any more.
  async upload(account, records) {
    if (JSON.stringify(records).includes(account.image.ref.$link)) {
      await account.upload(IMAGE, 'image/png')
    }
  }

  // The same as store, noted at once; the record.
  async make(...what) {
    return (await this.store(...what))()
  }

  async drop(account, record) {
    await account.delete(record)
    return () => this.lose(record)
  }

  lose(record) {
    const all = this.of(record.collection)
    this.records.set(record.collection, all.filter(({ uri }) => uri !== record.uri))
    this.count(`${nameOf(record.collection)} deleted`)
  }

  // Does so many things, a few of different accounts at once. What is done is chosen before the
  // first of them begins, and noted in the order of the choice, so that all depends on the seed.
  async act(count, atOnce = 6) {
    for (let left = count; left > 0; left -= atOnce) {
      const busy = new Set()
      const deeds = []
      for (let of = Math.min(atOnce, left); of > 0; of -= 1) {
        const deed = this.choose(busy)
        if (deed) deeds.push(deed)
      }
      for (const note of await Promise.all(deeds.map((deed) => this.attempt(deed)))) note?.()
    }
  }

  async attempt(deed) {
    try {
      return await deed()
    } catch (error) {
      if (!(error instanceof Refused)) throw error
      return () => this.refused.set(error.message, (this.refused.get(error.message) ?? 0) + 1)
    }
  }

  choose(busy) {
    const free = this.active().filter(({ did }) => !busy.has(did))
    if (free.length === 0) return undefined
    const account = this.chance.pick(free)
    busy.add(account.did)
    let at = this.chance.below(this.sum)
    const [name] = this.weights.find(([, weight]) => (at -= weight) < 0)
    return this[name](account)
  }

  // All records of an account in a collection.
  mine(account, collection) {
    return this.of(collection).filter(({ did }) => did === account.did)
  }

  newProfile(account) {
    const profile = {
      displayName: `${account.email.split('@')[0]} ${this.chance.below(1000)}`,
      description: this.chance.is(0.5) ? `Knows ${this.chance.below(1000)} things\nto say` : '',
      createdAt: this.time(),
    }
    if (this.chance.is(0.5)) profile.avatar = account.image
    const packs = this.of(STARTERPACK)
    if (packs.length > 0 && this.chance.is(0.3)) {
      profile.joinedViaStarterPack = refOf(this.chance.pick(packs))
    }
    return profile
  }

  newPost(account) {
    const words = 'wörd '.repeat(1 + this.chance.below(8))
    const post = { text: `Nº ${this.clock % 100_003}: ${words}`, createdAt: this.time() }
    if (this.chance.is(0.2)) post.langs = ['en', 'pt-BR']
    if (this.chance.is(0.1)) post.tags = ['devnet']
    if (this.chance.is(0.25)) {
      const features = [
        { $type: 'app.bsky.richtext.facet#mention', did: this.chance.pick(this.accounts).did },
        { $type: 'app.bsky.richtext.facet#tag', tag: 'devnet' },
      ]
      post.facets = [{ index: { byteStart: 0, byteEnd: 2 }, features }]
    }
    if (this.chance.is(0.15)) post.embed = this.images(account)
    else if (this.chance.is(0.1)) {
      const external = { uri: 'https://devnet.test/', title: 'A page', description: 'Of text' }
      post.embed = { $type: 'app.bsky.embed.external', external }
    }
    return post
  }

  images(account) {
    const images = [{ image: account.image, alt: 'a point' }]
    return { $type: 'app.bsky.embed.images', images }
  }

  newReply(account) {
    const posts = this.of(POST)
    if (posts.length === 0) return this.newPost(account)
    const parent = this.chance.recent(posts)
    const root = parent.record.reply?.root ?? refOf(parent)
    // Now and then the root is not that of the thread.
    const named = this.chance.is(0.04) ? refOf(this.chance.pick(posts)) : root
    return { ...this.newPost(account), reply: { root: named, parent: refOf(parent) } }
  }

  newQuote(account) {
    const quoted = this.chance.recent(this.of(POST))
    const post = this.newPost(account)
    if (!quoted) return post
    post.embed = { $type: 'app.bsky.embed.record', record: refOf(quoted) }
    if (this.chance.is(0.3)) {
      const media = this.images(account)
      post.embed = { $type: 'app.bsky.embed.recordWithMedia', record: post.embed, media }
    }
    return post
  }

  newSubject(collection) {
    const subject = this.chance.recent(this.of(POST))
    const record = subject && { subject: refOf(subject), createdAt: this.time() }
    const reposts = this.of(REPOST)
    if (record && reposts.length > 0 && this.chance.is(0.2)) {
      record.via = refOf(this.chance.pick(reposts))
    }
    const generators = this.of(GENERATOR)
    if (record && collection === LIKE && generators.length > 0 && this.chance.is(0.05)) {
      record.subject = refOf(this.chance.pick(generators))
    }
    return record
  }

  newFollow() {
    return { subject: this.chance.pick(this.accounts).did, createdAt: this.time() }
  }

  post(account) {
    const post = this.newPost(account)
    return () => this.store(account, POST, post)
  }

  reply(account) {
    const reply = this.newReply(account)
    return () => this.store(account, POST, reply)
  }

  quote(account) {
    const quote = this.newQuote(account)
    return () => this.store(account, POST, quote)
  }

  like(account) {
    const like = this.newSubject(LIKE)
    return like && (() => this.store(account, LIKE, like))
  }

  repost(account) {
    const repost = this.newSubject(REPOST)
    return repost && (() => this.store(account, REPOST, repost))
  }

  follow(account) {
    const follow = this.newFollow()
    return () => this.store(account, FOLLOW, follow)
  }

  block(account) {
    const block = this.newFollow()
    return () => this.store(account, BLOCK, block)
  }

  list(account) {
    const kind = this.chance.pick(['curatelist', 'modlist', 'referencelist'])
    const list = {
      name: `List ${this.chance.below(1000)}`,
      purpose: `app.bsky.graph.defs#${kind}`,
      createdAt: this.time(),
    }
    return () => this.store(account, LIST, list)
  }

  // Mostly on a list of one's own; on that of others it is refused by the indexer.
  listitem(account) {
    const own = this.mine(account, LIST)
    const lists = own.length > 0 && this.chance.is(0.9) ? own : this.of(LIST)
    if (lists.length === 0) return this.list(account)
    const list = this.chance.pick(lists).uri
    const item = { list, subject: this.chance.pick(this.accounts).did, createdAt: this.time() }
    return () => this.store(account, LISTITEM, item)
  }

  listblock(account) {
    if (this.of(LIST).length === 0) return undefined
    const block = { subject: this.chance.pick(this.of(LIST)).uri, createdAt: this.time() }
    return () => this.store(account, LISTBLOCK, block)
  }

  // The rules of a gate on a thread, which may have replies already.
  rules() {
    const rule = (name) => ({ $type: `${THREADGATE}#${name}` })
    const rules = ['mentionRule', 'followerRule', 'followingRule']
    const allow = rules.filter(() => this.chance.is(0.35)).map(rule)
    const lists = this.of(LIST)
    if (lists.length > 0 && this.chance.is(0.3)) {
      allow.push({ ...rule('listRule'), list: this.chance.pick(lists).uri })
    }
    return this.chance.is(0.15) ? undefined : allow
  }

  // A post of the account, rather one to which somebody replied, or that somebody quoted.
  ownPost(account, isTalkedOf) {
    const own = this.mine(account, POST).filter(({ record }) => !record.reply)
    const uris = new Set(this.of(POST).map(isTalkedOf))
    const best = own.filter(({ uri }) => uris.has(uri))
    return this.chance.pick(best.length > 0 ? best : own)
  }

  threadgate(account) {
    const post = this.ownPost(account, ({ record }) => record.reply?.root.uri)
    if (!post) return this.post(account)
    const gate = { post: post.uri, allow: this.rules(), createdAt: this.time() }
    const replies = this.of(POST).filter(({ record }) => record.reply?.root.uri === post.uri)
    if (replies.length > 0 && this.chance.is(0.4)) {
      gate.hiddenReplies = [this.chance.pick(replies).uri]
    }
    const has = this.of(THREADGATE).some(({ did, rkey }) => did === post.did && rkey === post.rkey)
    return () => this.store(account, THREADGATE, gate, post.rkey, has)
  }

  postgate(account) {
    const post = this.ownPost(account, ({ record: { embed } }) => {
      return embed?.record?.uri ?? embed?.record?.record?.uri
    })
    if (!post) return this.post(account)
    const gate = { post: post.uri, detachedEmbeddingUris: [], createdAt: this.time() }
    if (this.chance.is(0.8)) gate.embeddingRules = [{ $type: `${POSTGATE}#disableRule` }]
    const has = this.of(POSTGATE).some(({ did, rkey }) => did === post.did && rkey === post.rkey)
    return () => this.store(account, POSTGATE, gate, post.rkey, has)
  }

  profile(account) {
    const profile = this.newProfile(account)
    return () => this.store(account, PROFILE, profile, 'self', true)
  }

  generator(account) {
    const feed = { did: 'did:web:feeds.devnet.test', displayName: 'Feed', createdAt: this.time() }
    return () => this.store(account, GENERATOR, feed)
  }

  starterpack(account) {
    const own = this.mine(account, LIST)
    if (own.length === 0) return this.list(account)
    const list = this.chance.pick(own).uri
    const pack = { name: `Pack ${this.chance.below(100)}`, list, createdAt: this.time() }
    return () => this.store(account, STARTERPACK, pack)
  }

  verification(account) {
    const { did, email } = this.chance.pick(this.accounts)
    const names = { handle: email.replace('@', '.'), displayName: 'Somebody' }
    const verified = { subject: did, ...names, createdAt: this.time() }
    return () => this.store(account, VERIFICATION, verified)
  }

  // Records of which only the row in `record` is kept.
  declare(account) {
    const [collection, record] = this.chance.pick([
      ['chat.bsky.actor.declaration', { allowIncoming: this.chance.pick(['all', 'none']) }],
      ['app.bsky.notification.declaration', { allowSubscriptions: 'followers' }],
      ['app.bsky.actor.status', { status: 'app.bsky.actor.status#live', createdAt: this.time() }],
    ])
    const has = this.mine(account, collection).length > 0
    return () => this.store(account, collection, record, 'self', has)
  }

  // A record that no AppView indexes.
  alien(account) {
    const record = { note: `${this.chance.below(1000)}`, createdAt: this.time() }
    return () => this.store(account, 'test.devnet.note', record)
  }

  // Records that the official indexer refuses.
  invalid(account) {
    const [collection, record] = this.chance.pick([
      [LIKE, { createdAt: this.time() }],
      [FOLLOW, { subject: 'nobody', createdAt: this.time() }],
      [LISTBLOCK, { subject: 'at://nowhere', createdAt: 'yesterday' }],
      [VERIFICATION, { subject: 5, handle: 'a', createdAt: this.time() }],
    ])
    return () => this.store(account, collection, record)
  }

  // The same like, repost, follow or block once more.
  again(account) {
    const all = [LIKE, REPOST, FOLLOW, BLOCK].flatMap((kind) => this.mine(account, kind))
    if (all.length === 0) return undefined
    const { collection, record } = this.chance.pick(all)
    const copy = { ...record, createdAt: this.time() }
    return () => this.store(account, collection, copy)
  }

  // A changed record under its old key.
  edit(account) {
    const kinds = [LIST, GENERATOR, STARTERPACK, POST, LISTITEM, LIKE, FOLLOW, 'test.devnet.note']
    const all = kinds.flatMap((collection) => this.mine(account, collection).slice(0, 4))
    if (all.length === 0) return undefined
    const { collection, rkey } = this.chance.pick(all)
    const change = {
      [LIST]: { name: `Renamed ${this.chance.below(1000)}` },
      [GENERATOR]: { displayName: `Feed ${this.chance.below(1000)}` },
      [STARTERPACK]: { name: `Pack ${this.chance.below(1000)}` },
      [POST]: { text: `Edited ${this.chance.below(1000)}` },
      [LISTITEM]: { subject: this.chance.pick(this.accounts).did },
      [LIKE]: this.newSubject(LIKE),
      [FOLLOW]: { subject: this.chance.pick(this.accounts).did },
      'test.devnet.note': { note: 'changed' },
    }[collection]
    const { record } = this.mine(account, collection).find((one) => one.rkey === rkey)
    return () => this.store(account, collection, { ...record, ...change }, rkey, true)
  }

  // Removes a record of any kind, of which kinds that others depend on come as often as likes.
  remove(account) {
    const kinds = [...this.records.keys()].filter((kind) => this.mine(account, kind).length > 0)
    if (kinds.length === 0) return undefined
    const collection = this.chance.pick(kinds)
    const record = this.chance.pick(this.mine(account, collection))
    return () => this.drop(account, record)
  }

  // Many operations in one commit.
  many(account) {
    const changes = []
    const name = 'com.atproto.repo.applyWrites'
    const wanted = this.chance.is(0.2) ? 120 : 5 + this.chance.below(30)
    const makers = [
      [POST, () => this.newPost(account)],
      [POST, () => this.newReply(account)],
      [LIKE, () => this.newSubject(LIKE)],
      [FOLLOW, () => this.newFollow()],
    ]
    const kinds = [POST, LIKE, FOLLOW, REPOST, LISTITEM, BLOCK, THREADGATE]
    const gone = kinds.flatMap((kind) => this.mine(account, kind).slice(0, 3))
    for (let at = 0; at < wanted; at += 1) {
      if (gone.length > 0 && this.chance.is(0.25)) {
        const [record] = gone.splice(this.chance.below(gone.length), 1)
        const { collection, rkey } = record
        changes.push({ record, write: { $type: `${name}#delete`, collection, rkey } })
        continue
      }
      const [collection, make] = this.chance.pick(makers)
      const value = make()
      if (!value) continue
      const full = { $type: collection, ...value }
      changes.push({ write: { $type: `${name}#create`, collection, value: full } })
    }
    return async () => {
      await this.upload(account, changes)
      const results = await account.applyWrites(changes.map(({ write }) => write))
      return () => {
        this.count('commit of many operations')
        for (const [at, { record, write }] of changes.entries()) {
          if (record) {
            this.lose(record)
            continue
          }
          const { uri, cid } = results[at]
          const { collection, value } = write
          const rkey = uri.split('/').pop()
          this.of(collection).push({ uri, cid, did: account.did, collection, rkey, record: value })
          this.count(`${nameOf(collection)} created`)
        }
      }
    }
  }
}
