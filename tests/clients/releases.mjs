// The releases of the AI SDK that the tests run; `-first` are the strictest of theirs.
export const load = release => import(release)

// What `useChat` is made of: React's for the newest, else the class beneath it with the least of state.
export async function chatClass(release) {
  if (release === 'ai7') return (await import('@ai-sdk/react')).Chat
  const { AbstractChat } = await load(release)
  class State {
    status = 'ready'
    error = undefined
    messages = []
    pushMessage = message => { this.messages = [...this.messages, message] }
    popMessage = () => { this.messages = this.messages.slice(0, -1) }
    replaceMessage = (index, message) => { this.messages = this.messages.with(index, message) }
    snapshot = value => structuredClone(value)
  }
  return class extends AbstractChat {
    constructor(init) { super({ ...init, state: new State() }) }
  }
}
