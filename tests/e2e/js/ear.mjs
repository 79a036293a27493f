// What the SDKs send and get, by an ear on the platform's fetch; and how long they would wait before they ask again:
// here they do not wait. The SDKs themselves are as their vendors publish them.

export const TIMEOUT_MS = 19_997; // of the SDKs' requests; any other timer of theirs is a wait

const OF_AN_SDK = /node_modules\/(openai|@anthropic-ai|@google)\//;
const { fetch, setTimeout } = globalThis;
let ear = null;

export function listen() {
  ear = { sent: [], statuses: [], waits: [], raw: [] };
  return ear;
}

globalThis.fetch = async (url, options) => {
  const current = ear;
  current.sent.push(options.body);
  const response = await fetch(url, options);
  current.statuses.push(response.status);
  if (!response.body) return response;
  const decoder = new TextDecoder();
  const hear = new TransformStream({
    transform(piece, onward) {
      current.raw.push(decoder.decode(piece, { stream: true }));
      onward.enqueue(piece);
    },
  });
  return new Response(response.body.pipeThrough(hear), response);
};

globalThis.setTimeout = (act, delay, ...rest) => {
  const isWait = delay > 0 && delay !== TIMEOUT_MS && OF_AN_SDK.test(new Error().stack);
  if (isWait) ear.waits.push(delay);
  return setTimeout(act, isWait ? 0 : delay, ...rest);
};
