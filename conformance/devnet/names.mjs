// Where the handles of the dev network lead: a DNS server and a server for well-known files, of
// names that no other server knows.
import dgram from 'node:dgram'
import http from 'node:http'

// Requests a URL with any Host header, which fetch does not allow; the body, if it is there.
function requestAs(host, url) {
  return new Promise((answer, fail) => {
    const request = http.get(url, { headers: { host } }, (response) => {
      let body = ''
      response.setEncoding('utf8').on('data', (text) => (body += text))
      response.on('end', () => answer(response.statusCode === 200 ? body : undefined))
    })
    request.once('error', fail)
  })
}

// The name in a DNS question, and where the question ends.
function questionOf(message) {
  const labels = []
  let at = 12
  while (message[at] !== 0) {
    labels.push(message.toString('latin1', at + 1, at + 1 + message[at]))
    at += 1 + message[at]
  }
  return { name: labels.join('.').toLowerCase(), kind: message.readUInt16BE(at + 1), end: at + 5 }
}

// A response to a DNS question: these texts, or that there is no such name.
function responseTo(message, end, texts) {
  const response = Buffer.from(message.subarray(0, end))
  // It is a response of the server that knows; the last four bits say whether there is the name.
  response.writeUInt16BE(0x8400 | (message.readUInt16BE(2) & 0x0100) | (texts ? 0 : 3), 2)
  for (const [at, count] of [1, texts?.length ?? 0, 0, 0].entries()) {
    response.writeUInt16BE(count, 4 + 2 * at)
  }
  const answers = (texts ?? []).map((text) => {
    const head = Buffer.alloc(13)
    // The name of the question; TXT, of the Internet, to be forgotten at once.
    for (const [at, value] of [0xc00c, 16, 1, 0, 0, text.length + 1].entries()) {
      head.writeUInt16BE(value, 2 * at)
    }
    head[12] = text.length
    return Buffer.concat([head, Buffer.from(text)])
  })
  return Buffer.concat([response, ...answers])
}

export class Names {
  // Domains whose owners point them at an account themselves: handle to DID.
  byDns = new Map()
  byFile = new Map()

  // `pdses` give handles to their accounts.
  static async start(pdses) {
    const names = new Names()
    names.pdses = pdses
    names.files = http.createServer(async (request, response) => {
      const handle = (request.headers.host ?? '').replace(/:\d+$/, '').toLowerCase()
      const isAsked = request.url === '/.well-known/atproto-did'
      const did = isAsked ? await names.fileOf(handle) : undefined
      response.writeHead(did ? 200 : 404, { 'content-type': 'text/plain' }).end(did ?? 'nothing')
    })
    await new Promise((ready) => names.files.listen(0, '127.0.0.1', ready))
    names.url = `http://127.0.0.1:${names.files.address().port}`
    names.dns = dgram.createSocket('udp4')
    names.dns.on('message', (message, from) => {
      const { name, kind, end } = questionOf(message)
      const did = kind === 16 && names.byDns.get(name.replace('_atproto.', ''))
      const response = responseTo(message, end, did ? [`did=${did}`] : undefined)
      names.dns.send(response, from.port, from.address)
    })
    await new Promise((ready) => names.dns.bind(0, '127.0.0.1', ready))
    names.dnsServer = `127.0.0.1:${names.dns.address().port}`
    return names
  }

  async fileOf(handle) {
    if (this.byFile.has(handle)) return this.byFile.get(handle)
    for (const pds of this.pdses) {
      const isIts = pds.ctx.cfg.identity.serviceHandleDomains.some((end) => handle.endsWith(end))
      if (isIts) return requestAs(handle, `${pds.url}/.well-known/atproto-did`)
    }
  }

  // The DID that a handle leads to.
  async resolve(handle) {
    return this.byDns.get(handle) ?? this.fileOf(handle)
  }

  stop() {
    this.files.close()
    this.dns.close()
  }
}
