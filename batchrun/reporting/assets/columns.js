// -- which columns the table shows, in which order, and how wide ---------------------------------------------------

const OWN_SHOWN = 3;
const FIELDS_SHOWN = 6;
const MEASURED_ROWS = 200;
const CHARACTER_PX = 8.6;
const PADDING_PX = 18;
const ARROW_PX = 14; // of the order, next to a column's name

// The order on the page: what was asked, the answer with its fields, what was found out about it, and then the rest.
const FIRST_TO_LAST = ["prompt", "own", "target", "response", "field", "status", "score", "note", "output", "read"];

function placeOf(rows, index) {
  const { role, key, name } = rows.columns[index];
  if (index === rows.promptColumn) return "prompt";
  if (role === "own" && name === rows.names.target) return "target";
  return role === "output" && ["response", "status"].includes(key) ? key : role;
}

// Columns in the order of the page. The key has its own place, before all others.
function orderedColumns(rows) {
  const rank = rows.columns.map((_, index) => FIRST_TO_LAST.indexOf(placeOf(rows, index)));
  return rows.columns.map((_, index) => index).filter((index) => index !== rows.keyColumn && rows.has(index)).sort((one, other) => rank[one] - rank[other] || one - other);
}

// Whether a column names the settings or the epoch of a row that is run several times.
function isOfCombination(rows, index) {
  const { role, name } = rows.columns[index];
  return role === "own" && (name.startsWith("axis_") || name === "epoch");
}

// Initial columns: the prompt, the table's first own ones, those of combinations, the answer, its first fields, and others that differ from row to row.
function isUsual(rows, index) {
  const place = placeOf(rows, index);
  if (isOfCombination(rows, index)) return rows.all.some((row) => row.cell(index) !== rows.all[0].cell(index));
  if (["prompt", "target", "response", "status", "score", "note"].includes(place)) return true;
  if (place === "read") return false;
  if (place === "output") return ["completion_tokens", "cost_usd", "duration_s"].includes(rows.columns[index].key) && rows.all.some((row) => !MISSING(row.cell(index)));
  const alike = rows.columns.map((_, each) => each).filter((each) => each !== rows.keyColumn && placeOf(rows, each) === place && !isOfCombination(rows, each));
  const least = rows.promptColumn === null ? 0 : 1; // the prompt takes the place of one of the table's own columns
  return alike.indexOf(index) < (place === "field" ? FIELDS_SHOWN : OWN_SHOWN - least);
}

// [least pixels, share of what is left]: short cells get what they need, long texts share the rest.
function columnWidth(rows, index) {
  const isKey = index === "row";
  const name = isKey ? (rows.names.key ?? "row") : rows.columns[index].name;
  if (index === rows.status) return [Math.max(116, name.length * CHARACTER_PX + PADDING_PX + ARROW_PX), 0];
  const lengths = rows.all
    .slice(0, MEASURED_ROWS)
    .map((row) => (isKey ? row.k : cellText(rows.columns[index], row.cell(index))).length)
    .sort((one, other) => one - other);
  const usual = lengths[Math.floor(0.95 * (lengths.length - 1))] ?? 0;
  if (!isKey && (usual > 28 || rows.columns[index].key === "comment")) return rows.columns[index].key === "response" ? [240, 4] : [180, 3];
  return [Math.min(240, Math.max(56, Math.min(name.length, 20) * CHARACTER_PX + PADDING_PX + ARROW_PX, usual * CHARACTER_PX + PADDING_PX)), 0];
}
