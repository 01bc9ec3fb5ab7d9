// openai-node: threads and runs, streamed with a function, file search, Responses.
import assert from "node:assert";
import OpenAI, { toFile } from "openai";

const client = new OpenAI();
const weather = { name: "weather", parameters: { type: "object", properties: { city: { type: "string" } } } };
const assistant = await client.beta.assistants.create({ model: "m", tools: [{ type: "function", function: weather }] });
const thread = await client.beta.threads.create({ messages: [{ role: "user", content: "weather in Bern?" }] });
let pieces = "";
const stream = client.beta.threads.runs
  .stream(thread.id, { assistant_id: assistant.id })
  .on("toolCallDelta", (delta) => (pieces += delta.function.arguments ?? ""));
const run = await stream.finalRun();
assert.equal(run.status, "requires_action");
assert.deepEqual(JSON.parse(pieces), { city: "Bern" });
const outputs = run.required_action.submit_tool_outputs.tool_calls.map((call) => ({ tool_call_id: call.id, output: "sunny" }));
let text = "";
await client.beta.threads.runs
  .submitToolOutputsStream(run.id, { thread_id: thread.id, tool_outputs: outputs })
  .on("textDelta", (delta) => (text += delta.value))
  .finalRun();
assert.equal(text, "It is sunny.");

const file = await client.files.create({ file: await toFile(Buffer.from("Dahlias bloom in August."), "notes.md"), purpose: "assistants" });
const store = await client.vectorStores.create({ name: "notes" });
await client.vectorStores.files.createAndPoll(store.id, { file_id: file.id });
const searcher = await client.beta.assistants.create({
  model: "m",
  tools: [{ type: "file_search" }],
  tool_resources: { file_search: { vector_store_ids: [store.id] } },
});
const searched = await client.beta.threads.createAndRunPoll({
  assistant_id: searcher.id,
  thread: { messages: [{ role: "user", content: "What do my notes say?" }] },
});
const said = (await client.beta.threads.messages.list(searched.thread_id)).data[0].content[0].text;
assert.match(said.value, /August/);
assert.equal(said.annotations[0].file_citation.file_id, file.id);

const response = await client.responses.create({ model: "m", input: "Hello" });
assert.equal(response.output_text, "You said: Hello");
const final = await client.responses.stream({ model: "m", input: "Again", previous_response_id: response.id }).finalResponse();
assert.equal(final.output_text, "You said: Again");
