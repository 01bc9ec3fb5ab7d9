// -- the page -------------------------------------------------------------------------------------------------

const data = JSON.parse(document.getElementById("data").textContent);
const rows = new Rows();
const parts = { head: null, progress: el("div", { class: "progress-place", "aria-live": "polite" }), top: el("div", { class: "top" }) };
let facts = null;
let leftOut = 0; // rows of the batch that a live page does not show
let selected = null; // figures of the rows that the table's filters leave; null without a filter
let session = null;
let generation = 0; // of the batch that a live page shows
let adopted = false; // the table has the columns of this generation

const link = new RowLink(rows);
const table = new RowTable(rows, show);
const noteEditor = new NoteEditor(rows, async (row, note) => {
  const problem = await sendNote(generation, row, note);
  if (problem === null) {
    rows.setNote(row.i, note);
    table.redraw();
  }
  return problem;
});
const detail = new Detail(
  rows,
  link,
  noteEditor,
  (step) => { const row = table.go(table.current + step); if (row !== undefined) show(row, { keepFocus: true, isStep: true }); },
  () => { link.closed(); table.grid.focus({ preventScroll: true }); },
);
table.onExport = (listed) => saveFile(`${facts.table.replace(/\.[^.]*$/, "")}.rows.csv`, csvOf(rows, listed), "text/csv");

function show(row, how) {
  const wasOpen = detail.isOpen;
  detail.open(row, how);
  if (detail.isOpen) link.opened(row, wasOpen && (how.isStep || how.ifOpen));
}

// Parse compressed JSON in base64.
function inflated(text) {
  const bytes = Uint8Array.fromBase64?.(text) ?? Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).json();
}

function openRow(row) {
  table.goTo(row.i);
  show(row, {});
}

// Open the row that the address names, or close the open one; a row that is not on the page is named above the table.
function followAddress() {
  const named = link.named();
  table.lacking.textContent = named !== null && named.row === undefined ? `There is no row ${named.key.slice(0, 200)} on this page.` : "";
  if (named?.row !== undefined) {
    table.goTo(named.row.i);
    table.element.scrollIntoView();
    detail.open(named.row, {});
  } else if (detail.isOpen) {
    detail.close();
  }
}

addEventListener("popstate", followAddress);
addEventListener("pagehide", () => noteEditor.send()); // a comment may be younger than SAVE_MS

function drawTop() {
  detail.examples = facts.batch?.examples ?? [];
  const left = data.live ? leftOut : facts.headline.rows - data.shown;
  const shown = selected ?? facts;
  const sections = [
    pageHead(facts, data.live),
    parts.progress,
    notes(facts, left),
    selected === null ? null : selectionBar(selected, rows.all.length, left, () => table.reset()),
    cards(shown),
    comparisonSection(facts, rows, openRow, (positions) => table.showOnly(positions), selected !== null),
    scoreSection(shown),
    fieldSection(shown),
    errorSection(shown, (kind) => table.showErrors(kind)),
    timeSection(shown, session, (chosen) => { session = chosen; drawTop(); }),
    distributionSection(shown),
  ];
  parts.top.replaceChildren(...sections.filter((section) => section !== null));
}

// Figures follow the filters of the table, after it has been drawn.
async function selectFigures() {
  selection += 1;
  const number = selection;
  const isWhole = !table.isNarrowed || rows.shown.length === rows.all.length;
  if (isWhole && selected === null) return;
  let found = null;
  if (!isWhole) {
    const listed = rows.shown.slice().sort((one, other) => one.i - other.i);
    const batch = facts.batch === null ? null : { ...facts.batch, spent_usd: null, from_cache: 0 };
    found = { ...facts, batch, shown: listed.length };
    for (const [name, figures] of figureParts(rows, listed, facts)) {
      found[name] = figures;
      await new Promise((done) => setTimeout(done)); // a key press may come between
      if (number !== selection) return; // and begin another selection
    }
  }
  selected = found;
  const before = table.element.getBoundingClientRect().top;
  drawTop();
  if (scrollY > 0) scrollBy(0, table.element.getBoundingClientRect().top - before); // the table stays where it is
}

const SELECT_MS = 250; // after the last key press
let selection = 0; // number of the latest
let selecting = 0;
table.onShown = () => {
  clearTimeout(selecting);
  selecting = setTimeout(selectFigures, SELECT_MS);
};

function drawProgress(gone) {
  const { headline, batch } = facts;
  const waiting = (headline.by_status.pending ?? 0) + (headline.by_status.in_flight ?? 0);
  const ended = headline.rows - waiting;
  const bar = el("span", {});
  bar.style.width = `${headline.rows === 0 ? 100 : (100 * ended) / headline.rows}%`;
  const state = gone ?? (batch.running ? "running" : waiting === 0 ? "finished" : "stopped; run the same command to resume");
  parts.progress.replaceChildren(
    el("div", { class: `progress ${batch.running && gone === null ? "running" : ""}` }, bar),
    el("p", {}, el("b", { class: "state", text: state }), ` \u00b7 ${format.count(ended)} of ${format.many(headline.rows, "row")} ended`),
  );
}

document.addEventListener("keydown", (event) => {
  const typing = event.target.closest?.("input, textarea, select") !== null;
  if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey && !event.altKey) {
    event.preventDefault();
    table.searchField.focus();
    table.searchField.select();
  }
  if (event.key === "Escape" && !typing && detail.isOpen) detail.close();
  if (detail.isOpen && rows.canNote && !typing && !event.ctrlKey && !event.metaKey && !event.altKey) {
    if (event.key === "r") noteEditor.rate("right");
    if (event.key === "w") noteEditor.rate("wrong");
    if (event.key === "c") { event.preventDefault(); noteEditor.comment.focus(); }
  }
});

document.getElementById("page").replaceChildren(parts.top, table.element);
document.body.append(detail.element);

function takeNotes({ listed, lost, problem }) {
  rows.setNotes(listed);
  table.noteProblem.textContent = problem ?? (lost > 0 ? `${format.many(lost, "note")} on rows that the table does not have.` : "");
}

if (data.live) {
  rows.canNote = true;
  follow(
    (news, isNewBatch) => {
      if (isNewBatch) {
        rows.clear(news.columns);
        adopted = false;
      }
      rows.put(news.rows);
      rows.drop(news.gone);
      if (news.more) return;
      ({ facts, generation, left_out: leftOut } = news);
      const hasNotes = news.row_notes !== null;
      if (hasNotes) takeNotes(news.row_notes);
      drawTop();
      drawProgress(null);
      if (!adopted) {
        table.adopt();
        followAddress();
      } else if (news.rows.i.length + news.gone.length > 0) table.refresh();
      else if (hasNotes) table.redraw();
      adopted = true;
      if (hasNotes) noteEditor.refresh();
      if (detail.isOpen && detail.row !== rows.at(detail.row.i)) {
        const row = rows.at(detail.row.i);
        if (row !== undefined) detail.open(row, { ifOpen: true });
      }
    },
    (gone) => { if (facts !== null) drawProgress(gone); },
  );
} else {
  ({ facts } = data);
  rows.clear(data.columns);
  takeNotes(data.row_notes);
  rows.put(data.rows);
  table.reading = data.shown;
  drawTop();
  table.adopt();
  // The other rows come after this script, so that the first ones are visible while the document is still loading.
  if (data.shown > rows.all.length) addEventListener("DOMContentLoaded", readPortions, { once: true });
  else followAddress();
}

async function readPortions() {
  const read = [...document.querySelectorAll("script.portion")].map((portion) => {
    const text = portion.textContent;
    portion.remove();
    return inflated(text);
  });
  for (const portion of await Promise.all(read)) rows.put(portion);
  if (facts.comparison) drawTop(); // it lists flipped rows
  table.adopt(false);
  followAddress();
}
