// DefaultChatTransport and readUIMessageStream, one chat after the other: what came, and how it ended.
import { load } from './releases.mjs'

const { release, url, headers, chats } = JSON.parse(process.argv[2])
const { DefaultChatTransport, readUIMessageStream } = await load(release)
const transport = new DefaultChatTransport({ api: url, headers })

async function read(messages) {
  const came = { message: null, errors: [], refused: null, chunks: [] }
  try {
    const stream = await transport.sendMessages({ chatId: 'chat-1', messages, trigger: 'submit-message' })
    const [shown, seen] = stream.tee()
    const looking = (async () => { for await (const chunk of seen) came.chunks.push(chunk.type) })()
    const reading = readUIMessageStream({ stream: shown, onError: error => came.errors.push(error.message) })
    for await (const message of reading) came.message = message
    await looking
  } catch (error) {
    came.refused = error.message
  }
  return came
}

const all = []
for (const messages of chats) all.push(await read(messages))
console.log(JSON.stringify(all))
