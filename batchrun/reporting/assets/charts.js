// -- charts: Observable Plot, in the colours of the style sheet -----------------------------------------------------

const CHART_TITLES = {
  prompt_tokens: "Prompt tokens",
  completion_tokens: "Completion tokens",
  cost_usd: "Cost of a row",
  duration_s: "Latency",
};

// A figure that redraws its chart when its width changes.
function chartFigure(title, note, summary, draw) {
  const place = el("div", { class: "chart-place" });
  const figure = el("figure", {}, el("figcaption", {}, el("h3", { text: title }), note), place);
  let width = 0;
  const show = () => {
    const chart = draw(width);
    chart.setAttribute("role", "img");
    chart.setAttribute("aria-label", summary);
    place.replaceChildren(chart);
  };
  new ResizeObserver(() => {
    if (Math.abs(place.clientWidth - width) < 8 || place.clientWidth === 0) return;
    width = place.clientWidth;
    setTimeout(show); // after the rest of the page is visible
  }).observe(place);
  return figure;
}

function plotted(width, height, marks, scales) {
  return vendor.plot({ className: "chart", width, height, marginLeft: 44, marginRight: 12, marginTop: 22, marginBottom: 28, ...scales, marks });
}

// A histogram with its quantiles.
function histogram(facts, { title, show, tick, notes = [] }) {
  const bars = facts.bars.map(([from, to, count]) => ({ from, to, count }));
  const quantiles = [["p50", facts.p50], ["p90", facts.p90], ["p99", facts.p99]].map(([name, value]) => ({ name, value }));
  const named = [...notes.map(([name, value]) => ({ name, value })), ...quantiles];
  const note = el("p", { class: "quantiles" }, named.map(({ name, value }) => el("span", {}, el("b", { text: name }), ` ${show(value)}`)));
  const summary = `${title} of ${format.many(facts.n, "row")}: median ${show(facts.p50)}, 90th percentile ${show(facts.p90)}, 99th ${show(facts.p99)}`;
  const last = facts.bars.at(-1)[1];
  const figure = chartFigure(title, note, summary, (width) => {
    const inSight = quantiles.filter(({ value }) => value <= last);
    return plotted(width, 170, [
      vendor.rectY(bars, {
        x1: "from", x2: "to", y: "count", fill: "var(--bar)", insetLeft: 0.5, insetRight: 0.5,
        tip: { format: { x: false, y: false }, fontSize: 12 },
        title: ({ from, to, count }) => `${show(from)} to ${show(to)}\n${format.many(count, "row")}`,
      }),
      vendor.ruleY([0], { stroke: "var(--line)" }),
      vendor.ruleX(inSight, { x: "value", stroke: "var(--mark)", strokeDasharray: "2 3" }),
      vendor.text(spread(inSight, facts.bars[0][0], last, width), { x: "value", text: "name", frameAnchor: "top", dy: -14, fill: "var(--muted)", fontSize: 11 }),
    ], {
      x: { label: null, tickFormat: tick, ticks: Math.max(3, Math.floor(width / 90)), domain: [facts.bars[0][0], last] },
      y: { label: null, ticks: 3, tickFormat: (value) => (Number.isInteger(value) ? format.short(value) : ""), grid: true },
    });
  });
  const beyond = facts.beyond > 0 ? `${format.many(facts.beyond, "row")} above ${show(last)}, up to ${show(facts.max)}.` : null;
  if (beyond !== null) figure.append(el("p", { class: "aside", text: beyond }));
  return figure;
}

const measured = (facts) => histogram(facts, { title: CHART_TITLES[facts.column], show: format.measure(facts.unit), tick: format.tick(facts.unit) });

// Labels that would overlap are left out, the middle ones first.
function spread(marks, low, high, width) {
  const taken = [];
  const px = (value) => ((value - low) / (high - low || 1)) * (width - 56);
  for (const mark of [marks[0], marks.at(-1), ...marks.slice(1, -1)]) {
    if (mark !== undefined && !taken.some((other) => other === mark || Math.abs(px(other.value) - px(mark.value)) < 26)) taken.push(mark);
  }
  return taken;
}

const OVER_TIME = {
  ended: { title: "Rows per minute", limit: null },
  tries: { title: "Attempts per minute", limit: "rpm" },
  tokens: { title: "Tokens per minute", limit: "tpm" },
};

function overTime(session, measure, limits) {
  const { title, limit } = OVER_TIME[measure];
  const perMinute = 60 / session.bin_s;
  const points = [];
  session[measure].forEach((count, index) => {
    const at = new Date((session.origin_s + index * session.bin_s) * 1000);
    const until = new Date((session.origin_s + (index + 1) * session.bin_s) * 1000);
    points.push({ at, until, rate: count * perMinute, failed: session.failed[index], refused: session.refusals?.[index] ?? 0 });
  });
  const bound = limit === null ? null : (limits?.[limit] ?? null);
  const most = points.reduce((largest, { rate }) => Math.max(largest, rate), 0);
  const notes = [`maximum ${format.short(most)}`];
  if (bound !== null) notes.push(`limit ${format.short(bound)}`);
  const refusals = points.filter(({ refused }) => refused > 0);
  if (measure !== "tokens" && refusals.length > 0) notes.push(`${format.many(refusals.reduce((sum, { refused }) => sum + refused, 0), "refusal")} (429)`);
  const coolDowns = (session.cool_downs ?? []).map(([from, until, reason]) => ({ from: new Date(from * 1000), until: new Date(until * 1000), seconds: until - from, reason }));
  if (coolDowns.length > 0) notes.push(`${format.many(coolDowns.length, "cool-down")}, ${format.seconds(coolDowns.reduce((sum, { seconds }) => sum + seconds, 0))}`);
  const cooling = ({ at, until }) => coolDowns.filter((each) => each.from < until && each.until > at);
  const clock = (moment) => moment.toISOString().slice(11, session.bin_s < 60 ? 19 : 16);
  const days = session.ended_s - session.started_s > 86_400;
  const tick = (moment) => (days ? moment.toISOString().slice(5, 16).replace("T", " ") : clock(moment));
  return chartFigure(title, el("p", { class: "quantiles" }, notes.map((text) => el("span", { text }))), `${title}, ${notes.join(", ")}`, (width) => {
    const marks = [
      // At least two pixels wide, however long the session.
      vendor.rectX(coolDowns, { x1: "from", x2: (each) => new Date(Math.max(each.until, each.from.getTime() + (2 * (session.ended_s - session.started_s) * 1000) / width)), fill: "var(--cool)", pointerEvents: "none" }),
      vendor.rectY(points, {
        x1: "at", x2: "until", y: "rate", fill: "var(--bar)", insetLeft: 0.25, insetRight: 0.25,
        tip: { format: { x: false, y: false }, fontSize: 12 },
        title: (point) => [
          `${clock(point.at)} to ${clock(point.until)} UTC`, `${format.short(point.rate)} per minute`,
          point.failed > 0 && measure === "ended" ? `${format.many(point.failed, "row")} failed` : "",
          point.refused > 0 ? format.many(point.refused, "refusal") : "",
          ...cooling(point).slice(0, 2).map((each) => `cool-down of ${format.seconds(each.seconds)}: ${each.reason.slice(0, 80)}`),
        ].filter(Boolean).join("\n"),
      }),
      vendor.ruleY([0], { stroke: "var(--line)" }),
    ];
    if (measure === "ended") marks.push(vendor.rectY(points, { x1: "at", x2: "until", y: (point) => point.failed * perMinute, fill: "var(--bad)", insetLeft: 0.25, insetRight: 0.25, pointerEvents: "none" }));
    if (bound !== null && bound < 4 * most) marks.push(vendor.ruleY([bound], { stroke: "var(--mark)", strokeDasharray: "5 3" }));
    if (measure !== "tokens") marks.push(vendor.tickX(refusals, { x: (point) => new Date((point.at.getTime() + point.until.getTime()) / 2), stroke: "var(--warn)", strokeWidth: 2, frameAnchor: "top", insetBottom: 110, y: null }));
    return plotted(width, 170, marks, {
      x: { type: "utc", label: null, ticks: Math.max(2, Math.floor(width / 110)), tickFormat: tick },
      y: { label: null, ticks: 4, tickFormat: (value) => format.short(value), grid: true },
    });
  });
}
