// The life of the dev network: what accounts go through, among bursts of what all of them do.
const ACCOUNTS = 36
// Accounts that only write, and that the AppView is asked about all the time.
const STEADY = 6
// Writers at once in a burst.
const BURST = 14

const POST = 'app.bsky.feed.post'
const LIKE = 'app.bsky.feed.like'
const FOLLOW = 'app.bsky.graph.follow'
const BLOCK = 'app.bsky.graph.block'
const LISTBLOCK = 'app.bsky.graph.listblock'
const PROFILE = 'app.bsky.actor.profile'

// What is there before skyfill loads it.
export async function seed(world, network, deeds) {
  for (let at = 0; at < ACCOUNTS; at += 1) {
    const pds = network.pdses[at % 2]
    await world.add(await network.createAccount(pds, `account-${at}`))
  }
  await world.act(Math.round(deeds / 5))
}

// All that happens while skyfill follows.
export async function live({ world, network, relay, follower, view, say, deeds }) {
  const { chance } = world
  const { names } = network
  const [one, two] = network.pdses
  const steady = world.accounts.slice(0, STEADY)
  // The others, those of either PDS by turns.
  const others = world.accounts.slice(STEADY).filter(({ pds }) => pds === one)
  const ofTwo = world.accounts.slice(STEADY).filter(({ pds }) => pds === two)
  const done = (what) => world.count(what)
  const part = Math.round(deeds / 16)
  const burst = () => world.act(part, BURST)
  let reads = 0
  const stopReading = view.readAlong(() => {
    const posts = world.of(POST)
    reads += 1
    return { actor: steady[reads % STEADY].did, uri: posts[(reads * 7) % posts.length]?.uri }
  })

  // What these accounts go through while all others write. They themselves do nothing else, so that
  // what is written depends on the seed and not on how long that takes.
  const beside = async (accounts, goThrough) => {
    for (const account of accounts) account.isQuiet = true
    await Promise.all([burst(), goThrough()])
    for (const account of accounts) account.isQuiet = false
  }

  await burst()
  await freshness(world, view, 3)
  say(`${relay.seq} events; accounts come`)
  for (const [at, pds] of [one, two, one].entries()) {
    await world.add(await network.createAccount(pds, `newcomer-${at}`))
  }
  await burst()

  say(`${relay.seq} events; handles change`)
  const [renamed, painter, giver] = others.splice(0, 3)
  const [taker, loser] = ofTwo.splice(0, 2)
  await beside([renamed, painter, giver, loser], async () => {
    await renamed.updateHandle('renamed.one.test')
    done('handle changed')
    names.byDns.set('painter.test', painter.did)
    await painter.updateHandle('painter.test')
    names.byFile.set('shop.test', giver.did)
    await giver.updateHandle('shop.test')
    names.byDns.set('lost.test', loser.did)
    await loser.updateHandle('lost.test')
    for (let times = 0; times < 3; times += 1) done('handle changed to a domain')
  })
  await beside([giver, taker, loser], async () => {
    await giver.updateHandle('gave-it-away.one.test')
    names.byFile.set('shop.test', taker.did)
    await taker.updateHandle('shop.test')
    done('handle taken over by another account')
    // The domain leads nowhere, which is noticed when something else is said of the account.
    names.byDns.delete('lost.test')
    await loser.deactivate()
    await loser.activate()
    done('handle lost')
  })
  await shows(view, painter, 'painter.test')
  await shows(view, taker, 'shop.test')
  await shows(view, loser, 'handle.invalid')

  say(`${relay.seq} events; accounts sleep, are taken down, deleted`)
  const [sleeper, napper, banned, pardoned, leaver] = others.splice(0, 5)
  const [dreamer, tombstoned] = ofTwo.splice(0, 2)
  await beside([sleeper, napper, dreamer, banned, pardoned], async () => {
    for (const account of [sleeper, napper, dreamer]) {
      await account.deactivate()
      done('account deactivated')
    }
    for (const account of [banned, pardoned]) {
      await network.takeDown(account)
      done('account taken down')
    }
  })
  await burst()
  await beside([leaver, tombstoned], async () => {
    await network.tombstone(tombstoned)
    done('document withdrawn')
    for (const account of [leaver, tombstoned]) {
      await network.deleteAccount(account)
      account.status = 'deleted'
      done('account deleted')
    }
  })
  for (const account of [leaver, tombstoned]) world.forget(account.did)
  await beside([napper, pardoned], async () => {
    await napper.activate()
    done('account reactivated')
    await network.undoTakedown(pardoned)
    done('takedown undone')
  })

  say(`${relay.seq} events; accounts move`)
  const [mover, silent, late] = others.splice(0, 3)
  const [settler, returner] = ofTwo.splice(0, 2)
  const move = async (account, to) => {
    await network.migrate(account, to, `moved-${network.migrations}-${account.email.split('@')[0]}`)
    done('account migrated')
  }
  for (const [account, to] of [[mover, two], [settler, one], [silent, two], [returner, one]]) {
    const post = world.newPost(account)
    await beside([account], async () => {
      await move(account, to)
      if (account !== silent) await world.make(account, POST, post)
    })
    // It writes nothing from here on: its last commit is signed by the key that it had before.
    if (account === silent) account.isQuiet = true
  }
  await beside([returner], async () => {
    // What is said of the old account there says nothing of the new one.
    await network.deleteAccount(returner, two)
    done('old account deleted after a migration')
    await move(returner, two)
  })
  await burst()
  await freshness(world, view, 4)

  say(`${relay.seq} events; connections break, skyfill is killed`)
  relay.interrupt()
  await burst()
  await beside([late, napper], async () => {
    await follower.kill()
    await move(late, two)
    await late.updateHandle('late.two.test')
    done('handle changed')
    await napper.deactivate()
    await napper.activate()
  })
  follower.begin()
  await chatter(world, steady[0])
  await burst()
  relay.interrupt()
  for (const { socket } of relay.sources) socket.terminate()
  await burst()
  await follower.catchUp()
  await freshness(world, view, 4)
  await stopReading()
  say(`${relay.seq} events; ${view.calls} calls of the AppView were answered meanwhile`)

  // Nothing is written: every thread has to be there.
  await follower.settle()
  const ofSteady = world.of(POST).filter(({ did }) => steady.some((one) => one.did === did))
  for (let at = 0; at < 12; at += 1) await view.readPost(chance.pick(ofSteady).uri, true)
  const changed = [renamed, mover, silent, napper, late, returner]
  for (const { did } of [...steady, ...changed]) await view.readAccount(did)
}

// One account writes as fast as its PDS lets it.
async function chatter(world, account) {
  const posts = Array.from({ length: 40 }, () => world.newPost(account))
  const notes = await Promise.all(posts.map((post) => world.store(account, POST, post)))
  for (const note of notes) note()
}

// Two accounts of which neither blocks the other: the AppView hides what is between such.
function pairOf(world, at) {
  const free = world.active().filter((account) => world.mine(account, LISTBLOCK).length === 0)
  const author = free[at % free.length]
  const blocks = world.of(BLOCK).map(({ did, record }) => [did, record.subject])
  const isApart = (a, b) => blocks.some((pair) => pair.includes(a.did) && pair.includes(b.did))
  const reader = free.findLast((other) => other !== author && !isApart(other, author))
  return [author, reader]
}

// Writes, and waits until the AppView serves what was written.
async function freshness(world, view, count) {
  const [GET_POSTS, GET_THREAD] = ['app.bsky.feed.getPosts', 'app.bsky.feed.getPostThread']
  const [GET_FEED, GET_FOLLOWS] = ['app.bsky.feed.getAuthorFeed', 'app.bsky.graph.getFollows']
  for (let at = 0; at < count; at += 1) {
    const [author, reader] = pairOf(world, at)
    const ofAuthor = { actor: author.did, filter: 'posts_with_replies', limit: 10 }
    const post = await world.make(author, POST, world.newPost(author))
    const ofPost = { uri: post.uri, cid: post.cid }
    const hasPost = ({ feed }) => feed.some((shown) => shown.post.uri === post.uri)
    await view.appears('a post in the feed', GET_FEED, ofAuthor, hasPost)

    const like = await world.make(reader, LIKE, { subject: ofPost, createdAt: world.time() })
    const likes = (count) => ({ posts }) => posts[0]?.likeCount === count
    await view.appears('a like', GET_POSTS, { uris: post.uri }, likes(1))
    ;(await world.drop(reader, like))()
    await view.appears('a like removed', GET_POSTS, { uris: post.uri }, likes(0))

    const reply = { root: ofPost, parent: ofPost }
    const replied = await world.make(reader, POST, { ...world.newPost(reader), reply })
    const hasReply = ({ thread }) => thread.replies?.some(({ post }) => post?.uri === replied.uri)
    await view.appears('a reply in the thread', GET_THREAD, { uri: post.uri }, hasReply)

    const profile = { ...world.newProfile(author), displayName: `Fresh ${post.rkey}` }
    await world.make(author, PROFILE, profile, 'self', true)
    const isNamed = ({ displayName }) => displayName === profile.displayName
    const ofProfile = { actor: author.did }
    await view.appears('a new name', 'app.bsky.actor.getProfile', ofProfile, isNamed)

    const subject = { subject: author.did, createdAt: world.time() }
    const follow = await world.make(reader, FOLLOW, subject)
    const hasFollow = ({ follows }) => follows.some(({ did }) => did === author.did)
    await view.appears('a follow', GET_FOLLOWS, { actor: reader.did, limit: 100 }, hasFollow)
    ;(await world.drop(reader, follow))()

    ;(await world.drop(author, post))()
    await view.appears('a post removed', GET_FEED, ofAuthor, (shown) => !hasPost(shown))
  }
}

// Waits until the AppView names an account by this handle.
async function shows(view, account, handle) {
  const has = (profile) => profile.handle === handle
  const query = { actor: account.did }
  await view.appears(`the handle ${handle}`, 'app.bsky.actor.getProfile', query, has)
}

// Everybody comes back who can, and something more is written.
export async function wakeAll({ world, network, view }) {
  for (const account of world.accounts) {
    if (account.status === 'deactivated') {
      await account.activate()
      world.count('account reactivated')
    } else if (account.status === 'takendown') {
      await network.undoTakedown(account)
      world.count('takedown undone')
    }
  }
  await world.act(80, BURST)
  await freshness(world, view, 1)
}
