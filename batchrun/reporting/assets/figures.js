// -- the figures of some rows, in the form of page_facts.py and by the rules of facts.py, fields and scores -----------

const WITHOUT_ANSWER = ["failed", "expired", "cancelled"];
const UNFINISHED = ["in_flight", "pending"];
const MEASURES = { prompt_tokens: "tokens", completion_tokens: "tokens", cost_usd: "USD", duration_s: "s" };
const LEAST_DIFFERENT_TEXTS = 50;
const VALUE_BARS = 12;
const FIELD_GROUPS = 40;
const SCORE_BANDS = 5;
const BAND_ROWS = 10;
const MOST_LABELS = 20;
const OTHER_LABELS = 6;

// A cell as text, as a table of text has it.
const labelOf = (cell) => (cell === null || cell === undefined ? "" : String(cell));

function counted(texts) {
  const counts = new Map();
  for (const text of texts) counts.set(text, (counts.get(text) ?? 0) + 1);
  return counts;
}

const mostFrequent = (counts, most = Infinity) => [...counts].sort(([, one], [, other]) => other - one).slice(0, most);

// Cells of a row by the keys of batchrun's columns; null if the table lacks the column.
class OutputCells {
  constructor(rows) {
    this.places = new Map(rows.columns.flatMap(({ role, key }, index) => (role === "output" ? [[key, index]] : [])));
  }

  of(row, key) {
    const place = this.places.get(key);
    return place === undefined ? null : (row.cell(place) ?? null);
  }
}

// The figures of `listed`, which are rows in the table's order. `whole` are the figures of all rows.
const figuresOf = (rows, listed, whole) => Object.fromEntries(figureParts(rows, listed, whole));

// The same one by one, as [name, figures], so that a page with many rows can react between them.
function* figureParts(rows, listed, whole) {
  const cells = new OutputCells(rows);
  yield ["headline", headlineOf(listed, cells)];
  yield ["distributions", Object.entries(MEASURES).flatMap(([column, unit]) => {
    const values = listed.map((row) => cells.of(row, column)).filter((value) => value !== null);
    return values.length === 0 ? [] : [{ column, unit, ...distribution(values, unit === "tokens") }];
  })];
  yield ["sittings", whole.sittings.map((session) => sessionOf(session, listed, cells)).filter((session) => count(session) > 0)];
  yield ["errors", errorsOf(listed, cells)];
  yield ["fields", fieldsOf(rows, listed, cells, whole)];
  if (whole.scores === undefined) return;
  yield ["scores", whole.scores.map((score) => scoreOf(rows, listed, cells, score, whole.without_target[score.scorer]))];
  yield ["score_details", whole.score_details.map((detail) => scoreDetailOf(rows, listed, cells, detail))];
}

function headlineOf(listed, cells) {
  const byStatus = counted(listed.map((row) => cells.of(row, "status")));
  const total = (key) => listed.reduce((found, row) => found + (cells.of(row, key) ?? 0), 0);
  const costs = listed.map((row) => cells.of(row, "cost_usd"));
  const models = counted(listed.map((row) => cells.of(row, "model")).filter(Boolean));
  const isBillable = (row) => cells.of(row, "total_tokens") !== null || ["completed", "incomplete"].includes(cells.of(row, "status"));
  return {
    rows: listed.length - (byStatus.get("skipped") ?? 0),
    by_status: Object.fromEntries(byStatus),
    failed: WITHOUT_ANSWER.reduce((found, status) => found + (byStatus.get(status) ?? 0), 0),
    prompt_tokens: total("prompt_tokens"),
    completion_tokens: total("completion_tokens"),
    tokens_known: listed.some((row) => cells.of(row, "total_tokens") !== null),
    cached_tokens: total("cached_tokens"),
    reasoning_tokens: total("reasoning_tokens"),
    cost_usd: costs.some((cost) => cost !== null) ? total("cost_usd") : null,
    unpriced: listed.filter((row, place) => costs[place] === null && isBillable(row)).length,
    models: Object.fromEntries(mostFrequent(models)),
    busy_s: null, // the time of a batch, not of some of its rows
    started_at: null,
    ended_at: null,
  };
}

// A session's rows and attempts among `listed`, in the session's own bins.
function sessionOf(session, listed, cells) {
  const empty = () => session.ended.map(() => 0);
  const found = { ...session, ended: empty(), failed: empty(), tokens: empty(), tries: session.tries && empty(), refusals: session.refusals && empty() };
  const bin = (text) => {
    const moment = text === null ? NaN : Date.parse(/[zZ]|[+-]\d\d:?\d\d$/.test(text) ? text : `${text}Z`) / 1000;
    const place = Math.floor((moment - session.origin_s) / session.bin_s);
    return place >= 0 && place < found.ended.length ? place : null;
  };
  for (const row of listed) {
    const place = bin(cells.of(row, "completed_at"));
    if (place !== null) {
      found.ended[place] += 1;
      found.failed[place] += WITHOUT_ANSWER.includes(cells.of(row, "status")) ? 1 : 0;
      found.tokens[place] += cells.of(row, "total_tokens") || (cells.of(row, "prompt_tokens") ?? 0) + (cells.of(row, "completion_tokens") ?? 0);
    }
    for (const attempt of found.tries === null ? [] : (row.t ?? [])) {
      const began = bin(attempt[1]);
      if (began === null) continue;
      found.tries[began] += 1;
      found.refusals[began] += attempt[4] === "rate_limit_exceeded" ? 1 : 0;
    }
  }
  return found;
}

function errorsOf(listed, cells) {
  const kinds = new Map();
  const add = (kind, count, example) => {
    const found = kinds.get(kind) ?? { error_type: kind, rows: 0, cut_short: 0, tries: 0, example: "" };
    found[count] += 1;
    found.example ||= (example ?? "").slice(0, 500);
    kinds.set(kind, found);
  };
  let hasAttempts = false;
  for (const row of listed) {
    const status = cells.of(row, "status");
    if (WITHOUT_ANSWER.includes(status)) add(cells.of(row, "error_type") || status, "rows", cells.of(row, "error"));
    else if (status === "incomplete") add(cells.of(row, "error_type") || "incomplete", "cut_short", cells.of(row, "error"));
    for (const attempt of row.t ?? []) {
      hasAttempts = true;
      if (attempt[4] !== null) add(attempt[4], "tries", attempt[5]);
    }
  }
  const order = (one, other) => other.rows - one.rows || other.cut_short - one.cut_short || other.tries - one.tries || (one.error_type < other.error_type ? -1 : 1);
  return [...kinds.values()].sort(order).map((each) => (hasAttempts ? each : { ...each, tries: null }));
}

// -- scores

function scoreOf(rows, listed, cells, whole, withoutTarget) {
  const index = rows.column("score", whole.scorer);
  const wrong = new Set(whole.failed_as === "wrong" ? WITHOUT_ANSWER : []);
  const unjudgeable = new Set(withoutTarget);
  const value = (row) => (wrong.has(cells.of(row, "status")) && !unjudgeable.has(row.i) ? 0 : row.cell(index));
  const figures = (some) => {
    const scored = some.map((row) => [row, value(row)]).filter(([, score]) => !MISSING(score));
    const statuses = some.map((row) => cells.of(row, "status"));
    const skipped = statuses.filter((status) => status === "skipped").length;
    const isAnswered = (status) => ![...WITHOUT_ANSWER, ...UNFINISHED, "skipped"].includes(status);
    const clusters = scored.length > 0 && scored[0][0].g !== null ? scored.map(([row]) => row.g) : null;
    return {
      ...estimate(scored.map(([, score]) => score), clusters),
      rows: some.length - skipped,
      skipped,
      cut_short: scored.filter(([row]) => cells.of(row, "status") === "incomplete").length,
      failed_without_target: some.filter((row) => unjudgeable.has(row.i)).length,
      failed: statuses.filter((status) => WITHOUT_ANSWER.includes(status)).length,
      unfinished: statuses.filter((status) => UNFINISHED.includes(status)).length,
      unjudged: some.filter((row, place) => isAnswered(statuses[place]) && MISSING(row.cell(index))).length,
    };
  };
  const groups = Object.keys(whole.groups).map((column) => {
    const place = rows.columns.findIndex(({ name }) => name === column);
    const labels = new Map();
    for (const row of listed) {
      const label = labelOf(row.cell(place));
      if (!labels.has(label)) labels.set(label, []);
      labels.get(label).push(row);
    }
    const asked = [...labels].filter(([, some]) => some.some((row) => cells.of(row, "status") !== "skipped"));
    return [column, Object.fromEntries(asked.map(([label, some]) => [label, figures(some)]))];
  });
  return { scorer: whole.scorer, failed_as: whole.failed_as, ...figures(listed), groups: Object.fromEntries(groups), unjudged_reasons: {}, has_epochs: whole.epochs !== undefined };
}

function scoreDetailOf(rows, listed, cells, whole) {
  const index = rows.column("score", whole.scorer);
  const scores = listed.map((row) => row.cell(index));
  const values = scores.filter((value) => !MISSING(value));
  const length = listed.some((row) => cells.of(row, "completion_tokens") !== null) ? "completion_tokens" : "characters";
  const characters = (row) => (cells.of(row, "response") === null ? null : [...cells.of(row, "response")].length);
  const by = [length, "cost_usd"].map((measure) => ({
    measure,
    bands: bandsOf(scores, listed.map((row) => (measure === "characters" ? characters(row) : cells.of(row, measure)))),
  }));
  return {
    scorer: whole.scorer,
    bars: values.some((value) => value > 0 && value < 1) ? distribution(values) : null,
    by: by.filter(({ bands }) => bands.length > 1),
    confusion: whole.confusion === null ? null : confusionOf(listed.map((row) => row.labels(whole.scorer)).filter((pair) => pair !== null)),
  };
}

function bandsOf(scores, amounts) {
  const pairs = amounts.map((amount, place) => [amount, scores[place]]).filter(([amount, score]) => amount !== null && !MISSING(score));
  pairs.sort(([one], [other]) => one - other);
  const bands = [];
  let begin = 0;
  const most = Math.min(SCORE_BANDS, Math.floor(pairs.length / BAND_ROWS));
  for (let band = 1; band <= most; band += 1) {
    let end = Math.floor((pairs.length * band) / most);
    while (end > 0 && end < pairs.length && pairs[end][0] === pairs[end - 1][0]) end += 1;
    if (end <= begin) continue;
    const some = pairs.slice(begin, end);
    bands.push({ least: some[0][0], most: some.at(-1)[0], ...estimate(some.map(([, score]) => score)) });
    begin = end;
  }
  return bands;
}

function confusionOf(pairs) {
  const expected = [...new Set(pairs.map(([label]) => label))].sort();
  if (expected.length < 2 || expected.length > MOST_LABELS || expected.length > pairs.length / 2) return null;
  const others = counted(pairs.map(([, given]) => given).filter((given) => given !== null && !expected.includes(given)));
  const given = [...expected, ...mostFrequent(others, OTHER_LABELS).map(([label]) => label)];
  const place = new Map(given.map((label, index) => [label, index]));
  const counts = expected.map(() => new Array(given.length + 2).fill(0));
  for (const [label, found] of pairs) counts[place.get(label)][found === null ? given.length + 1 : (place.get(found) ?? given.length)] += 1;
  return { expected, given, counts };
}

// -- fields of answers

function fieldsOf(rows, listed, cells, whole) {
  const answered = listed.filter((row) => ![...WITHOUT_ANSWER, ...UNFINISHED, "skipped"].includes(cells.of(row, "status")));
  const by = Object.keys(whole.scores?.[0]?.groups ?? {});
  const groups = rows.columns.map(({ name }, index) => ({ name, index })).filter(({ name }) => name.startsWith("axis_") || by.includes(name));
  return rows.columns.flatMap((column, index) => (column.role === "field" ? [fieldOf(answered, column, index, groups)] : []));
}

const NUMBER_TEXT = /^[ \t]*[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?[ \t]*$/;
const isNumeric = (cell) => typeof cell === "number" || (typeof cell === "string" && NUMBER_TEXT.test(cell));

function fieldOf(answered, column, index, groups) {
  const held = answered.filter((row) => !MISSING(row.cell(index)));
  const facts = { column: column.name, kind: "none", n: held.length, missing: answered.length - held.length, different: 0, values: [], distribution: null, groups: [] };
  if (held.length === 0) return facts;
  if (held.every((row) => isNumeric(row.cell(index)))) {
    const numbers = held.map((row) => Number(row.cell(index)));
    return {
      ...facts, kind: "numbers", different: new Set(numbers).size, distribution: distribution(numbers, numbers.every(Number.isInteger)),
      groups: groups.flatMap((group) => fieldGroups(held, numbers, group)),
    };
  }
  const counts = counted(held.map((row) => labelOf(row.cell(index))));
  const isText = counts.size > LEAST_DIFFERENT_TEXTS || (counts.size > VALUE_BARS && 2 * counts.size > held.length);
  return { ...facts, kind: isText ? "texts" : "values", different: counts.size, values: isText ? [] : mostFrequent(counts, VALUE_BARS) };
}

function fieldGroups(held, numbers, group) {
  const members = new Map();
  held.forEach((row, place) => {
    const label = labelOf(row.cell(group.index));
    if (!members.has(label)) members.set(label, []);
    members.get(label).push(numbers[place]);
  });
  if (members.size < 2) return [];
  const largest = [...members].sort(([, one], [, other]) => other.length - one.length).slice(0, FIELD_GROUPS);
  return largest.map(([label, values]) => {
    const sorted = Float64Array.from(values).sort();
    const [p10, p50, p90] = [0.1, 0.5, 0.9].map((share) => quantile(sorted, share));
    return { column: group.name, label, n: values.length, mean: sum(values) / values.length, p10, p50, p90 };
  });
}
