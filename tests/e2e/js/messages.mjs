import Anthropic from "@anthropic-ai/sdk";

export class Messages {
  constructor({ url, key, model, system, tools, thinks, ...job }) {
    this.sdk = new Anthropic({ apiKey: key, baseURL: url, ...job.options });
    this.messages = [];
    this.members = { model, messages: this.messages, max_tokens: job.limit, ...job.more };
    if (system) this.members.system = system;
    if (thinks) this.members.thinking = { type: "enabled", budget_tokens: job.budget };
    if (tools)
      this.members.tools = tools.map(({ name, description, schema }) => ({ name, description, input_schema: schema }));
  }

  say(text) {
    this.messages.push({ role: "user", content: text });
  }

  give(results) {
    const content = results.map(({ call, text, isError }) => ({
      type: "tool_result",
      tool_use_id: call.id,
      content: text,
      ...(isError && { is_error: true }),
    }));
    this.messages.push({ role: "user", content });
  }

  async ask({ stream }) {
    const indexes = [];
    const note = (event) => event.type === "content_block_start" && indexes.push(event.index);
    const whole = await (stream
      ? this.sdk.messages.stream(this.members).on("streamEvent", note).finalMessage()
      : this.sdk.messages.create(this.members));
    this.messages.push({ role: "assistant", content: whole.content });
    const of = (type) => whole.content.filter((block) => block.type === type);
    return {
      text: of("text").map((block) => block.text).join(""),
      thinking: of("thinking").map((block) => block.thinking).join(""),
      signatures: of("thinking").map((block) => block.signature),
      calls: of("tool_use").map(({ id, name, input }) => ({ id, name, arguments: input })),
      stop: whole.stop_reason,
      usage: whole.usage,
      model: whole.model,
      indexes,
    };
  }

  async *events(signal) {
    yield* await this.sdk.messages.create({ ...this.members, stream: true }, { signal });
  }

  wordsOf(event) {
    return event.type === "content_block_delta" ? (event.delta.text ?? "") : "";
  }
}
