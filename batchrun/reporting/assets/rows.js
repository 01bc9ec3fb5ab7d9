// -- rows: all of them, the shown ones, and their order ------------------------------------------------

const NUMBERS = new Set([
  "prompt_tokens", "completion_tokens", "total_tokens", "cached_tokens", "reasoning_tokens", "cost_usd", "attempts",
  "duration_s",
]);
const MISSING = (cell) => cell === null || cell === undefined || cell === "";

const SEPARATOR = "\x7f";
const NONE = "\x80";

// Rows as `columns_json.py` packs them; a text column is split when one of its cells is first needed.
class Portion {
  constructor(packed) {
    this.packed = packed;
    this.size = packed.i.length;
    this.columns = packed.c.map(() => undefined);
  }

  unpack(column) {
    if (typeof column === "string") return column.split(SEPARATOR).map((cell) => (cell === NONE ? null : cell));
    return column;
  }

  at(column, place) {
    return typeof column === "number" ? column : column?.[place];
  }

  cell(index, place) {
    this.columns[index] ??= this.unpack(this.packed.c[index]);
    return this.at(this.columns[index], place);
  }

  name(place) {
    this.names ??= this.unpack(this.packed.k);
    return this.names[place];
  }

  labels(scorer, place) {
    if (this.packed.x?.[scorer] === undefined) return null;
    this.compared ??= {};
    this.compared[scorer] ??= this.packed.x[scorer].map((column) => this.unpack(column));
    const [expected, given] = this.compared[scorer].map((column) => column[place] ?? null);
    return expected === null ? null : [expected, given];
  }

  key(place) {
    if (this.packed.r === undefined) return null;
    this.keys ??= this.unpack(this.packed.r);
    return this.keys[place];
  }

  prompt(place) {
    if (this.packed.p === undefined) return null;
    this.prompts ??= this.unpack(this.packed.p);
    return this.at(this.prompts, place);
  }
}

// A row: i position, k key, id key in the batch, cells, p prompt (or the column with it), m messages, d dialogue, t attempts,
// b other table's row, g cluster.
class Row {
  constructor(rows, portion, place) {
    this.rows = rows;
    this.portion = portion;
    this.place = place;
    this.i = portion.packed.i[place];
  }

  // A column after those of the table is one of the page.
  cell(index) {
    return index < this.portion.columns.length ? this.portion.cell(index, this.place) : this.rows.addedCell(this, index);
  }

  get k() {
    return this.portion.name(this.place);
  }

  get id() {
    return this.portion.key(this.place) ?? this.k;
  }

  get p() {
    return this.portion.prompt(this.place) ?? undefined;
  }

  get t() {
    return this.portion.packed.t?.[this.place] ?? undefined;
  }

  get m() {
    return this.portion.packed.m?.[this.place];
  }

  get d() {
    return this.portion.packed.d?.[this.place];
  }

  // The cluster of the row; null if all rows are independent.
  get g() {
    return this.portion.at(this.portion.packed.g, this.place) ?? null;
  }

  // The label that a scorer expected and the one that it found; null if there are none.
  labels(scorer) {
    return this.portion.labels(scorer, this.place);
  }

  get b() {
    return this.portion.packed.b?.[this.place];
  }
}

// Columns that only the page has: the prompt, if no column of the table is the prompt, and what people noted.
const ADDED = [
  { name: "prompt", role: "prompt", key: "prompt" },
  { name: "rating", role: "note", key: "rating" },
  { name: "comment", role: "note", key: "comment" },
];

// All rows.
class Rows {
  constructor() {
    this.notes = new Map(); // position → {rating, comment, stale}; they come with their own versions
    this.canNote = false;
    this.clear({ listed: [], key: null, target: null });
  }

  clear(columns) {
    this.columns = [...columns.listed, ...ADDED];
    this.names = columns;
    this.keyColumn = this.columns.findIndex(({ role, name }) => role === "own" && name === columns.key);
    this.promptColumn = null; // the column with the prompts; null if no prompt is known
    this.all = [];
    this.places = new Map();
    this.kinds = new Map();
    this.shown = [];
    this.search = "";
    this.statuses = null; // null: all
    this.only = null; // positions, or null
    this.filters = new Map(); // column → text
    this.order = { column: null, falling: false };
    this.status = this.columns.findIndex((column) => column.role === "output" && column.key === "status");
  }

  put(packed) {
    const portion = new Portion(packed);
    for (let each = 0; each < portion.size; each += 1) {
      const row = new Row(this, portion, each);
      const place = this.places.get(row.i);
      if (place === undefined) {
        this.places.set(row.i, this.all.length);
        this.all.push(row);
      } else {
        this.all[place] = row;
      }
    }
    this.kinds.clear();
    this.ids = this.sameRows = undefined;
    this.promptColumn = this.foundPrompts(packed.p);
  }

  // Remove rows that have left the page for others.
  drop(positions) {
    if (positions.length === 0) return;
    const gone = new Set(positions);
    this.all = this.all.filter((row) => !gone.has(row.i));
    this.places = new Map(this.all.map((row, place) => [row.i, place]));
    this.kinds.clear();
    this.ids = this.sameRows = undefined;
  }

  // The column with the prompts, after a portion: the table's if all rows have theirs in the same one, else the page's.
  foundPrompts(prompts) {
    const places = new Set(typeof prompts === "number" ? [prompts] : typeof prompts === "string" ? [""] : (prompts ?? []).filter((each) => each !== null));
    if (this.promptColumn !== null) places.add(this.promptColumn);
    const [place] = places;
    return places.size === 0 ? null : places.size === 1 && typeof place === "number" ? place : this.column("prompt", "prompt");
  }

  addedCell(row, index) {
    const { role, key } = this.columns[index];
    return role === "prompt" ? this.prompt(row) : (this.notes.get(row.i)?.[key] ?? null);
  }

  // Whether the page has something to show in a column.
  has(index) {
    const { role } = this.columns[index];
    if (role === "prompt") return this.promptColumn === index;
    return role !== "note" || this.canNote || this.notes.size > 0;
  }

  // Rows with this key in the batch; several rows of a table without a journal may have the same.
  withId(id) {
    this.ids ??= grouped(this.all, (row) => row.id);
    return this.ids.get(id) ?? [];
  }

  // Rows that ask the same of the input, once for each combination of settings, or in each epoch; the row itself is among them.
  epochsOf(row) {
    const key = (each) => (this.names.key === null ? each.id.split("|")[0] : each.k);
    this.sameRows ??= grouped(this.all, key);
    return this.sameRows.get(key(row)) ?? [];
  }

  setNotes(listed) {
    const before = this.notes;
    this.notes = new Map(listed.map(([position, rating, comment, stale]) => [position, { rating, comment, stale }]));
    this.forgetText([...before.keys(), ...this.notes.keys()]);
  }

  setNote(position, { rating, comment }) {
    if (rating === "" && comment === "") this.notes.delete(position);
    else this.notes.set(position, { rating, comment, stale: false });
    this.forgetText([position]);
  }

  // Comments are searched too.
  forgetText(positions) {
    for (const position of positions) if (this.at(position) !== undefined) this.at(position).h = undefined;
  }

  at(position) {
    return this.all[this.places.get(position)];
  }

  column(role, key) {
    return this.columns.findIndex((column) => column.role === role && column.key === key);
  }

  output(row, key) {
    const index = this.column("output", key);
    return index < 0 ? null : row.cell(index);
  }

  statusOf(row) {
    return row.cell(this.status);
  }

  prompt(row) {
    return typeof row.p === "number" ? String(row.cell(row.p)) : (row.p ?? null);
  }

  // A column of numbers is sorted and filtered by value, even if a text table holds them as text.
  isNumber(index) {
    const column = this.columns[index];
    if (column.role === "score" || (column.role === "output" && NUMBERS.has(column.key))) return true;
    if (column.role !== "own" && column.role !== "field") return false;
    if (!this.kinds.has(index)) {
      let seen = false;
      const numeric = this.all.every((row) => {
        const cell = row.cell(index);
        if (MISSING(cell)) return true;
        seen = true;
        return typeof cell === "number" || (typeof cell === "string" && cell.trim() !== "" && Number.isFinite(Number(cell)));
      });
      this.kinds.set(index, numeric && seen);
    }
    return this.kinds.get(index);
  }

  counts() {
    const counts = new Map();
    for (const row of this.all) {
      const status = this.statusOf(row);
      counts.set(status, (counts.get(status) ?? 0) + 1);
    }
    return counts;
  }

  arrange() {
    const tests = [];
    if (this.only !== null) tests.push((row) => this.only.has(row.i));
    if (this.statuses !== null) tests.push((row) => this.statuses.has(this.statusOf(row)));
    for (const [index, text] of this.filters) tests.push(this.cellTest(index, text));
    const wanted = this.search.toLowerCase();
    if (wanted !== "") tests.push((row) => haystack(row).includes(wanted));
    const shown = tests.length === 0 ? this.all.slice() : this.all.filter((row) => tests.every((test) => test(row)));
    this.shown = this.sorted(shown);
  }

  sorted(rows) {
    const { column, falling } = this.order;
    if (column === null) return rows.sort((one, other) => one.i - other.i);
    const numeric = column !== "row" && this.isNumber(column);
    const sign = falling ? -1 : 1;
    const keyed = rows.map((row) => {
      if (column === "row") return { row, key: row.i };
      const cell = row.cell(column);
      if (MISSING(cell)) return { row, key: null };
      return { row, key: numeric ? Number(cell) : String(cell).slice(0, 200).toLowerCase() };
    });
    keyed.sort((one, other) => {
      if (one.key === null || other.key === null) {
        if (one.key !== other.key) return one.key === null ? 1 : -1; // missing values come last in both orders
      } else if (one.key !== other.key) {
        return one.key < other.key ? -sign : sign;
      }
      return one.row.i - other.row.i;
    });
    return keyed.map(({ row }) => row);
  }

  // Test of a filter: `>5`, `<=5`, `5..10` and `5` for numbers; else part of the text, `=whole`, `!not`.
  cellTest(index, text) {
    if (this.isNumber(index)) {
      const number = (row) => (MISSING(row.cell(index)) ? NaN : Number(row.cell(index)));
      const range = /^\s*(-?[\d.]+)\s*\.\.\s*(-?[\d.]+)\s*$/.exec(text);
      if (range) return (row) => number(row) >= Number(range[1]) && number(row) <= Number(range[2]);
      const bound = /^\s*(>=|<=|>|<|=)?\s*(-?[\d.]+)\s*$/.exec(text);
      if (bound) {
        const limit = Number(bound[2]);
        const holds = {
          ">": (value) => value > limit,
          "<": (value) => value < limit,
          ">=": (value) => value >= limit,
          "<=": (value) => value <= limit,
          "=": (value) => value === limit,
        }[bound[1] ?? "="];
        return (row) => holds(number(row));
      }
    }
    const sign = text[0];
    const part = (sign === "=" || sign === "!" ? text.slice(1) : text).trim().toLowerCase();
    const cell = (row) => (MISSING(row.cell(index)) ? "" : String(row.cell(index)).toLowerCase());
    if (sign === "=") return (row) => cell(row).trim() === part;
    if (sign === "!") return (row) => (part === "" ? cell(row) !== "" : !cell(row).includes(part));
    return (row) => cell(row).includes(part);
  }
}

// All searchable text of a row, in lower case; kept for the next key press.
function haystack(row) {
  if (row.h === undefined) {
    const parts = [row.k];
    if (row.id !== row.k) parts.push(row.id);
    if (row.rows.notes.size > 0) parts.push(row.rows.notes.get(row.i)?.comment ?? "");
    for (let index = 0; index < row.portion.columns.length; index += 1) parts.push(String(row.cell(index) ?? ""));
    if (typeof row.p === "string") parts.push(row.p);
    for (const [, text] of row.m ?? []) parts.push(text);
    for (const [, ...texts] of row.d ?? []) parts.push(...texts.flat());
    for (const each of row.t ?? []) parts.push(each[2] ?? "", each[3] ?? "", each[4] ?? "", each[5] ?? "");
    row.h = parts.join("\n").toLowerCase();
  }
  return row.h;
}

// Key → the items with this key, in their order.
function grouped(items, keyOf) {
  const groups = new Map();
  for (const item of items) {
    const key = keyOf(item);
    if (groups.has(key)) groups.get(key).push(item);
    else groups.set(key, [item]);
  }
  return groups;
}
