// -- one row, next to the table ---------------------------------------------------------------------------------

const LONG_TEXT = 50_000;
const COPIED = ["answer", "prompt", "before"]; // kinds of text with a button to copy them

class Detail {
  constructor(rows, link, notes, onStep, onClose) {
    this.rows = rows;
    this.link = link;
    this.notes = notes;
    this.onStep = onStep;
    this.onClose = onClose;
    this.row = null;
    this.examples = [];
    this.title = el("h2", { id: "detail-title", tabindex: "-1" });
    this.content = el("div", { class: "detail-content" });
    this.element = el(
      "aside",
      { class: "detail", role: "dialog", "aria-labelledby": "detail-title", hidden: true, onkeydown: (event) => this.key(event) },
      el("header", {},
        this.title,
        el("div", { class: "buttons" },
          el("button", { type: "button", class: "plain", "aria-label": "Previous row", title: "Previous row", text: "\u2191", onclick: () => onStep(-1) }),
          el("button", { type: "button", class: "plain", "aria-label": "Next row", title: "Next row", text: "\u2193", onclick: () => onStep(1) }),
          el("button", { type: "button", class: "plain close", "aria-label": "Close", title: "Close (Esc)", text: "\u00d7", onclick: () => this.close() }))),
      this.content,
    );
  }

  get isOpen() {
    return !this.element.hidden;
  }

  open(row, { ifOpen = false, keepFocus = false } = {}) {
    if (ifOpen && !this.isOpen) return;
    const same = this.row === row;
    this.row = row;
    if (!same) this.fill();
    this.element.hidden = false;
    document.body.classList.add("with-detail");
    if (!ifOpen && !keepFocus) this.title.focus({ preventScroll: true });
  }

  close() {
    this.notes.send();
    this.element.hidden = true;
    this.row = null;
    document.body.classList.remove("with-detail");
    this.onClose();
  }

  key(event) {
    if (event.key === "Escape") { event.stopPropagation(); this.close(); }
    if (event.target === this.title && (event.key === "ArrowDown" || event.key === "ArrowUp")) {
      event.preventDefault();
      this.onStep(event.key === "ArrowDown" ? 1 : -1);
    }
  }

  fill() {
    const { rows, row } = this;
    this.title.replaceChildren(
      el("span", { class: "eyebrow", text: rows.names.key ?? "row" }), " ", el("bdi", { text: row.k.slice(0, 200) }), " ", ...combinationOf(row), statusPill(rows.statusOf(row)),
    );
    const failed = rows.output(row, "error");
    this.content.replaceChildren(
      ...[
        failed ? el("p", { class: "problem", dir: "auto", text: `${rows.output(row, "error_type") ?? "error"}: ${failed}` }) : null,
        this.scores(),
        this.notes.part(row),
        // Without a known prompt, the row's own cells describe the question best.
        row.p === undefined ? this.others() : null,
        this.shots(),
        ...this.talk(),
        this.fields(),
        ...this.carried(),
        this.target(),
        this.before(),
        comparedAnswers(rows, row),
        this.attempts(),
        this.usage(),
        row.p === undefined ? null : this.others(),
        this.copies(),
      ].filter((part) => part !== null),
    );
    this.content.scrollTop = 0;
  }

  // The examples that every row sends before its question, folded.
  shots() {
    const count = this.examples.length;
    return count === 0 ? null : el("details", { class: "folded" }, el("summary", { text: `Examples \u00b7 ${format.many(count, "message")}` }), messages(this.examples));
  }

  talk() {
    const { rows, row } = this;
    const answer = rows.output(row, "response");
    if (row.d !== undefined) return conversation(row.d, row.m);
    if (row.m !== undefined) return [...messages(row.m), block("Answer", answer, "answer")];
    const prompt = rows.prompt(row);
    return [prompt === null ? null : block("Prompt", prompt, "prompt"), block("Answer", answer, "answer")];
  }

  // The answer's fields, if it is an object.
  fields() {
    return this.cellsOf("Fields of the answer", (column) => column.role === "field");
  }

  // What came with the answer: its sources as links, and the model's reasoning, folded.
  carried() {
    return this.rows.columns.flatMap((column, index) => {
      const value = this.row.cell(index);
      if (MISSING(value)) return [];
      if (column.carried === "reasoning") return [folded("Reasoning", String(value))];
      const found = column.carried === "citations" ? citationsIn(value) : null;
      return found === null ? [] : [el("section", {}, el("h3", { text: "Citations" }), el("ol", { class: "aside-list citations" }, found.map(citation)))];
    });
  }

  target() {
    const index = this.rows.columns.findIndex((column) => column.role === "own" && column.name === this.rows.names.target);
    return index < 0 ? null : block(`Target \u00b7 ${this.rows.names.target}`, this.row.cell(index), "target");
  }

  scores() {
    const { columns } = this.rows;
    const lines = columns.flatMap((column, index) => {
      if (column.role !== "score") return [];
      const value = this.row.cell(index);
      const read = this.row.cell(this.rows.column("read", column.key));
      const judged = value === null ? "not judged" : value >= 1 ? "correct" : value <= 0 ? "wrong" : "partly correct";
      return [
        el("li", {},
          el("span", { class: `verdict ${value === null ? "none" : value >= 1 ? "right" : value <= 0 ? "wrong" : "partly"}`, text: judged }),
          el("bdi", { class: "scorer", text: column.key }),
          value === null || value === 0 || value === 1 ? null : el("span", { text: format.number(value) }),
          MISSING(read) ? null : el("span", { class: "read" }, "read ", el("q", { dir: "auto", text: String(read).slice(0, 400) }))),
      ];
    });
    return lines.length === 0 ? null : el("ul", { class: "verdicts", "aria-label": "Scores" }, lines);
  }

  before() {
    const { b: before } = this.row;
    if (before === undefined) return null;
    const part = block("Answer in the baseline", before.response, "before");
    part.append(
      el("p", { class: "aside", text: Object.entries(before.scores).map(([name, value]) => `${name}: ${value === null ? "not judged" : format.number(value)}`).join(" \u00b7 ") }),
    );
    return part;
  }

  attempts() {
    const { t: attempts } = this.row;
    if (attempts === undefined) return null;
    return el("section", {},
      el("h3", { text: format.many(attempts.length, "attempt") }),
      el("ol", { class: "attempts" },
        attempts.map(([number, startedAt, threadId, runId, faultType, fault]) =>
          el("li", { value: number },
            el("span", { class: "when", text: format.moment(startedAt) }),
            el("span", { class: "run", text: [threadId, runId].filter(Boolean).join(" \u00b7 ") || "no run" }),
            faultType === null ? null : el("span", { class: "fault", dir: "auto" }, el("b", { text: faultType }), fault ? ` ${fault.slice(0, 2_000)}` : "")))));
  }

  usage() {
    const { rows, row } = this;
    const shown = (key, form) => { const value = rows.output(row, key); return MISSING(value) ? null : form(value); };
    const parts = [
      ["Tokens in", shown("prompt_tokens", format.number)], ["of them cached", shown("cached_tokens", format.number)],
      ["Tokens out", shown("completion_tokens", format.number)], ["of them reasoning", shown("reasoning_tokens", format.number)],
      ["Cost", shown("cost_usd", format.dollars)], ["Latency", shown("duration_s", format.seconds)], ["Ended", shown("completed_at", format.moment)],
      ["Key in the batch", row.id === row.k ? null : row.id], ["Model", shown("model", String)], ["Thread", shown("thread_id", String)], ["Run", shown("run_id", String)],
    ].filter(([, value]) => value !== null);
    return parts.length === 0 ? null : definitions("Run", parts);
  }

  others() {
    const isShown = ({ carried, name }, index) => carried === "reasoning" || (carried === "citations" && citationsIn(this.row.cell(index)) !== null) || name === this.rows.names.target || this.row.p === index;
    return this.cellsOf("Other columns", (column, index) => column.role === "own" && index !== this.rows.keyColumn && !isShown(column, index));
  }

  cellsOf(title, isMeant) {
    const parts = this.rows.columns.flatMap((column, index) => (isMeant(column, index) && !MISSING(this.row.cell(index)) ? [[column.name, String(this.row.cell(index))]] : []));
    return parts.length === 0 ? null : definitions(title, parts);
  }

  copies() {
    return el("p", { class: "copies" },
      copyButton("Copy row as JSON", () => rowJson(this.rows, this.row)),
      copyButton("Copy link", () => this.link.address(this.row), "Copy the address of this page with this row open"));
  }
}

// The settings and the epoch in the key of a row that is run several times; else nothing.
function combinationOf(row) {
  return row.id.startsWith(`${row.k}|`) ? [el("small", { class: "eyebrow", text: row.id.slice(row.k.length + 1, 200) }), " "] : [];
}

// The messages that a row sends, with their roles.
function messages(sent) {
  const kinds = { assistant: "answer", tool: "tool" };
  return sent.map(([role, text]) => block(role[0].toUpperCase() + role.slice(1), text, kinds[role] ?? "prompt"));
}

// Every run in order, with the speakers. Everything is text: citations and names by a model are not links.
function conversation(runs, sent) {
  const parts = [];
  let before = null;
  for (const run of runs) {
    const [turn, asked, response, calls = [], toolOutputs = [], citations = [], files = []] = run;
    const again = before !== null && before[0] === turn;
    const called = again && (before[3] ?? []).length > 0;
    const who = called ? "Functions return" : again ? `User, turn ${turn}: correction` : `User, turn ${turn}`;
    if (before === null && sent !== undefined) parts.push(...messages(sent));
    else parts.push(block(who, asked, called ? "tool" : "prompt"));
    for (const output of toolOutputs) parts.push(block("Functions return, while the run waits", output, "tool"));
    if (!MISSING(response) || calls.length === 0) parts.push(block("Assistant", response, "answer"));
    if (calls.length > 0) parts.push(block("Assistant calls", calls.join("\n"), "tool"));
    if (citations.length > 0) parts.push(listed("Citations", citations));
    if (files.length > 0) parts.push(listed("Files", files));
    before = run;
  }
  return parts;
}

// The citations in a cell; null if it holds anything else.
function citationsIn(value) {
  try {
    const found = JSON.parse(String(value));
    return Array.isArray(found) && found.every((each) => each !== null && typeof each === "object") ? found : null;
  } catch {
    return null;
  }
}

// A source: its title, which is a link if its address is one of the web, and the text that it was cited for.
function citation(found) {
  const text = (name) => (typeof found[name] === "string" ? found[name].slice(0, LONG_TEXT) : "");
  const title = text("title") || text("filename") || text("url") || text("file_id") || "?";
  const address = webAddress(text("url"));
  return el("li", { dir: "auto" },
    address === null ? title : el("a", { href: address, rel: "noopener noreferrer", target: "_blank", title: address, text: title }),
    address === null && text("url") !== "" && text("url") !== title ? ` (${text("url")})` : null,
    text("quote") === "" ? null : el("span", {}, ": ", el("q", { text: text("quote") })));
}

// Models write addresses: only those of the web become links.
function webAddress(text) {
  try {
    const address = new URL(text);
    return ["http:", "https:"].includes(address.protocol) ? address.href : null;
  } catch {
    return null;
  }
}

function folded(title, text) {
  const body = block(title, text, "reasoning");
  body.querySelector("h3").remove();
  return el("details", { class: "folded" }, el("summary", { text: title }), body);
}

function listed(title, lines) {
  return el("section", {}, el("h3", { text: title }), el("ul", { class: "aside-list" }, lines.map((text) => el("li", { dir: "auto", text: text.slice(0, LONG_TEXT) }))));
}

function block(title, text, kind) {
  const copies = COPIED.includes(kind) && !MISSING(text) ? copyButton("Copy", () => String(text), `Copy: ${title}`) : null;
  const part = el("section", { class: `said ${kind}` }, el("h3", { text: title }), copies);
  if (MISSING(text)) {
    part.append(el("p", { class: "nothing", text: "empty" }));
    return part;
  }
  const whole = String(text);
  const body = el("div", { class: "text", dir: "auto", text: whole.slice(0, LONG_TEXT) });
  part.append(body);
  if (whole.length > LONG_TEXT) {
    part.append(el("button", {
      type: "button", class: "plain", text: `Show all ${format.count(whole.length)} characters`,
      onclick: (event) => { body.textContent = whole; event.target.remove(); },
    }));
  }
  return part;
}

function definitions(title, parts) {
  return el("section", {}, el("h3", { text: title }),
    el("dl", {}, parts.map(([name, value]) => el("div", {}, el("dt", {}, el("bdi", { text: name.slice(0, 200) })), el("dd", { dir: "auto", text: value.slice(0, LONG_TEXT) })))));
}
