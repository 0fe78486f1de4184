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
  await renamed.updateHandle('renamed.one.test')
  done('handle changed')
  names.byDns.set('painter.test', painter.did)
  await painter.updateHandle('painter.test')
  done('handle changed to a domain')
  names.byFile.set('shop.test', giver.did)
  await giver.updateHandle('shop.test')
  names.byDns.set('lost.test', loser.did)
  await loser.updateHandle('lost.test')
  await burst()
  await giver.updateHandle('gave-it-away.one.test')
  names.byFile.set('shop.test', taker.did)
  await taker.updateHandle('shop.test')
  done('handle taken over by another account')
  // The domain leads nowhere, which is noticed when something else is said of the account.
  names.byDns.delete('lost.test')
  await loser.deactivate()
  await loser.activate()
  done('handle lost')
  await shows(view, painter, 'painter.test')
  await shows(view, taker, 'shop.test')
  await shows(view, loser, 'handle.invalid')

  say(`${relay.seq} events; accounts sleep, are taken down, deleted`)
  const [sleeper, napper, banned, pardoned, leaver] = others.splice(0, 5)
  const [dreamer, tombstoned] = ofTwo.splice(0, 2)
  for (const account of [sleeper, napper, dreamer]) {
    await account.deactivate()
    done('account deactivated')
  }
  for (const account of [banned, pardoned]) {
    await network.setTakedown(account, true)
    account.status = 'takendown'
    done('account taken down')
  }
  await burst()
  for (const account of [leaver, tombstoned]) {
    if (account === tombstoned) {
      await network.tombstone(account)
      done('document withdrawn')
    }
    await network.deleteAccount(account)
    account.status = 'deleted'
    world.forget(account.did)
    done('account deleted')
  }
  await burst()
  await napper.activate()
  done('account reactivated')
  await network.setTakedown(pardoned, false)
  await pardoned.signIn()
  pardoned.status = undefined
  done('takedown undone')
  await burst()

  say(`${relay.seq} events; accounts move`)
  const [mover, silent, late] = others.splice(0, 3)
  const [settler, returner] = ofTwo.splice(0, 2)
  const move = async (account, to) => {
    await network.migrate(account, to, `moved-${network.migrations}-${account.email.split('@')[0]}`)
    done('account migrated')
  }
  for (const [account, to] of [[mover, two], [settler, one], [silent, two], [returner, one]]) {
    await move(account, to)
    // One writes nothing from here on: its last commit is signed by the key that it had before.
    if (account === silent) silent.isQuiet = true
    else await world.make(account, POST, world.newPost(account))
    await world.act(20)
  }
  // What is said of the old account there says nothing of the new one.
  await network.deleteAccount(returner, two)
  done('old account deleted after a migration')
  await burst()
  await move(returner, two)
  await burst()
  await freshness(world, view, 4)

  say(`${relay.seq} events; connections break, skyfill is killed`)
  relay.interrupt()
  await burst()
  const killed = follower.kill()
  await burst()
  await killed
  await move(late, two)
  await late.updateHandle('late.two.test')
  done('handle changed')
  await napper.deactivate()
  await napper.activate()
  await burst()
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
  for (let at = 0; at < 12; at += 1) {
    const post = chance.pick(world.of(POST).filter(({ did }) => steady.some((one) => one.did === did)))
    await view.readPost(post.uri, true)
  }
  for (const account of [...steady, renamed, mover, silent, napper, late, returner]) await view.readAccount(account.did)
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
  const isApart = ({ did }) => blocks.some((pair) => pair.includes(did) && pair.includes(author.did))
  return [author, free.toReversed().find((other) => other !== author && !isApart(other))]
}

// Writes, and waits until the AppView serves what was written.
async function freshness(world, view, count) {
  for (let at = 0; at < count; at += 1) {
    const [author, reader] = pairOf(world, at)
    const feed = { actor: author.did, filter: 'posts_with_replies', limit: 10 }
    const post = await world.make(author, POST, world.newPost(author))
    const hasPost = ({ feed }) => feed.some((one) => one.post.uri === post.uri)
    await view.appears('a post in the feed', 'app.bsky.feed.getAuthorFeed', feed, hasPost)
    const subject = { subject: { uri: post.uri, cid: post.cid }, createdAt: world.time() }
    const like = await world.make(reader, LIKE, subject)
    const likes = (wanted) => ({ posts }) => posts[0]?.likeCount === wanted
    const query = { uris: post.uri }
    await view.appears('a like', 'app.bsky.feed.getPosts', query, likes(1))
    const reply = { ...world.newPost(reader), reply: { root: subject.subject, parent: subject.subject } }
    const replied = await world.make(reader, POST, reply)
    const hasReply = ({ thread }) => thread.replies?.some((one) => one.post?.uri === replied.uri)
    await view.appears('a reply in the thread', 'app.bsky.feed.getPostThread', { uri: post.uri }, hasReply)
    ;(await world.drop(reader, like))()
    await view.appears('a like removed', 'app.bsky.feed.getPosts', query, likes(0))
    const profile = { ...world.newProfile(author), displayName: `Fresh ${post.rkey}` }
    await world.make(author, PROFILE, profile, 'self', true)
    const isNamed = ({ displayName }) => displayName === profile.displayName
    await view.appears('a new name', 'app.bsky.actor.getProfile', { actor: author.did }, isNamed)
    const follow = await world.make(reader, FOLLOW, { subject: author.did, createdAt: world.time() })
    const follows = ({ follows }) => follows.some(({ did }) => did === author.did)
    await view.appears('a follow', 'app.bsky.graph.getFollows', { actor: reader.did, limit: 100 }, follows)
    ;(await world.drop(reader, follow))()
    ;(await world.drop(author, post))()
    const isGone = ({ feed }) => !feed.some((one) => one.post.uri === post.uri)
    await view.appears('a post removed', 'app.bsky.feed.getAuthorFeed', feed, isGone)
  }
}

// Waits until the AppView names an account by this handle.
async function shows(view, account, handle) {
  const is = (body) => body.handle === handle
  await view.appears(`the handle ${handle}`, 'app.bsky.actor.getProfile', { actor: account.did }, is)
}

// Everybody comes back who can, and something more is written.
export async function wakeAll({ world, network, view }) {
  for (const account of world.accounts) {
    if (account.status === 'deactivated') {
      await account.activate()
      world.count('account reactivated')
    } else if (account.status === 'takendown') {
      await network.setTakedown(account, false)
      await account.signIn()
      account.status = undefined
      world.count('takedown undone')
    }
  }
  await world.act(80, BURST)
  await freshness(world, view, 1)
}
