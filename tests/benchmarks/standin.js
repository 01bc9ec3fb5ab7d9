// A stand-in for a service of the Assistants protocol, fast enough not to be the bottleneck of a benchmark.
//
//   node tests/benchmarks/standin.js [--port 0] [--latency-ms 50] [--deltas 20] [--gap-ms 0] [--rpm 0]
//
// Prints the URL to give as base_url, then serves until it is stopped. Node's http module and nothing else.
//
//   POST /v1/assistants                            POST /v1/threads                   POST /v1/threads/{t}/messages
//   POST /v1/threads/runs (streamed or not)        POST /v1/threads/{t}/runs          GET  /v1/threads/{t}/runs/{r}
//   GET  /v1/threads/{t}/messages                  GET  /stats                        POST /stats (starts anew)
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
  const [threadId, runId] = [`thread_${nextId()}`, `run_${nextId()}`];
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
  return { opening, deltas, closing };
}

function stream(request, response) {
  const { opening, deltas, closing } = eventsOf(request);
  response.writeHead(200, { 'content-type': 'text/event-stream; charset=utf-8', 'cache-control': 'no-cache' });
  if (LATENCY_MS === 0 && GAP_MS === 0) {
    response.end(opening + deltas.join('') + closing + DONE);
    return;
  }
  response.write(opening);
  if (GAP_MS === 0) {
    setTimeout(() => response.end(deltas.join('') + closing + DONE), latencyMs());
    return;
  }
  const rest = [...deltas, closing];
  let sent = 0;
  const sendNext = () => {
    if (sent === rest.length) response.end(DONE);
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
    case 'POST /threads':
      return sendJson(response, 200, threadObject(`thread_${nextId()}`, request.metadata));
    case 'POST /threads/runs':
      if (request.stream) return stream(request, response);
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
    default:
      return sendJson(response, 404, { error: {
        message: `Unknown request: ${kind}`, type: 'invalid_request_error', param: null, code: null } });
  }
}

/** The moment of the run's end stands in its id, so that nothing has to be kept. */
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
