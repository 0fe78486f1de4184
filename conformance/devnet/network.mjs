// The official PLC directory and two official PDSes on loopback, and the accounts as clients of the
// official API.
import fs from 'node:fs'
import net from 'node:net'
import path from 'node:path'
import { TestPds, TestPlc, ADMIN_PASSWORD } from '@atproto/dev-env'
import { Names } from './names.mjs'

const ADMIN = `Basic ${Buffer.from(`admin:${ADMIN_PASSWORD}`).toString('base64')}`
const PASSWORD = 'a-password-of-the-devnet'

// A free port of the range that neither the system nor other services hand out by themselves.
export async function freePort() {
  for (;;) {
    const port = 40_000 + Math.floor(Math.random() * 20_000)
    const isFree = await new Promise((answer) => {
      const server = net.createServer()
      server.once('error', () => answer(false))
      server.listen(port, () => server.close(() => answer(true)))
    })
    if (isFree) return port
  }
}

// A method of the API that was refused.
export class Refused extends Error {
  constructor(method, status, body) {
    super(`${method}: ${status} ${body?.error ?? ''} ${body?.message ?? ''}`)
    this.error = body?.error
  }
}

// Calls a method: a query if nothing is sent.
export async function call(service, method, { query, send, type, authorization } = {}) {
  const url = new URL(`/xrpc/${method}`, service)
  for (const [name, value] of Object.entries(query ?? {})) url.searchParams.append(name, value)
  const isBytes = send instanceof Uint8Array
  const headers = authorization ? { authorization } : {}
  if (send !== undefined) headers['content-type'] = type ?? 'application/json'
  const response = await fetch(url, {
    method: send === undefined ? 'GET' : 'POST',
    headers,
    body: send === undefined ? undefined : isBytes ? send : JSON.stringify(send),
  })
  const bytes = Buffer.from(await response.arrayBuffer())
  const isJson = response.headers.get('content-type')?.includes('json')
  const body = isJson && bytes.length > 0 ? JSON.parse(bytes) : bytes
  if (!response.ok) throw new Refused(method, response.status, body)
  return body
}

export class Network {
  pdses = []
  migrations = 0

  static async start(folder) {
    const network = new Network()
    network.plc = await TestPlc.create({ port: await freePort() })
    for (const name of ['one', 'two']) {
      fs.mkdirSync(path.join(folder, name), { recursive: true })
      const pds = await TestPds.create({
        didPlcUrl: network.plc.url,
        port: await freePort(),
        serviceName: name,
        serviceHandleDomains: [`.${name}.test`],
        dataDirectory: path.join(folder, name),
        blobstoreDiskLocation: path.join(folder, `${name}-blobs`),
      })
      // As DNS does not know the names of this network.
      pds.ctx.idResolver.handle.resolve = (handle) => network.names.resolve(handle)
      network.pdses.push(pds)
    }
    network.names = await Names.start(network.pdses)
    return network
  }

  // A new account on a PDS.
  async createAccount(pds, name) {
    const handle = `${name}${pds.ctx.cfg.identity.serviceHandleDomains[0]}`
    const account = new Account(pds, handle, `${name}@devnet.test`)
    const send = { handle, email: account.email, password: PASSWORD }
    const made = await call(pds.url, 'com.atproto.server.createAccount', { send })
    account.did = made.did
    account.token = made.accessJwt
    return account
  }

  // The whole repo of an account. A PDS gives its administrator also those that are not active.
  async repoOf(account) {
    const query = { did: account.did }
    return call(account.pds.url, 'com.atproto.sync.getRepo', { query, authorization: ADMIN })
  }

  // The handle that an account's document claims, and the DID that this handle leads to. While an
  // account is not active, its PDS says that nobody has its handle, but nobody asks: the AppView
  // keeps the handle that it verified before.
  async handleOf({ did, status }) {
    const response = await fetch(`${this.plc.url}/${did}`)
    if (!response.ok) return {}
    const claimed = (await response.json()).alsoKnownAs?.[0]?.replace('at://', '')
    const leadsTo = status ? did : claimed && (await this.names.resolve(claimed))
    return { claimed, leadsTo }
  }

  async setTakedown(account, takedown) {
    const subject = { $type: 'com.atproto.admin.defs#repoRef', did: account.did }
    const method = 'com.atproto.admin.updateSubjectStatus'
    await call(account.pds.url, method, { send: { subject, takedown }, authorization: ADMIN })
  }

  async takeDown(account) {
    await this.setTakedown(account, { applied: true, ref: 'devnet' })
    account.status = 'takendown'
  }

  async undoTakedown(account) {
    await this.setTakedown(account, { applied: false })
    await account.signIn()
    account.status = undefined
  }

  // Deletes an account on a PDS, as its owner does with the code from the mail.
  async deleteAccount(account, pds = account.pds) {
    const { did } = account
    const token = await pds.ctx.accountManager.createEmailToken(did, 'delete_account')
    const send = { did, password: PASSWORD, token }
    await call(pds.url, 'com.atproto.server.deleteAccount', { send })
  }

  // Withdraws the document of an account.
  async tombstone(account) {
    const { plcClient, plcRotationKey } = account.pds.ctx
    await plcClient.tombstone(account.did, plcRotationKey)
  }

  // Moves an account to another PDS, in the order of the official guide: an account there, the
  // repo, the blobs, the document, then the new one is activated and the old one deactivated.
  async migrate(account, to, name) {
    const old = { pds: account.pds, token: account.token }
    const on = (where, method, options) =>
      call(where.pds.url, method, { ...options, authorization: `Bearer ${where.token}` })
    const { did } = await call(to.url, 'com.atproto.server.describeServer')
    const lxm = 'com.atproto.server.createAccount'
    const auth = await on(old, 'com.atproto.server.getServiceAuth', { query: { aud: did, lxm } })
    const handle = `${name}${to.ctx.cfg.identity.serviceHandleDomains[0]}`
    const made = await call(to.url, lxm, {
      send: { did: account.did, handle, email: account.email, password: PASSWORD },
      authorization: `Bearer ${auth.token}`,
    })
    const fresh = { pds: to, token: made.accessJwt }
    const type = 'application/vnd.ipld.car'
    const car = await on(old, 'com.atproto.sync.getRepo', { query: { did: account.did } })
    await on(fresh, 'com.atproto.repo.importRepo', { send: car, type })
    const { blobs } = await on(fresh, 'com.atproto.repo.listMissingBlobs')
    for (const { cid } of blobs) {
      const blob = await on(old, 'com.atproto.sync.getBlob', { query: { did: account.did, cid } })
      await on(fresh, 'com.atproto.repo.uploadBlob', { send: blob, type: 'image/png' })
    }
    const wanted = await on(fresh, 'com.atproto.identity.getRecommendedDidCredentials')
    const token = await old.pds.ctx.accountManager.createEmailToken(account.did, 'plc_operation')
    const signed = await on(old, 'com.atproto.identity.signPlcOperation', {
      send: { token, ...wanted },
    })
    await on(fresh, 'com.atproto.identity.submitPlcOperation', { send: signed })
    await on(fresh, 'com.atproto.server.activateAccount', { send: new Uint8Array() })
    await on(old, 'com.atproto.server.deactivateAccount', { send: {} })
    Object.assign(account, { pds: to, token: fresh.token, handle })
    this.migrations += 1
  }

  async stop() {
    this.names.stop()
    for (const pds of this.pdses) await pds.close()
    await this.plc.close()
  }
}

// An account, as its owner uses it.
export class Account {
  did
  token
  // deactivated, takendown or deleted, if it is not active.
  status
  constructor(pds, handle, email) {
    Object.assign(this, { pds, handle, email })
  }

  call(method, options) {
    return call(this.pds.url, method, { ...options, authorization: `Bearer ${this.token}` })
  }

  // A record is sent as it is: what does not fit its lexicon is stored as well.
  async create(collection, record, rkey) {
    const send = { repo: this.did, collection, rkey, validate: false, record }
    const { uri, cid } = await this.call('com.atproto.repo.createRecord', { send })
    return { uri, cid, did: this.did, collection, rkey: uri.split('/').pop() }
  }

  async put(collection, rkey, record) {
    const send = { repo: this.did, collection, rkey, validate: false, record }
    const { uri, cid } = await this.call('com.atproto.repo.putRecord', { send })
    return { uri, cid, did: this.did, collection, rkey }
  }

  async delete({ collection, rkey }) {
    await this.call('com.atproto.repo.deleteRecord', { send: { repo: this.did, collection, rkey } })
  }

  async applyWrites(writes) {
    const send = { repo: this.did, validate: false, writes }
    return (await this.call('com.atproto.repo.applyWrites', { send })).results
  }

  async upload(bytes, type) {
    return (await this.call('com.atproto.repo.uploadBlob', { send: bytes, type })).blob
  }

  async updateHandle(handle) {
    await this.call('com.atproto.identity.updateHandle', { send: { handle } })
    this.handle = handle
  }

  async deactivate() {
    await this.call('com.atproto.server.deactivateAccount', { send: {} })
    this.status = 'deactivated'
  }

  async activate() {
    await this.call('com.atproto.server.activateAccount', { send: new Uint8Array() })
    this.status = undefined
  }

  // Whoever was taken down has to sign in again.
  async signIn() {
    const send = { identifier: this.did, password: PASSWORD }
    const { accessJwt } = await call(this.pds.url, 'com.atproto.server.createSession', { send })
    this.token = accessJwt
  }
}
