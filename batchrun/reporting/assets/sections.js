// -- everything above the table -------------------------------------------------------------------------------

const title = (text, aside = null) => el("h2", {}, text, aside === null ? null : el("small", { text: ` ${aside}` }));

function pageHead(facts, live) {
  const { batch, headline } = facts;
  const parts = [];
  const models = Object.keys(headline.models);
  if (models.length > 0) parts.push(models.length > 3 ? `${models.slice(0, 3).join(", ")} and ${models.length - 3} more` : models.join(", "));
  else if (batch?.model) parts.push(batch.model);
  if (batch !== null) parts.push(batch.embedded ? "embedded server" : `${batch.api}${batch.base_url ? ` at ${batch.base_url}` : ""}`);
  if (headline.started_at !== null) {
    const sessions = facts.sittings.length > 1 ? `${facts.sittings.length} sessions, ` : "";
    parts.push(`${sessions}${format.moment(headline.started_at)} to ${sameDay(headline.started_at, headline.ended_at)}`);
  }
  return el("header", { class: "page-head" },
    el("p", { class: "eyebrow", text: live ? "batchrun \u00b7 live" : "batchrun \u00b7 report" }),
    el("h1", {}, el("bdi", { text: facts.table })),
    el("p", { class: "about", dir: "auto", text: parts.join(" \u00b7 ") }),
    batch === null ? null : el("p", { class: "ids", text: [batch.batch_id, live ? null : `report made ${format.moment(facts.made_at)}`].filter(Boolean).join(" \u00b7 ") }));
}

function sameDay(from, to) {
  return from.slice(0, 10) === to.slice(0, 10) ? `${to.slice(11, 19)} UTC` : format.moment(to);
}

function card(name, value, notes, extra = null) {
  return el("div", { class: "card" },
    el("h2", { text: name }),
    el("p", { class: "figure" }, value),
    notes.filter(Boolean).map((text) => el("p", { class: "note", text })),
    extra);
}

function cards(facts) {
  const { headline } = facts;
  const statuses = Object.keys(STATUS_WORDS).filter((status) => headline.by_status[status] > 0);
  const others = Object.keys(headline.by_status).filter((status) => !Object.hasOwn(STATUS_WORDS, status));
  const share = (status) => headline.by_status[status] / headline.rows;
  const bar = el("div", { class: "stack", "aria-hidden": "true" }, statuses.map((status) => {
    const part = el("span", { class: statusKind(status) });
    part.style.flexGrow = String(share(status));
    return part;
  }));
  const list = el("ul", { class: "legend" }, [...statuses, ...others.slice(0, 4)].map((status) =>
    el("li", { class: statusKind(status) }, el("span", { class: "dot", "aria-hidden": "true" }), `${format.count(headline.by_status[status])} ${statusWord(status)}`)));
  const found = [card("Rows", format.count(headline.rows), [], [bar, list])];
  for (const score of (facts.scores ?? []).slice(0, 3)) {
    found.push(card(score.scorer, format.percent(score.mean), [
      score.mean === null ? null : `${format.interval(score.low, score.high)} (95${NARROW_SPACE}%)`,
      `${format.many(score.n, "row")} scored`,
      score.failed > 0 ? `${format.count(score.failed)} failed ${score.failed_as === "wrong" ? "count as 0" : "not counted"}` : null,
      score.unjudged > 0 ? `${format.count(score.unjudged)} not judged` : null,
      score.skipped > 0 ? `${format.count(score.skipped)} skipped` : null,
    ]));
  }
  const priced = headline.cost_usd !== null;
  const free = facts.batch?.embedded && !priced;
  const spent = facts.batch?.spent_usd ?? null;
  const ended = ["in_flight", "pending", "skipped"].reduce((rows, status) => rows - (headline.by_status[status] ?? 0), headline.rows);
  found.push(card("Cost", priced ? format.dollars(headline.cost_usd) : free ? "free" : "unknown", [
    priced && headline.unpriced > 0 ? `${format.many(headline.unpriced, "row")} with unknown cost` : null,
    priced && ended > 0 && headline.unpriced === 0 ? `${format.dollars((1000 * headline.cost_usd) / ended)} per 1,000 rows` : null,
    priced && spent !== null && spent > headline.cost_usd * 1.0001 ? `${format.dollars(spent)} including replaced answers` : null,
    facts.batch?.from_cache > 0 ? `${format.many(facts.batch.from_cache, "row")} from the cache` : null,
    free ? "answered by the embedded server" : null,
  ]));
  if (headline.tokens_known) {
    found.push(card("Tokens", format.short(headline.prompt_tokens + headline.completion_tokens), [
      `${format.short(headline.prompt_tokens)} in${headline.cached_tokens > 0 ? `, ${format.short(headline.cached_tokens)} of them cached` : ""}`,
      `${format.short(headline.completion_tokens)} out${headline.reasoning_tokens > 0 ? `, ${format.short(headline.reasoning_tokens)} of them reasoning` : ""}`,
    ]));
  }
  if (headline.busy_s === null && facts.shown !== undefined) {
    const latency = facts.distributions.find((each) => each.column === "duration_s");
    if (latency !== undefined) found.push(card("Latency", format.seconds(latency.p50), ["median row", `${format.seconds(latency.p90)} at p90`]));
  }
  if (headline.busy_s !== null) {
    const cooled = facts.sittings.flatMap((each) => each.cool_downs ?? []);
    const latency = facts.distributions.find((each) => each.column === "duration_s");
    found.push(card("Duration", format.seconds(headline.busy_s), [
      facts.sittings.length > 1 ? `in ${facts.sittings.length} sessions` : null,
      cooled.length > 0 ? `${format.seconds(cooled.reduce((sum, [from, until]) => sum + until - from, 0))} of it in ${format.many(cooled.length, "cool-down")}` : null,
      latency === undefined ? null : `median row ${format.seconds(latency.p50)}`,
      headline.busy_s > 1 ? `${format.number(Math.round((600 * facts.sittings.reduce((sum, each) => sum + each.ended.reduce((one, other) => one + other, 0), 0)) / headline.busy_s) / 10)} rows per minute` : null,
    ]));
  }
  return el("section", { class: "cards", "aria-label": "Headline figures" }, found);
}

// The mark of figures that follow the table's filters.
function selectionBar(selected, onPage, left, reset) {
  return el("div", { class: "selection", role: "status" },
    el("p", {}, el("b", { text: `Figures of ${format.count(selected.shown)} of ${format.many(onPage, "row")}` }), `${left > 0 ? " on this page" : ""}, by the filters of the table${selected.scores?.some((score) => score.has_epochs) ? "; pass@k is shown for all rows only" : ""}`),
    el("button", { type: "button", class: "plain", text: "Show all", onclick: () => { const place = scrollY; reset(); scrollTo(0, place); } }));
}

function notes(facts, left) {
  const lines = [...facts.notes];
  if (left > 0) lines.push(`${format.many(left, "further row")} not on this page; figures cover all rows. --rows N adds rows.`);
  return lines.length === 0 ? null : el("ul", { class: "notes" }, lines.map((text) => el("li", { dir: "auto", text })));
}

// A line from low to high with a dot at the mean, on a track from `from` to `to`.
function intervalTrack(mean, low, high, from, to, zero = null) {
  const percent = (value) => `${(100 * (Math.min(Math.max(value, from), to) - from)) / (to - from)}%`;
  const track = el("span", { class: "track", "aria-hidden": "true" });
  if (zero !== null) {
    const mark = el("span", { class: "zero" });
    mark.style.left = percent(zero);
    track.append(mark);
  }
  if (low !== null && high !== null) {
    const span = el("span", { class: "span" });
    span.style.left = percent(low);
    span.style.right = `calc(100% - ${percent(high)})`;
    track.append(span);
  }
  if (mean !== null) {
    const dot = el("span", { class: "mean" });
    dot.style.left = percent(mean);
    track.append(dot);
  }
  return track;
}

const GROUPS_SHOWN = 40;

function scoreSection(facts) {
  if (!facts.scores?.length) return null;
  const parts = facts.scores.map((score) => {
    const detail = facts.score_details.find(({ scorer }) => scorer === score.scorer);
    const overall = groupLine("all rows", score, "overall");
    const groups = Object.entries(score.groups).map(([column, labels]) => {
      const listed = Object.entries(labels).sort(([, one], [, other]) => other.rows - one.rows);
      return el("tbody", {},
        el("tr", { class: "group-head" }, el("th", { colspan: "5", scope: "rowgroup" }, "by ", el("bdi", { text: column }))),
        listed.slice(0, GROUPS_SHOWN).map(([label, figures]) => groupLine(label === "" ? "(empty)" : label, figures)),
        listed.length > GROUPS_SHOWN ? el("tr", {}, el("td", { colspan: "5", class: "aside", text: `${listed.length - GROUPS_SHOWN} smaller groups not shown` })) : null);
    });
    const reasons = Object.entries(score.unjudged_reasons);
    return el("div", { class: "scorer-block" },
      el("table", { class: "scores" },
        el("caption", {}, el("bdi", { text: score.scorer }), el("span", { class: "axis", "aria-hidden": "true" }, el("i", { text: "0 %" }), el("i", { text: "100 %" }))),
        el("thead", { class: "hidden" }, el("tr", {}, ["Group", "Interval as a chart", "Mean", "95 % interval", "Rows"].map((text) => el("th", { scope: "col", text })))),
        el("tbody", {}, overall),
        groups,
        bandLines(detail)),
      !score.note ? null : el("p", { class: "aside", text: `Interval: ${score.note}` }),
      scoreBars(detail),
      confusionTable(detail?.confusion),
      reasons.length === 0 ? null : el("p", { class: "aside", dir: "auto", text: `Not judged: ${reasons.slice(0, 5).map(([reason, rows]) => `${format.count(rows)} \u00d7 ${reason}`).join(", ")}` }),
      score.epochs === undefined ? null : epochs(score.epochs),
      score.variance === undefined ? null : variance(score.variance));
  });
  return el("section", { class: "score-section" }, title("Scores", "with 95 % confidence intervals"), parts);
}

function groupLine(label, figures, kind = "") {
  const asides = [
    figures.failed > 0 ? `${format.count(figures.failed)} failed` : null,
    figures.unfinished > 0 ? `${format.count(figures.unfinished)} unfinished` : null,
    figures.unjudged > 0 ? `${format.count(figures.unjudged)} not judged` : null,
    figures.cut_short > 0 ? `${format.count(figures.cut_short)} cut short` : null,
    figures.skipped > 0 ? `${format.count(figures.skipped)} skipped` : null,
  ].filter(Boolean);
  return el("tr", { class: kind },
    el("th", { scope: "row", dir: "auto", text: label.slice(0, 120) }),
    el("td", { class: "drawn" }, intervalTrack(figures.mean, figures.low, figures.high, 0, 1)),
    el("td", { class: "mean-text", text: format.percent(figures.mean) }),
    el("td", { class: "range", title: figures.note ?? "", text: format.interval(figures.low, figures.high) }),
    el("td", { class: "n" }, format.many(figures.n, "row"), asides.length > 0 ? el("small", { text: ` ${asides.join(", ")}` }) : null));
}

function variance({ share_between: between, another_epoch: epoch, more_rows: rows }) {
  return el("p", { class: "aside", text: `Variance: ${format.percent(between)} between rows, ${format.percent(1 - between)} between epochs of a row; one more epoch would narrow the interval by ${format.percent(epoch)}, as many requests for new rows by ${format.percent(rows)}` });
}

function epochs(facts) {
  const line = (name, figures) => Object.entries(figures).map(([k, found]) => `${name}${k} ${format.percent(found.mean)}`).join(", ");
  const settings = facts.keys === facts.rows ? "" : facts.keys % facts.rows === 0 ? ` \u00d7 ${format.count(facts.keys / facts.rows)} settings` : ` with several settings, ${format.count(facts.keys)} in all`;
  return el("p", { class: "aside", text: `${format.many(facts.rows, "row")}${settings}, ${facts.fewest === facts.most ? facts.most : `${facts.fewest} to ${facts.most}`} epochs each: ${line("pass@", facts.pass_at_k)}; ${line("pass^", facts.pass_hat_k)}` });
}

function distributionSection(facts) {
  if (facts.distributions.length === 0) return null;
  return el("section", {}, title("Distributions", "a row\u2019s tokens, cost and latency"), el("div", { class: "charts" }, facts.distributions.map(measured)));
}

const LEAST_BUCKETS = 3;

// A chart of one or two bars would show nothing but their sum.
const hasCourse = (session) => session.ended.filter((ended, index) => ended > 0 || session.tries?.[index] > 0).length >= LEAST_BUCKETS;

function timeSection(facts, chosen, choose) {
  const drawn = facts.sittings.filter(hasCourse);
  if (drawn.length === 0) return null;
  const largest = drawn.reduce((best, each, index) => (count(each) > count(drawn[best]) ? index : best), 0);
  const index = Math.min(chosen ?? largest, drawn.length - 1);
  const session = drawn[index];
  const measures = ["ended", ...(session.tries !== null ? ["tries"] : []), ...(session.tokens.some((each) => each > 0) ? ["tokens"] : [])];
  const picker = drawn.length === 1 ? null : el("label", { class: "picker" }, "session ",
    el("select", { onchange: (event) => choose(Number(event.target.value)) },
      drawn.map((each, place) => el("option", { value: place, selected: place === index, text: sessionText(each) }))));
  const note = drawn.length === 1 && facts.sittings.length > 1 ? el("p", { class: "aside", text: `The session of ${sessionText(session)}; the others are too short for a chart.` }) : null;
  return el("section", {}, title("Over time", "UTC"), picker, note, el("div", { class: "charts" }, measures.map((measure) => overTime(session, measure, facts.batch?.limits))));
}

const sessionText = (session) => `${format.moment(new Date(session.started_s * 1000).toISOString())} \u00b7 ${format.seconds(session.ended_s - session.started_s)} \u00b7 ${format.many(count(session), "row")}`;

function count(session) {
  return session.ended.reduce((one, other) => one + other, 0);
}

function errorSection(facts, showErrors) {
  if (facts.errors.length === 0) return null;
  const most = Math.max(...facts.errors.map((each) => Math.max(each.rows + each.cut_short, each.tries ?? 0)));
  return el("section", {}, title("Errors", "by type"),
    el("div", { class: "scroll" }, el("table", { class: "errors" },
      el("thead", {}, el("tr", {}, ["Type", "Failed rows", "Cut short", "Attempts", "Example"].map((text) => el("th", { scope: "col", text })))),
      el("tbody", {}, facts.errors.slice(0, 50).map((each) => {
        const bar = el("span", { class: "bar", "aria-hidden": "true" });
        bar.style.width = `${(100 * Math.max(each.rows + each.cut_short, each.tries ?? 0)) / most}%`;
        return el("tr", {},
          el("th", { scope: "row" }, el("button", { type: "button", class: "link", title: "Show these rows in the table", onclick: () => showErrors(each.error_type) }, el("bdi", { text: each.error_type.slice(0, 120) })), el("span", { class: "bar-place" }, bar)),
          el("td", { class: "n", text: each.rows > 0 ? format.count(each.rows) : EN_DASH }),
          el("td", { class: "n", text: each.cut_short > 0 ? format.count(each.cut_short) : EN_DASH }),
          el("td", { class: "n", text: each.tries === null ? "unknown" : each.tries > 0 ? format.count(each.tries) : EN_DASH }),
          el("td", { class: "example", dir: "auto", text: each.example }));
      })))));
}
