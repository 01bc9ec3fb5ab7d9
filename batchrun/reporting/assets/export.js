// -- rows and texts for other programs: CSV, JSON, the clipboard ---------------------------------------------------

// A spreadsheet may run such a cell as a formula: the rule of `--safe-csv`, in tables/sink.py.
const FORMULA_START = /^[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20]/;
const PLAIN_NUMBER = /^[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?$/;
// Programs split a line at any usual delimiter, whichever of them the file uses.
const NEEDS_QUOTES = /[",;\t\r\n]|^\s|\s$/;

function csvCell(cell) {
  const text = cell === null || cell === undefined ? "" : String(cell);
  const safe = FORMULA_START.test(text) && !PLAIN_NUMBER.test(text) ? `'${text}` : text;
  return NEEDS_QUOTES.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}

// Columns of an export: the row's position, those of the table, and those that only the page has.
function exportedColumns(rows) {
  const position = rows.columns.some(({ name }) => name === "row_index") ? [] : [{ name: "row_index", cell: (row) => row.i }];
  const others = rows.columns.flatMap(({ name }, index) => (rows.has(index) ? [{ name, cell: (row) => row.cell(index) }] : []));
  const names = new Set();
  return [...position, ...others].map(({ name, cell }) => {
    let unique = name;
    while (names.has(unique)) unique += "_2"; // a table may have a column that is named like one of the page
    names.add(unique);
    return { name: unique, cell };
  });
}

// RFC 4180, with the mark by which spreadsheets recognize UTF-8.
function csvOf(rows, listed) {
  const columns = exportedColumns(rows);
  const lines = [columns.map(({ name }) => csvCell(name)), ...listed.map((row) => columns.map(({ cell }) => csvCell(cell(row))))];
  return `\ufeff${lines.map((cells) => `${cells.join(",")}\r\n`).join("")}`;
}

// A row as JSON; what is missing is null.
function rowJson(rows, row) {
  const cells = exportedColumns(rows).map(({ name, cell }) => [name, cell(row) ?? null]);
  const messages = row.m === undefined ? [] : [["messages", row.m.map(([role, content]) => ({ role, content }))]];
  return JSON.stringify(Object.fromEntries([...cells, ...messages]), null, 2);
}

function saveFile(name, text, type) {
  const address = URL.createObjectURL(new Blob([text], { type }));
  el("a", { href: address, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(address), 60_000);
}

// Copy a text; false if the browser does not allow it, as in the frame of a notebook.
async function copied(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const field = el("textarea", { "aria-hidden": "true", class: "copied-text" });
    field.value = text;
    const focused = document.activeElement;
    document.body.append(field);
    field.select();
    const done = document.execCommand("copy");
    field.remove();
    focused?.focus({ preventScroll: true });
    return done;
  }
}

const SAID_MS = 1_500;

// A button that copies the text that `make` returns, and says whether it did.
function copyButton(label, make, title = label) {
  const button = el("button", {
    type: "button", class: "plain copy", title, "aria-live": "polite", text: label,
    onclick: async () => {
      button.textContent = (await copied(make())) ? "Copied" : "Not allowed here";
      setTimeout(() => { button.textContent = label; }, SAID_MS);
    },
  });
  return button;
}
