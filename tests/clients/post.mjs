// node:http2, one POST of standard input: the answer, also if it is there before all of the body has gone.
import { readFile } from 'node:fs/promises'
import http2 from 'node:http2'
import { buffer, text } from 'node:stream/consumers'

const { origin, address, certificate, path, headers } = JSON.parse(process.argv[2])
const session = http2.connect(origin, {
  ca: await readFile(certificate),
  lookup: (host, options, found) => options.all ? found(null, [{ address, family: 4 }]) : found(null, address, 4),
})
const request = session.request({ ':method': 'POST', ':path': path, ...headers })
const responded = new Promise((resolve, reject) => request.on('response', resolve).on('error', reject))
request.end(await buffer(process.stdin))
const { ':status': status, ...rest } = await responded
console.log(JSON.stringify({ status, headers: rest, body: await text(request) }))
session.close()
