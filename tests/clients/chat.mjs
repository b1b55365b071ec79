// A Chat that answers the tool calls of one message, as an application's own would: all of its messages
// in the end, and how each request went.
import { chatClass, load } from './releases.mjs'

const { release, url, headers, text, output } = JSON.parse(process.argv[2])
const { DefaultChatTransport, lastAssistantMessageIsCompleteWithToolCalls } = await load(release)
const Chat = await chatClass(release)
const ends = []
let over
const last = new Promise(resolve => { over = resolve })

const chat = new Chat({
  transport: new DefaultChatTransport({ api: url, headers }),
  sendAutomaticallyWhen: lastAssistantMessageIsCompleteWithToolCalls,
  onToolCall: ({ toolCall }) => {
    const add = (chat.addToolOutput ?? chat.addToolResult).bind(chat)
    add({ tool: toolCall.toolName, toolCallId: toolCall.toolCallId, output })
  },
  onFinish: ({ message, isError, isAbort, isDisconnect }) => {
    ends.push({ isError, isAbort, isDisconnect })
    const spoke = message.parts.some(part => part.type === 'text' && part.text)
    if (spoke || isError) over()
  },
})
await chat.sendMessage({ text })
await last
// The status is set after `onFinish`.
while (chat.status === 'streaming' || chat.status === 'submitted') await new Promise(setImmediate)
console.log(JSON.stringify({
  messages: chat.messages, status: chat.status, error: chat.error?.message ?? null, ends,
}))
