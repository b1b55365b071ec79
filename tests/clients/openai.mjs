// openai-node, streaming: the chunks of one chat, or how it was refused.
import OpenAI from 'openai'

const { url, key, body } = JSON.parse(process.argv[2])
const client = new OpenAI({ baseURL: url, apiKey: key, maxRetries: 0 })
const came = { chunks: [], message: null, error: null }
try {
  const stream = client.chat.completions.stream(body)
  for await (const chunk of stream) came.chunks.push(chunk)
  came.message = (await stream.finalChatCompletion()).choices[0]
} catch (error) {
  came.error = { name: error.constructor.name, status: error.status ?? null, code: error.code ?? null, message: error.message }
}
console.log(JSON.stringify(came))
