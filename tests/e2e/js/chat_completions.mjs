import OpenAI from "openai";

export class ChatCompletions {
  constructor({ url, key, model, system, tools, thinks, ...job }) {
    this.sdk = new OpenAI({ apiKey: key, baseURL: `${url}/v1`, ...job.options });
    this.messages = system ? [{ role: "system", content: system }] : [];
    this.members = { model, messages: this.messages, max_completion_tokens: job.limit, ...job.more };
    if (thinks) this.members.reasoning_effort = "high";
    if (tools)
      this.members.tools = tools.map(({ name, description, schema }) => ({
        type: "function",
        function: { name, description, parameters: schema },
      }));
  }

  say(text) {
    this.messages.push({ role: "user", content: text });
  }

  give(results) {
    for (const { call, text } of results) this.messages.push({ role: "tool", tool_call_id: call.id, content: text });
  }

  async ask({ stream }) {
    const { completions } = this.sdk.chat;
    const whole = await (stream
      ? completions.stream(this.members).finalChatCompletion()
      : completions.create(this.members));
    const [{ message, finish_reason }] = whole.choices;
    this.messages.push(message);
    return {
      text: message.content ?? "",
      thinking: message.reasoning_content ?? "",
      calls: (message.tool_calls ?? []).map(({ id, function: named }) => ({ id, ...named })),
      stop: finish_reason,
      usage: whole.usage,
      model: whole.model,
    };
  }

  async *events(signal) {
    yield* await this.sdk.chat.completions.create({ ...this.members, stream: true }, { signal });
  }

  wordsOf(chunk) {
    return chunk.choices[0]?.delta.content ?? "";
  }
}
