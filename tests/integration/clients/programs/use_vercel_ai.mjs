// Vercel's AI SDK 5: a tool loop over Responses, whose second request refers to stored items, and over Chat Completions.
import assert from "node:assert";
import { createOpenAI } from "@ai-sdk/openai";
import { generateText, stepCountIs, streamText, tool } from "ai";
import { z } from "zod";

const bodies = [];
const openai = createOpenAI({
  baseURL: process.env.OPENAI_BASE_URL,
  apiKey: "key",
  fetch: (url, options) => {
    bodies.push(JSON.parse(options.body));
    return fetch(url, options);
  },
});
const tools = {
  weather: tool({ description: "The weather", inputSchema: z.object({ city: z.string() }), execute: async () => "sunny" }),
};

for (const model of [openai.responses("m"), openai.chat("m")]) {
  const result = await generateText({ model, tools, prompt: "weather in Bern?", stopWhen: stepCountIs(3) });
  assert.equal(result.text, "It is sunny.");
  assert.equal(result.steps.length, 2);
  const stream = streamText({ model, tools, prompt: "weather in Bern?", stopWhen: stepCountIs(3) });
  let text = "";
  for await (const piece of stream.textStream) text += piece;
  assert.equal(text, "It is sunny.");
}
assert(bodies.some((body) => body.input?.some?.((item) => item.type === "item_reference")), "no item was referred to");
