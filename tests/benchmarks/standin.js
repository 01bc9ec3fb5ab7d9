// A stand-in for a service of the Assistants protocol, fast enough not to be the bottleneck of a benchmark.
//
//   node tests/benchmarks/standin.js [--port 0] [--latency-ms 50] [--deltas 20] [--gap-ms 0] [--rpm 0]
//
// Prints the URL to give as base_url, then serves until it is stopped. Node's http module and nothing else.
//
//   POST /v1/assistants   GET /v1/assistants/{a}   POST /v1/threads                   POST /v1/threads/{t}/messages
//   POST /v1/threads/runs (streamed or not)        POST /v1/threads/{t}/runs          GET  /v1/threads/{t}/runs/{r}
//   GET  /v1/threads/{t}/messages                  GET  /stats                        POST /stats (then resets)
//
// A streamed run tells its ids at once and the answer after a while, in one piece, or delta by delta with `gap-ms`
// between them. Other runs are in progress for that while, which lies evenly between a half and one and a half of
// `latency-ms`: with one and the same for all, rows would go in lockstep, as they never do with a model.
//
// With --rpm N no more than N requests pass in any 60 s (a sliding window over the exact times of arrival); the
// others get 429 with Retry-After.
'use strict';
const http = require('node:http');
const { parseArgs } = require('node:util');

const { values: options } = parseArgs({
  options: {
    port: { type: 'string', default: '0' },
    'latency-ms': { type: 'string', default: '50' },
    deltas: { type: 'string', default: '20' },
    'gap-ms': { type: 'string', default: '0' },
    rpm: { type: 'string', default: '0' },
  },
});
const LATENCY_MS = Number(options['latency-ms']);
const DELTAS = Number(options.deltas);
const GAP_MS = Number(options['gap-ms']);
const MAX_REQUESTS_PER_MINUTE = Number(options.rpm);
const WINDOW_MS = 60_000;

// All mutable state: what /stats tells, the window of the limit, and the messages of threads that were not streamed.
let byKind = new Map();
let arrivals = [];
let refused = 0;
let inFlight = 0;
let mostInFlight = 0;
let accepted = [];
let oldestAccepted = 0;
let lastNumber = 0;
let connections = 0;
const contents = new Map();

const WORDS = Array.from({ length: DELTAS }, (_, number) => `word${number} `);
const ANSWER = WORDS.join('').trimEnd();
const USAGE = {
  prompt_tokens: 42,
  completion_tokens: DELTAS,
  total_tokens: 42 + DELTAS,
  prompt_token_details: { cached_tokens: 0 },
  completion_tokens_details: { reasoning_tokens: 0 },
};

const latencyMs = () => LATENCY_MS * (0.5 + Math.random());
const RESPONSE_USAGE = {
  input_tokens: 42, input_tokens_details: { cached_tokens: 0 },
  output_tokens: DELTAS, output_tokens_details: { reasoning_tokens: 0 }, total_tokens: 42 + DELTAS,
};
const CHAT_USAGE = {
  prompt_tokens: 42, completion_tokens: DELTAS, total_tokens: 42 + DELTAS,
  prompt_tokens_details: { cached_tokens: 0 }, completion_tokens_details: { reasoning_tokens: 0 },
};

const nextId = () => (++lastNumber).toString(36).padStart(20, '0');
const seconds = () => Math.floor(Date.now() / 1000);

function runObject(id, threadId, request, status) {
  const created = seconds();
  const ended = status === 'completed';
  return {
    id, object: 'thread.run', created_at: created, assistant_id: request.assistant_id ?? 'asst_standin',
    thread_id: threadId, status, started_at: status === 'queued' ? null : created,
    expires_at: ended ? null : created + 600, cancelled_at: null, failed_at: null,
    completed_at: ended ? created : null, required_action: null, last_error: null, model: 'standin',
    instructions: '', tools: [], tool_resources: {}, metadata: request.metadata ?? {}, temperature: 1.0, top_p: 1.0,
    max_completion_tokens: null, max_prompt_tokens: null,
    truncation_strategy: { type: 'auto', last_messages: null }, incomplete_details: null,
    usage: ended ? USAGE : null, response_format: 'auto', tool_choice: 'auto', parallel_tool_calls: true,
  };
}

function messageObject(id, threadId, runId, role, text) {
  const created = seconds();
  return {
    id, object: 'thread.message', created_at: created,
    assistant_id: role === 'assistant' ? 'asst_standin' : null, thread_id: threadId, run_id: runId,
    status: text === null ? 'in_progress' : 'completed', incomplete_details: null, incomplete_at: null,
    completed_at: text === null ? null : created, role,
    content: text === null ? [] : [{ type: 'text', text: { value: text, annotations: [] } }],
    attachments: [], metadata: {},
  };
}

function stepObject(id, threadId, runId, messageId, ended) {
  const created = seconds();
  return {
    id, object: 'thread.run.step', created_at: created, run_id: runId, assistant_id: 'asst_standin',
    thread_id: threadId, type: 'message_creation', status: ended ? 'completed' : 'in_progress', cancelled_at: null,
    completed_at: ended ? created : null, expires_at: created + 600, failed_at: null, last_error: null,
    step_details: { type: 'message_creation', message_creation: { message_id: messageId } },
    usage: ended ? USAGE : null, metadata: {},
  };
}

const threadObject = (id, metadata) => ({
  id, object: 'thread', created_at: seconds(), metadata: metadata ?? {}, tool_resources: {},
});
const DONE = 'event: done\ndata: [DONE]\n\n';
const frame = (event, body) => `event: ${event}\ndata: ${JSON.stringify(body)}\n\n`;

/** The events of a streamed run, in the protocol's order: those sent at once, the deltas, those at the end. */
function eventsOf(request) {
  const [threadId, runId] = [`thread_${nextId()}`, newRunId()];
  const [messageId, stepId] = [`msg_${nextId()}`, `step_${nextId()}`];
  const running = JSON.stringify(runObject(runId, threadId, request, 'in_progress'));
  const queued = JSON.stringify(runObject(runId, threadId, request, 'queued'));
  const step = JSON.stringify(stepObject(stepId, threadId, runId, messageId, false));
  const message = JSON.stringify(messageObject(messageId, threadId, runId, 'assistant', null));
  const opening =
    frame('thread.created', threadObject(threadId, request.thread?.metadata)) +
    `event: thread.run.created\ndata: ${queued}\n\nevent: thread.run.queued\ndata: ${queued}\n\n` +
    `event: thread.run.in_progress\ndata: ${running}\n\n` +
    `event: thread.run.step.created\ndata: ${step}\n\nevent: thread.run.step.in_progress\ndata: ${step}\n\n` +
    `event: thread.message.created\ndata: ${message}\n\nevent: thread.message.in_progress\ndata: ${message}\n\n`;
  const deltas = WORDS.map((word) =>
    `event: thread.message.delta\ndata: {"id":"${messageId}","object":"thread.message.delta","delta":{"content":` +
    `[{"index":0,"type":"text","text":{"value":"${word}"}}]}}\n\n`);
  const closing =
    frame('thread.message.completed', messageObject(messageId, threadId, runId, 'assistant', ANSWER)) +
    frame('thread.run.step.completed', stepObject(stepId, threadId, runId, messageId, true)) +
    frame('thread.run.completed', runObject(runId, threadId, request, 'completed'));
  return { opening, deltas, closing, end: DONE };
}

/** The same of a streamed response. */
function responseEvents(request) {
  const [id, item] = [`resp_${nextId()}`, `msg_${nextId()}`];
  let number = 0;
  const event = (name, body) => frame(name, { type: name, sequence_number: number++, ...body });
  const running = responseObject(id, request, 'in_progress');
  const message = responseMessage(item, '', 'in_progress');
  const part = (text) => ({ type: 'output_text', annotations: [], logprobs: [], text });
  const place = { item_id: item, output_index: 0, content_index: 0 };
  const opening =
    event('response.created', { response: running }) + event('response.in_progress', { response: running }) +
    event('response.output_item.added', { output_index: 0, item: message }) +
    event('response.content_part.added', { ...place, part: part('') });
  const deltas = WORDS.map((delta) => event('response.output_text.delta', { ...place, delta, logprobs: [] }));
  const closing =
    event('response.output_text.done', { ...place, text: ANSWER, logprobs: [] }) +
    event('response.content_part.done', { ...place, part: part(ANSWER) }) +
    event('response.output_item.done', { output_index: 0, item: responseMessage(item, ANSWER, 'completed') }) +
    event('response.completed', { response: responseObject(id, request, 'completed') });
  return { opening, deltas, closing, end: '' };
}

/** The same of a streamed chat completion, with its usage where that is asked for. */
function chatEvents(request) {
  const head = { id: `chatcmpl-${nextId()}`, object: 'chat.completion.chunk', created: seconds(), model: 'standin' };
  const usage = request.stream_options?.include_usage ? { usage: null } : {};
  const chunk = (delta, finish_reason = null) =>
    `data: ${JSON.stringify({ ...head, choices: [{ index: 0, delta, logprobs: null, finish_reason }], ...usage })}\n\n`;
  const counted = `data: ${JSON.stringify({ ...head, choices: [], usage: CHAT_USAGE })}\n\n`;
  return {
    opening: chunk({ role: 'assistant', content: '', refusal: null }),
    deltas: WORDS.map((content) => chunk({ content })),
    closing: chunk({}, 'stop') + (request.stream_options?.include_usage ? counted : ''),
    end: 'data: [DONE]\n\n',
  };
}

function responseObject(id, request, status) {
  const ended = status === 'completed';
  return {
    id, object: 'response', created_at: seconds(), status, background: false, completed_at: ended ? seconds() : null,
    conversation: request.conversation ? { id: request.conversation } : null, error: null, incomplete_details: null,
    instructions: request.instructions ?? null, max_output_tokens: null, metadata: request.metadata ?? {},
    model: 'standin', output: ended ? [responseMessage(`msg_${nextId()}`, ANSWER, 'completed')] : [],
    parallel_tool_calls: true, previous_response_id: null, reasoning: { effort: null, summary: null },
    service_tier: 'default', store: true, temperature: 1.0, text: { format: { type: 'text' }, verbosity: 'medium' },
    tool_choice: 'auto', tools: [], top_p: 1.0, truncation: 'disabled', usage: ended ? RESPONSE_USAGE : null,
  };
}

function responseMessage(id, text, status) {
  const content = text === '' ? [] : [{ type: 'output_text', annotations: [], logprobs: [], text }];
  return { id, type: 'message', status, role: 'assistant', content };
}

const chatObject = () => ({
  id: `chatcmpl-${nextId()}`, object: 'chat.completion', created: seconds(), model: 'standin',
  choices: [{
    index: 0, message: { role: 'assistant', content: ANSWER, refusal: null, annotations: [] }, logprobs: null,
    finish_reason: 'stop',
  }],
  usage: CHAT_USAGE, service_tier: 'default', system_fingerprint: null,
});

function stream(events, response) {
  const { opening, deltas, closing, end } = events;
  response.writeHead(200, { 'content-type': 'text/event-stream; charset=utf-8', 'cache-control': 'no-cache' });
  if (LATENCY_MS === 0 && GAP_MS === 0) {
    response.end(opening + deltas.join('') + closing + end);
    return;
  }
  response.write(opening);
  if (GAP_MS === 0) {
    setTimeout(() => response.end(deltas.join('') + closing + end), latencyMs());
    return;
  }
  const rest = [...deltas, closing];
  let sent = 0;
  const sendNext = () => {
    if (sent === rest.length) response.end(end);
    else {
      response.write(rest[sent++]);
      setTimeout(sendNext, GAP_MS);
    }
  };
  setTimeout(sendNext, latencyMs());
}

function sendJson(response, status, body, headers = {}) {
  const text = JSON.stringify(body);
  response.writeHead(status, {
    'content-type': 'application/json', 'content-length': Buffer.byteLength(text), ...headers,
  });
  response.end(text);
}

/** Milliseconds until the limit lets another request pass, 0 if it passes now (and is then counted). */
function waitForLimit(now) {
  if (!MAX_REQUESTS_PER_MINUTE) return 0;
  while (oldestAccepted < accepted.length && accepted[oldestAccepted] <= now - WINDOW_MS) oldestAccepted++;
  if (accepted.length - oldestAccepted >= MAX_REQUESTS_PER_MINUTE) return accepted[oldestAccepted] + WINDOW_MS - now;
  accepted.push(now);
  return 0;
}

/** The most arrivals in any interval of this length, whatever its start. */
function mostWithin(intervalMs) {
  let most = 0;
  for (let first = 0, last = 0; last < arrivals.length; last++) {
    while (arrivals[last] - arrivals[first] >= intervalMs) first++;
    most = Math.max(most, last - first + 1);
  }
  return most;
}

function stats() {
  const perSecond = [];
  for (const arrival of arrivals) {
    const second = Math.floor((arrival - arrivals[0]) / 1000);
    perSecond[second] = (perSecond[second] ?? 0) + 1;
  }
  return {
    requests: arrivals.length, refused, most_in_flight: mostInFlight, connections,
    by_kind: Object.fromEntries(byKind), per_second: Array.from(perSecond, (count) => count ?? 0),
    most_in_any_second: mostWithin(1_000), most_in_any_minute: mostWithin(WINDOW_MS),
  };
}

function restart() {
  [byKind, arrivals, accepted] = [new Map(), [], []];
  [refused, oldestAccepted, mostInFlight, connections] = [0, 0, 0, 0];
}

function answer(kind, parts, request, response) {
  const [, threadId] = parts;
  switch (kind) {
    case 'POST /assistants':
      return sendJson(response, 200, {
        id: 'asst_standin', object: 'assistant', created_at: seconds(), name: request.name ?? null,
        description: null, model: request.model, instructions: request.instructions ?? null, tools: [],
        tool_resources: {}, metadata: request.metadata ?? {}, temperature: 1.0, top_p: 1.0, response_format: 'auto',
      });
    case 'GET /assistants/{}':
      return sendJson(response, 200, {
        id: 'asst_standin', object: 'assistant', created_at: seconds(), name: null, description: null, model: 'standin',
        instructions: null, tools: [], tool_resources: {}, metadata: {}, temperature: 1.0, top_p: 1.0,
        response_format: 'auto',
      });
    case 'POST /threads':
      return sendJson(response, 200, threadObject(`thread_${nextId()}`, request.metadata));
    case 'POST /threads/runs':
      if (request.stream) return stream(eventsOf(request), response);
      return sendJson(response, 200, runObject(newRunId(), `thread_${nextId()}`, request, 'queued'));
    case 'POST /threads/{}/messages':
      contents.set(threadId, request.content);
      return sendJson(response, 200, messageObject(`msg_${nextId()}`, threadId, null, 'user', request.content));
    case 'POST /threads/{}/runs':
      return sendJson(response, 200, runObject(newRunId(), threadId, request, 'queued'));
    case 'GET /threads/{}/runs/{}': {
      const endsAt = parseInt(parts[3].split('_')[2], 36);
      return sendJson(response, 200,
        runObject(parts[3], threadId, {}, Date.now() >= endsAt ? 'completed' : 'in_progress'));
    }
    case 'GET /threads/{}/messages': {
      const data = [
        messageObject(`msg_${nextId()}`, threadId, null, 'user', contents.get(threadId) ?? ''),
        messageObject(`msg_${nextId()}`, threadId, null, 'assistant', ANSWER),
      ];
      return sendJson(response, 200,
        { object: 'list', data, first_id: data[0].id, last_id: data[1].id, has_more: false });
    }
    case 'POST /responses':
      if (request.stream) return stream(responseEvents(request), response);
      return void setTimeout(
        () => sendJson(response, 200, responseObject(`resp_${nextId()}`, request, 'completed')), latencyMs());
    case 'POST /chat/completions':
      if (request.stream) return stream(chatEvents(request), response);
      return void setTimeout(() => sendJson(response, 200, chatObject()), latencyMs());
    case 'POST /conversations':
      return sendJson(response, 200, {
        id: `conv_${nextId()}`, object: 'conversation', created_at: seconds(), metadata: request.metadata ?? {} });
    default:
      return sendJson(response, 404, { error: {
        message: `Unknown request: ${kind}`, type: 'invalid_request_error', param: null, code: null } });
  }
}

/** The moment of a run's end is in its id, streamed or not, so that nothing has to be kept. */
const newRunId = () => `run_${nextId()}_${Math.round(Date.now() + latencyMs()).toString(36)}`;

/** ['threads', 'thread_1', 'messages'] → '/threads/{}/messages' */
const kindOf = (method, parts) =>
  `${method} /${parts.map((part) => (/^(thread|run|asst)_/.test(part) ? '{}' : part)).join('/')}`;

const server = http.createServer((incoming, response) => {
  const path = incoming.url.split('?', 1)[0];
  if (path === '/stats') {
    if (incoming.method === 'POST') restart();
    return sendJson(response, 200, stats());
  }
  const now = performance.now();
  const parts = path.replace(/^\/v1\//, '').split('/');
  const kind = kindOf(incoming.method, parts);
  arrivals.push(now);
  byKind.set(kind, (byKind.get(kind) ?? 0) + 1);
  mostInFlight = Math.max(mostInFlight, ++inFlight);
  response.on('close', () => { inFlight--; });
  const chunks = [];
  incoming.on('data', (chunk) => chunks.push(chunk));
  incoming.on('end', () => {
    const waitMs = waitForLimit(now);
    if (waitMs > 0) {
      refused++;
      return sendJson(response, 429, { error: {
        message: "You've exceeded the rate limit, please slow down and try again later.",
        type: 'invalid_request_error', param: null, code: 'rate_limit_exceeded',
      } }, { 'retry-after': String(Math.ceil(waitMs / 1000)) });
    }
    return answer(kind, parts, chunks.length ? JSON.parse(Buffer.concat(chunks).toString()) : {}, response);
  });
});
// Longer than any pause of a client between two requests, so that no kept connection closes under one.
server.keepAliveTimeout = 120_000;
server.on('connection', () => { connections++; });
server.listen(Number(options.port), '127.0.0.1', 4_096, () => {
  console.log(`http://127.0.0.1:${server.address().port}/v1`);
});
