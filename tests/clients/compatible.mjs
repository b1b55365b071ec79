// @ai-sdk/openai-compatible under streamText: what a model's caller sees of one stream.
import { createOpenAICompatible } from '@ai-sdk/openai-compatible'
import { streamText } from 'ai7'

const { url, key, model, prompt } = JSON.parse(process.argv[2])
const provider = createOpenAICompatible({ name: 'gateway', baseURL: url, apiKey: key, includeUsage: true })
const came = { text: '', errors: [], finish: null, usage: null }
const result = streamText({
  model: provider(model), prompt, maxRetries: 0,
  onError: ({ error }) => { came.errors.push(error?.message ?? String(error)) },
})
for await (const part of result.stream ?? result.fullStream) {
  if (part.type === 'text-delta') came.text += part.text
  if (part.type === 'finish') {
    came.finish = part.finishReason
    came.usage = part.totalUsage
  }
}
console.log(JSON.stringify(came))
