// Takes jobs from stdin, a line of JSON each, and answers each with a line of JSON. A job names the SDK, the scenario,
// base URL, key and model, and what to say. One process runs them all: starting Node takes longer than most jobs.

import { createInterface } from "node:readline";

import { ChatCompletions } from "./chat_completions.mjs";
import { TIMEOUT_MS, listen } from "./ear.mjs";
import { GenerateContent } from "./generate_content.mjs";
import { Messages } from "./messages.mjs";
import { Responses } from "./responses.mjs";

const SDKS = {
  openai: ChatCompletions,
  responses: Responses,
  anthropic: Messages,
  gemini: GenerateContent,
};

const SCENARIOS = {
  // Say what there is to say, and give a result for every call in between.
  async converse(conversation, { says, stream, canFail }, told) {
    told.answers = [];
    for (const words of says) {
      conversation.say(words);
      for (let calls = null; calls === null || calls.length; ) {
        if (calls) conversation.give(resultsFor(calls, canFail));
        const answer = await conversation.ask({ stream });
        told.answers.push(answer);
        calls = answer.calls;
      }
    }
  },

  async ask(conversation, { says, stream }, told) {
    conversation.say(says[0]);
    told.answers = [await conversation.ask({ stream })];
  },

  // Take a stream's events as they come, to its end or to the first words; what was heard before an exception counts.
  async hear(conversation, { says, leaves }, told) {
    const leaving = new AbortController();
    told.words = "";
    told.events = [];
    conversation.say(says[0]);
    for await (const event of conversation.events(leaving.signal)) {
      told.words += conversation.wordsOf(event);
      told.events.push(event);
      if (leaves && told.words) leaving.abort();
    }
  },
};

function resultsFor(calls, canFail) {
  const last = calls.length - 1;
  return calls.map((call, place) => ({
    call,
    text: `result of ${call.name}: 11°`,
    isError: canFail && place > 0 && place === last,
  }));
}

function describe(error) {
  const { constructor, message, status = null, requestID = null, code = null, details = null, stack } = error;
  return { name: constructor.name, message, status, requestId: requestID, code, details, stack };
}

async function run(job) {
  const told = { raised: null };
  const ear = listen();
  try {
    const options = { timeout: TIMEOUT_MS, ...job.options };
    await SCENARIOS[job.scenario](new SDKS[job.sdk]({ ...job, options }), job, told);
  } catch (error) {
    told.raised = describe(error);
  }
  return { ...told, ...ear, raw: ear.raw.join("") };
}

for await (const line of createInterface({ input: process.stdin })) {
  process.stdout.write(`${JSON.stringify(await run(JSON.parse(line)))}\n`);
}
