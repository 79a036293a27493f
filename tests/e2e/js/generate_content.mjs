import { GoogleGenAI } from "@google/genai";

// By the SDK's chats, which keep the history.
export class GenerateContent {
  constructor({ url, key, model, system, tools, thinks, ...job }) {
    this.sdk = new GoogleGenAI({ apiKey: key, httpOptions: { baseUrl: url } });
    const config = { maxOutputTokens: job.limit, ...job.more };
    if (system) config.systemInstruction = system;
    if (thinks) config.thinkingConfig = { includeThoughts: true, thinkingBudget: job.budget };
    if (tools)
      config.tools = [
        {
          functionDeclarations: tools.map(({ name, description, schema }) => ({
            name,
            description,
            parametersJsonSchema: schema,
          })),
        },
      ];
    this.members = { model, config };
    this.chat = this.sdk.chats.create(this.members);
    this.next = null;
  }

  say(text) {
    this.next = text;
  }

  give(results) {
    this.next = results.map(({ call, text, isError }) => ({
      functionResponse: { id: call.id, name: call.name, response: { [isError ? "error" : "output"]: text } },
    }));
  }

  async ask({ stream }) {
    const chunks = [];
    if (stream) for await (const chunk of await this.chat.sendMessageStream({ message: this.next })) chunks.push(chunk);
    else chunks.push(await this.chat.sendMessage({ message: this.next }));
    const parts = chunks.flatMap((chunk) => chunk.candidates?.[0].content?.parts ?? []);
    const last = chunks.at(-1);
    return {
      text: parts.map((part) => (part.thought ? "" : (part.text ?? ""))).join(""),
      thinking: parts.map((part) => (part.thought ? part.text : "")).join(""),
      signatures: parts.flatMap((part) => part.thoughtSignature ?? []),
      calls: parts.flatMap(({ functionCall: call }) =>
        call ? { id: call.id, name: call.name, arguments: call.args } : [],
      ),
      stop: last.candidates?.[0].finishReason,
      usage: last.usageMetadata,
      model: last.modelVersion,
    };
  }

  async *events(abortSignal) {
    const config = { ...this.members.config, abortSignal };
    yield* await this.sdk.models.generateContentStream({ ...this.members, config, contents: this.next });
  }

  wordsOf(chunk) {
    return chunk.text ?? "";
  }
}
