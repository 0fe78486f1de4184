// A small relay: it brings the event streams of several PDSes into one sequence of its own, keeps
// all of it, and serves it as com.atproto.sync.subscribeRepos, with com.atproto.sync.listHosts.
// Unlike a relay of the network, it passes on everything, also what a PDS says of an account that
// has moved away. So whoever follows it has to know better.
import http from 'node:http'
import { decodeAll, encode } from '@atproto/lex-cbor'
import { WebSocket, WebSocketServer } from 'ws'

const STREAM = '/xrpc/com.atproto.sync.subscribeRepos'
const PATIENCE = 200

export class Relay {
  // Each has seq, frame, kind, did, time, and the operations of a commit.
  events = []
  listeners = new Set()
  // By PDS: its URL, the last of its own sequence numbers that was read, and the connection.
  sources = []
  isOver = false

  static async start(urls, { port = 0 } = {}) {
    const relay = new Relay()
    relay.server = http.createServer((request, response) => {
      const { pathname } = new URL(request.url, 'http://relay')
      const isHosts = pathname === '/xrpc/com.atproto.sync.listHosts'
      const body = isHosts ? relay.hosts() : { error: 'MethodNotImplemented', message: pathname }
      response.writeHead(isHosts ? 200 : 501, { 'content-type': 'application/json' })
      response.end(JSON.stringify(body))
    })
    relay.sockets = new WebSocketServer({ server: relay.server, path: STREAM })
    relay.sockets.on('connection', (socket, request) => relay.serve(socket, request))
    await new Promise((ready) => relay.server.listen(port, '127.0.0.1', ready))
    relay.url = `http://127.0.0.1:${relay.server.address().port}`
    relay.sources = urls.map((url) => ({ url, cursor: 0 }))
    for (const source of relay.sources) relay.read(source)
    return relay
  }

  get seq() {
    return this.events.length
  }

  hosts() {
    const hosts = this.sources.map(({ url, cursor }) => {
      return { hostname: new URL(url).host, seq: cursor, status: 'active' }
    })
    return { hosts }
  }

  // Reads the stream of a PDS, and begins again after its last event when it breaks off.
  read(source) {
    if (this.isOver) return
    const url = `${source.url.replace('http', 'ws')}${STREAM}?cursor=${source.cursor}`
    source.socket = new WebSocket(url)
    source.socket.on('message', (frame) => this.take(source, frame))
    source.socket.on('error', () => {})
    source.socket.on('close', () => setTimeout(() => this.read(source), PATIENCE))
  }

  take(source, frame) {
    const [header, body] = decodeAll(frame)
    if (header.op !== 1 || !(body.seq > source.cursor)) return
    source.cursor = body.seq
    const seq = this.seq + 1
    const { time, ops } = body
    const renumbered = Buffer.concat([encode(header), encode({ ...body, seq })])
    const [kind, did] = [header.t.slice(1), body.repo ?? body.did]
    this.events.push({ seq, frame: renumbered, kind, did, time, ops })
    for (const socket of this.listeners) socket.send(renumbered)
  }

  serve(socket, request) {
    const named = new URL(request.url, 'http://relay').searchParams.get('cursor')
    const cursor = named === null ? this.seq : Number(named)
    socket.on('error', () => {})
    if (cursor > this.seq) {
      socket.send(Buffer.concat([encode({ op: -1 }), encode({ error: 'FutureCursor' })]))
      socket.close()
      return
    }
    for (const { frame } of this.events.slice(cursor)) socket.send(frame)
    this.listeners.add(socket)
    socket.on('close', () => this.listeners.delete(socket))
  }

  // Breaks all connections of those that listen.
  interrupt() {
    for (const socket of this.listeners) socket.terminate()
  }

  stop() {
    this.isOver = true
    for (const { socket } of this.sources) socket.terminate()
    for (const socket of this.sockets.clients) socket.terminate()
    this.server.close()
  }
}
