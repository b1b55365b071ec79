// DefaultChatTransport: a chat that is left after its first text, and reconnectToStream, as useChat has
// it with `resume`: the message in the end, and what there is to resume afterwards.
import { load } from './releases.mjs'

const { release, url, headers, chatId, messages } = JSON.parse(process.argv[2])
const { DefaultChatTransport, readUIMessageStream } = await load(release)
const transport = new DefaultChatTransport({ api: url, headers })
const before = await transport.reconnectToStream({ chatId })

const leaving = new AbortController()
const left = await transport.sendMessages({
  chatId, messages, trigger: 'submit-message', abortSignal: leaving.signal,
})
const seen = []
for await (const chunk of left) {
  seen.push(chunk.type)
  if (chunk.type === 'text-delta') break
}
leaving.abort()

const stream = await transport.reconnectToStream({ chatId })
const errors = []
let message = null
const options = { stream, onError: error => errors.push(error.message) }
for await (const step of readUIMessageStream(options)) message = step
const after = await transport.reconnectToStream({ chatId })
console.log(JSON.stringify({ before, seen, errors, message, after }))
