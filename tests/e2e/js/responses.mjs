import OpenAI from "openai";

export class Responses {
  constructor({ url, key, model, system, tools, thinks, ...job }) {
    this.sdk = new OpenAI({ apiKey: key, baseURL: `${url}/v1`, ...job.options });
    this.items = [];
    this.members = { model, input: this.items, max_output_tokens: job.limit, store: false, ...job.more };
    this.members.include = ["reasoning.encrypted_content"];
    if (system) this.members.instructions = system;
    if (thinks) this.members.reasoning = { effort: "high", summary: "auto" };
    if (tools)
      this.members.tools = tools.map(({ name, description, schema }) => ({
        type: "function",
        name,
        description,
        parameters: schema,
        strict: false,
      }));
  }

  say(text) {
    this.items.push({ role: "user", content: text });
  }

  give(results) {
    for (const { call, text } of results)
      this.items.push({ type: "function_call_output", call_id: call.id, output: text });
  }

  async ask({ stream }) {
    const { responses } = this.sdk;
    const whole = await (stream ? responses.stream(this.members).finalResponse() : responses.create(this.members));
    this.items.push(...whole.output);
    const of = (type) => whole.output.filter((item) => item.type === type);
    return {
      text: whole.output_text,
      thinking: of("reasoning").flatMap((item) => item.summary).map((part) => part.text).join(""),
      signatures: of("reasoning").map((item) => item.encrypted_content),
      calls: of("function_call").map((item) => ({ id: item.call_id, name: item.name, arguments: item.arguments })),
      stop: whole.incomplete_details?.reason ?? whole.status,
      usage: whole.usage,
      model: whole.model,
    };
  }

  async *events(signal) {
    yield* await this.sdk.responses.create({ ...this.members, stream: true }, { signal });
  }

  wordsOf(event) {
    return event.type === "response.output_text.delta" ? event.delta : "";
  }
}
