// eventsource-parser on standard input: its events, and what it could not read.
import { createParser } from 'eventsource-parser'

const came = { events: [], errors: [] }
const parser = createParser({
  onEvent: ({ event, data }) => came.events.push([event ?? 'message', data]),
  onError: error => came.errors.push(error.type),
})
process.stdin.setEncoding('utf8')
for await (const text of process.stdin) parser.feed(text)
console.log(JSON.stringify(came))
