// A stand-in for a Chat Completions service of limited capacity: queues, batches, limits and outages as real ones have.
//
//   node tests/benchmarks/capacity.js [--port 0] [--work-ms 100] [--spread 0.5] [--slots 0] [--speed 4:4,8:5]
//                                     [--cuts 0] [--allowed 0 --window-ms 60000] [--outage-after 0 --outage-ms 0]
//
// Prints the URL to give as base_url, then serves until it is stopped. Node's http module and nothing else.
//
//   POST /v1/chat/completions     GET /stats     POST /stats (then resets)
//
// A request is work: so many milliseconds of a service that has nothing else to do, evenly between (1 - spread) and
// (1 + spread) times --work-ms, the same numbers in each run. Of the requests that are there, --slots are worked on
// (0: all), the others wait in order. What is worked on together shares the speed of --speed: pairs `requests:speed`,
// straight lines between them, flat after the last; before the first, and without the option, each has the whole of it.
// So `--slots 1` is llama.cpp with one slot, `--speed 4:4,8:5` a batching engine, `--speed 16:16,64:4` one that
// thrashes. A request whose client leaves is dropped.
//
// With --cuts 1 it does as the server of llama-cpp-python: one request at a time, and a stream that runs while another
// request waits ends after its next delta, with [DONE] and without a finish reason.
// With --allowed N no more than N requests pass in any window (a sliding one, exact); the others get 429 without
// Retry-After. With --outage-after N it refuses connections for --outage-ms once N requests are answered.
'use strict';
const http = require('node:http');
const { parseArgs } = require('node:util');

const { values } = parseArgs({
  options: Object.fromEntries(
    ['port', 'work-ms', 'spread', 'slots', 'speed', 'cuts', 'allowed', 'window-ms', 'outage-after', 'outage-ms'].map(
      (name) => [name, { type: 'string' }])),
});
const number = (name, otherwise) => Number(values[name] ?? otherwise);
const WORK_MS = number('work-ms', 100);
const SPREAD = number('spread', 0.5);
const SLOTS = number('slots', 0) || Infinity;
const CUTS = number('cuts', 0) === 1;
const ALLOWED = number('allowed', 0);
const WINDOW_MS = number('window-ms', 60_000);
const OUTAGE_AFTER = number('outage-after', 0);
const OUTAGE_MS = number('outage-ms', 0);
const SPEED = (values.speed ?? '').split(',').filter(Boolean).map((pair) => pair.split(':').map(Number));
const DELTAS = 10;

// All mutable state: what is worked on (by the moment of its end on the service's own clock), what waits, that clock,
// the stream that may be cut, the window of the limit, whether the outage is over, the random numbers, the counts.
let working = [];
let waiting = [];
let clock = 0;
let clockReadAt = 0;
let timer = null;
let streaming = null;
let passed = [];
let outageDone = false;
let seed = 1;
let counts;

function startAnew() {
  seed = 1;
  outageDone = false;
  passed = [];
  counts = {
    requests: 0, answered: 0, refused: 0, cut: 0, abandoned: 0, in_flight: 0, most_in_flight: 0,
    first_at_ms: null, last_at_ms: null,
  };
}
startAnew();

/** mulberry32 */
function random() {
  seed = (seed + 0x6d2b79f5) | 0;
  let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
  t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
  return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
}
const workMs = () => WORK_MS * (1 - SPREAD + 2 * SPREAD * random());

/** What a service does with `count` requests at once, in requests worked on at full speed. */
function speedOf(count) {
  if (SPEED.length === 0 || count <= SPEED[0][0]) return count;
  for (let index = 1; index < SPEED.length; index++) {
    const [[fromCount, from], [toCount, to]] = [SPEED[index - 1], SPEED[index]];
    if (count <= toCount) return from + ((to - from) * (count - fromCount)) / (toCount - fromCount);
  }
  return SPEED[SPEED.length - 1][1];
}

// -- requests that share the speed: all that are worked on go equally fast, so one clock is enough ---------------

const paceOf = () => speedOf(working.length) / working.length;

function readClock() {
  const now = performance.now();
  if (working.length > 0) clock += (now - clockReadAt) * paceOf();
  clockReadAt = now;
}

function schedule() {
  clearTimeout(timer);
  while (waiting.length > 0 && working.length < SLOTS) {
    const job = waiting.shift();
    job.endsAt = clock + job.workMs;
    const place = working.findIndex((other) => other.endsAt > job.endsAt);
    working.splice(place === -1 ? working.length : place, 0, job);
  }
  if (working.length > 0) timer = setTimeout(proceed, Math.max(0, (working[0].endsAt - clock) / paceOf()));
}

function proceed() {
  readClock();
  while (working.length > 0 && working[0].endsAt <= clock + 0.5) {
    const { request, response } = working.shift();
    if (request.stream) response.end(chunks(request).join(''));
    else sendJson(response, 200, completion());
    answered();
  }
  schedule();
}

function enqueue(job) {
  readClock();
  waiting.push(job);
  schedule();
}

function drop(job) {
  readClock();
  working = working.filter((other) => other !== job);
  waiting = waiting.filter((other) => other !== job);
  schedule();
}

// -- one stream at a time, cut by the request that comes next ----------------------------------------------------

function next() {
  if (streaming !== null || waiting.length === 0) return;
  streaming = waiting.shift();
  const { request, response } = streaming;
  const events = request.stream ? chunks(request) : [];
  let sent = 0;
  const proceedStream = () => {
    if (request.stream && sent > 0 && waiting.length > 0 && sent <= DELTAS) {
      counts.cut++;
      response.end('data: [DONE]\n\n');
    } else if (sent < DELTAS) {
      if (request.stream) response.write(events[sent]);
      sent++;
      timer = setTimeout(proceedStream, streaming.workMs / DELTAS);
      return;
    } else {
      if (request.stream) response.end(events.slice(sent).join(''));
      else sendJson(response, 200, completion());
      answered();
    }
    streaming = null;
    next();
  };
  timer = setTimeout(proceedStream, streaming.workMs / DELTAS);
}

function dropStream(job) {
  waiting = waiting.filter((other) => other !== job);
  if (streaming === job) {
    clearTimeout(timer);
    streaming = null;
    next();
  }
}

// -- the protocol ------------------------------------------------------------------------------------------------

const WORDS = Array.from({ length: DELTAS }, (_, position) => `word${position} `);
const USAGE = { prompt_tokens: 42, completion_tokens: DELTAS, total_tokens: 42 + DELTAS };
let lastId = 0;

const completion = () => ({
  id: `chatcmpl-${++lastId}`, object: 'chat.completion', created: Math.floor(Date.now() / 1000), model: 'capacity',
  choices: [{
    index: 0, message: { role: 'assistant', content: WORDS.join('').trimEnd() }, logprobs: null, finish_reason: 'stop',
  }],
  usage: USAGE,
});

/** The events of a stream: one for each delta, then the finish reason, the usage and the end. */
function chunks(request) {
  const head = {
    id: `chatcmpl-${++lastId}`, object: 'chat.completion.chunk', created: Math.floor(Date.now() / 1000),
    model: 'capacity',
  };
  const event = (choices, usage) => `data: ${JSON.stringify({ ...head, choices, ...usage })}\n\n`;
  const deltas = WORDS.map((content) => event([{ index: 0, delta: { content }, finish_reason: null }]));
  const usage = request.stream_options?.include_usage ? [event([], { usage: USAGE })] : [];
  return [...deltas, event([{ index: 0, delta: {}, finish_reason: 'stop' }]), ...usage, 'data: [DONE]\n\n'];
}

function sendJson(response, status, body) {
  const text = JSON.stringify(body);
  response.writeHead(status, { 'content-type': 'application/json', 'content-length': Buffer.byteLength(text) });
  response.end(text);
}

function answered() {
  counts.answered++;
  counts.last_at_ms = performance.now();
  if (OUTAGE_AFTER && !outageDone && counts.answered >= OUTAGE_AFTER) {
    outageDone = true;
    const { port } = server.address();
    server.close();
    setImmediate(() => server.closeAllConnections());
    setTimeout(() => server.listen(port, '127.0.0.1', 4_096), OUTAGE_MS);
  }
}

/** Whether the limit lets a request pass, which is then counted. */
function passes(now) {
  if (!ALLOWED) return true;
  while (passed.length > 0 && passed[0] <= now - WINDOW_MS) passed.shift();
  if (passed.length >= ALLOWED) return false;
  passed.push(now);
  return true;
}

function accept(request, response) {
  const now = performance.now();
  counts.first_at_ms ??= now;
  counts.requests++;
  counts.most_in_flight = Math.max(counts.most_in_flight, ++counts.in_flight);
  const job = { request, response, workMs: workMs() };
  response.on('close', () => {
    counts.in_flight--;
    if (response.writableEnded) return;
    counts.abandoned++;
    if (CUTS) dropStream(job);
    else drop(job);
  });
  if (!passes(now)) {
    counts.refused++;
    return sendJson(response, 429, { error: {
      message: 'Rate limit reached: too many requests.', type: 'requests', param: null, code: 'rate_limit_exceeded',
    } });
  }
  if (request.stream) {
    response.writeHead(200, { 'content-type': 'text/event-stream; charset=utf-8', 'cache-control': 'no-cache' });
    response.flushHeaders();
  }
  if (!CUTS) return enqueue(job);
  waiting.push(job);
  return next();
}

const server = http.createServer((incoming, response) => {
  if (incoming.url === '/stats') {
    if (incoming.method === 'POST') startAnew();
    return sendJson(response, 200, counts);
  }
  const parts = [];
  incoming.on('data', (part) => parts.push(part));
  incoming.on('end', () => accept(JSON.parse(Buffer.concat(parts).toString()), response));
});
// Longer than any pause of a client between two requests, so that no kept connection closes under one.
server.keepAliveTimeout = 120_000;
server.listen(number('port', 0), '127.0.0.1', 4_096, () => {
  console.log(`http://127.0.0.1:${server.address().port}/v1`);
});
