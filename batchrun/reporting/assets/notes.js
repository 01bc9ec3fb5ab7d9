// -- what a person noted about a row: a rating and a comment --------------------------------------------------------

const RATING_WORDS = { right: "right", wrong: "wrong" };
const COMMENT_CHARACTERS = 10_000;
const SAVE_MS = 700; // after the last key press in a comment

// Send a note to the page's own server, also while the page closes; the reason if it is not kept.
async function sendNote(generation, row, { rating, comment }) {
  try {
    const answer = await fetch("note", {
      method: "POST", keepalive: true, cache: "no-store", headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ generation, position: row.i, rating, comment }),
    });
    return answer.ok ? null : (await answer.text()).trim();
  } catch {
    return "the viewer has stopped";
  }
}

// The note on the open row: fields on a live page, text on any other.
class NoteEditor {
  // `save` keeps a note and returns why it could not, or null.
  constructor(rows, save) {
    this.rows = rows;
    this.save = save;
    this.row = null;
    this.pending = null; // the note that is not sent yet, with its row
    this.sending = Promise.resolve();
    this.buttons = Object.keys(RATING_WORDS).map((rating) =>
      el("button", { type: "button", class: `plain rating ${rating}`, "data-rating": rating, title: `${RATING_WORDS[rating]} (${rating[0]})`, text: RATING_WORDS[rating], onclick: () => this.rate(rating) }));
    this.comment = el("textarea", {
      rows: "2", placeholder: "Comment (c)", "aria-label": "Comment", maxlength: COMMENT_CHARACTERS, dir: "auto",
      oninput: () => this.later(), onblur: () => this.send(),
      onkeydown: (event) => { if (event.key === "Escape") { event.stopPropagation(); this.send(); document.getElementById("detail-title").focus({ preventScroll: true }); } },
    });
    this.state = el("span", { class: "note-state", role: "status" });
    this.stale = el("p", { class: "aside", text: "This note is about an earlier answer." });
    this.element = el("section", { class: "row-note" }, el("h3", { text: "Your note" }), el("div", { class: "ratings", role: "group", "aria-label": "Rating" }, this.buttons, this.state), this.comment, this.stale);
  }

  noteOf(row) {
    return this.rows.notes.get(row.i) ?? { rating: "", comment: "", stale: false };
  }

  // The part of an open row; null if there is nothing to show.
  part(row) {
    const note = this.noteOf(row);
    if (!this.rows.canNote) return note.rating === "" && note.comment === "" ? null : writtenNote(note);
    if (this.row !== row) this.send();
    this.row = row;
    this.state.textContent = "";
    this.comment.value = note.comment;
    this.draw();
    return this.element;
  }

  draw() {
    const note = this.noteOf(this.row);
    for (const button of this.buttons) button.setAttribute("aria-pressed", String(button.dataset.rating === note.rating));
    this.stale.hidden = !note.stale;
  }

  // Notes came from the server: a comment that is being written stays.
  refresh() {
    if (this.row === null || this.pending !== null) return;
    if (document.activeElement !== this.comment) this.comment.value = this.noteOf(this.row).comment;
    this.draw();
  }

  rate(rating) {
    const before = this.noteOf(this.row);
    this.pending = { row: this.row, rating: before.rating === rating && !before.stale ? "" : rating, comment: this.comment.value };
    this.send();
  }

  later() {
    clearTimeout(this.timer);
    this.pending = { row: this.row, rating: this.noteOf(this.row).rating, comment: this.comment.value };
    this.timer = setTimeout(() => this.send(), SAVE_MS);
  }

  // Notes are sent one after the other.
  send() {
    clearTimeout(this.timer);
    if (this.pending === null) return;
    const { row, ...note } = this.pending;
    this.pending = null;
    this.sending = this.sending.then(async () => {
      const problem = await this.save(row, note);
      if (this.row !== row) return;
      this.state.classList.toggle("failed", problem !== null);
      this.state.textContent = problem === null ? "saved" : `not saved: ${problem}`;
      this.draw();
    });
  }
}

function writtenNote(note) {
  return el("section", { class: "row-note" },
    el("h3", { text: "Note" }),
    note.rating === "" ? null : el("p", { class: `verdict ${note.rating}`, text: `rated ${RATING_WORDS[note.rating]}` }),
    note.comment === "" ? null : el("div", { class: "text", dir: "auto", text: note.comment }),
    note.stale ? el("p", { class: "aside", text: "This note is about an earlier answer." }) : null);
}

// How many rows have which note, for the line above the table.
function notesText(rows) {
  const notes = [...rows.notes.values()];
  const count = (name, isMeant) => { const found = notes.filter(isMeant).length; return found === 0 ? [] : [`${format.count(found)} ${name}`]; };
  return [
    ...count("rated right", ({ rating }) => rating === "right"), ...count("rated wrong", ({ rating }) => rating === "wrong"),
    ...count("commented", ({ comment }) => comment !== ""),
  ].join(", ");
}
