// -- the table on paper: the first shown rows, and as many columns as fit without breaking words ---------------------

const PRINTED_ROWS = 40;
const PRINTED_CHARACTERS = 140;
const PRINTED_WORD = 22; // characters; a longer word, such as an address, may be broken
const PAPER_PX = 660; // of A4 and Letter, between the margins
const PRINTED_CHARACTER_PX = 5.9;
const PRINTED_PADDING_PX = 11;

// Columns that are given up first when the paper is too narrow.
const FIRST_GIVEN_UP = ["own", "field", "note", "score", "target", "prompt"];

function printedTable(rows, visible) {
  const listed = rows.shown.slice(0, PRINTED_ROWS);
  const lines = listed.map((row) => ["row", ...visible].map((index) => printedText(rows, row, index)));
  const names = ["row", ...visible].map((index) => (index === "row" ? (rows.names.key ?? "row") : rows.columns[index].name));
  const kept = fitting(rows, visible, names, lines);
  const cells = (tag, texts) => texts.flatMap((text, place) => (kept.has(place) ? [el(tag, { dir: "auto" }, breakable(text))] : []));
  const left = [
    rows.shown.length > listed.length ? format.many(rows.shown.length - listed.length, "further row") : null,
    names.length > kept.size ? format.many(names.length - kept.size, "further column") : null,
  ].filter(Boolean);
  return [
    el("table", {}, el("thead", {}, el("tr", {}, cells("th", names))), el("tbody", {}, lines.map((texts) => el("tr", {}, cells("td", texts))))),
    left.length > 0 ? el("p", { text: `${left.join(" and ")} not printed.` }) : "",
  ];
}

function printedText(rows, row, index) {
  if (index === "row") return row.k.slice(0, PRINTED_CHARACTERS);
  const text = cellText(rows.columns[index], row.cell(index));
  if (text.length <= PRINTED_CHARACTERS) return text;
  const cut = text.slice(0, PRINTED_CHARACTERS);
  return `${cut.replace(/\s+\S{0,30}$/, "")} \u2026`;
}

// Places of the columns that fit: 0 is the key, the others are in the order of `visible`.
function fitting(rows, visible, names, lines) {
  const least = names.map((name, place) => {
    const words = [name, ...lines.map((texts) => texts[place])].flatMap((text) => pieces(text).map((piece) => piece.trim().length));
    return words.reduce((most, length) => Math.max(most, length), 1) * PRINTED_CHARACTER_PX + PRINTED_PADDING_PX;
  });
  const kept = new Set(names.map((_, place) => place));
  const needed = () => [...kept].reduce((sum, place) => sum + least[place], 0);
  for (const kind of FIRST_GIVEN_UP) {
    const places = visible.map((index, place) => [index, place + 1]).filter(([index]) => placeOf(rows, index) === kind);
    for (const [, place] of places.reverse()) if (needed() > PAPER_PX) kept.delete(place);
  }
  return kept;
}

// Pieces between which a line may end: at spaces, after an underscore or a slash, and within very long words.
const pieces = (text) => text.split(/(?<=[\s_/])/).flatMap((word) => word.match(new RegExp(`.{1,${PRINTED_WORD}}`, "gsu")) ?? []);

const breakable = (text) => pieces(text).flatMap((piece) => [piece, el("wbr")]);
