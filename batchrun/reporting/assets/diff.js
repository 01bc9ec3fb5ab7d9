// -- the difference between two texts, word by word -----------------------------------------------------------------

const DIFFED_CHARACTERS = 50_000; // of each text
const DIFFED_EDITS = 1_000; // with more, nearly nothing is common to both texts
const WORDS = /\s+|[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}\p{Script=Thai}]\p{M}*|[\p{L}\p{M}\p{N}_]+|./gsu;

// The parts of two texts in order: [{kind: "same" | "gone" | "new", text}]. "gone" and "same" together are `before`, "new"
// and "same" are `after`. null if the texts are too long, or differ in more than DIFFED_EDITS words.
function wordDiff(before, after) {
  if (before.length > DIFFED_CHARACTERS || after.length > DIFFED_CHARACTERS) return null;
  const old = before.match(WORDS) ?? [];
  const now = after.match(WORDS) ?? [];
  let head = 0;
  while (head < old.length && head < now.length && old[head] === now[head]) head += 1;
  let tail = 0;
  while (tail < old.length - head && tail < now.length - head && old.at(-1 - tail) === now.at(-1 - tail)) tail += 1;
  const middle = shortestEdits(old.slice(head, old.length - tail), now.slice(head, now.length - tail));
  if (middle === null) return null;
  return joinedParts([
    ...old.slice(0, head).map((text) => ({ kind: "same", text })),
    ...middle,
    ...old.slice(old.length - tail).map((text) => ({ kind: "same", text })),
  ]);
}

// Myers, "An O(ND) Difference Algorithm and Its Variations" (1986): reached[k] is the furthest place in `old` on the diagonal
// `place in old - place in now = k` after a number of edits; the states are kept to walk back.
function shortestEdits(old, now) {
  const most = Math.min(old.length + now.length, DIFFED_EDITS);
  const reached = new Int32Array(2 * most + 3);
  const history = [];
  for (let edits = 0; edits <= most; edits += 1) {
    history.push(reached.slice(most + 1 - edits, most + 2 + edits)); // the diagonals -edits to edits
    for (let diagonal = -edits; diagonal <= edits; diagonal += 2) {
      const place = most + 1 + diagonal;
      let x = isInsertion(reached, place, diagonal, edits) ? reached[place + 1] : reached[place - 1] + 1;
      while (x < old.length && x - diagonal < now.length && old[x] === now[x - diagonal]) x += 1;
      reached[place] = x;
      if (x >= old.length && x - diagonal >= now.length) return walkedBack(old, now, history, edits);
    }
  }
  return null;
}

const isInsertion = (reached, place, diagonal, edits) => diagonal === -edits || (diagonal !== edits && reached[place - 1] < reached[place + 1]);

function walkedBack(old, now, history, edits) {
  const parts = [];
  let x = old.length;
  let y = now.length;
  for (let left = edits; left > 0; left -= 1) {
    const reached = history[left];
    const place = left + x - y;
    const inserted = isInsertion(reached, place, x - y, left);
    const from = inserted ? reached[place + 1] : reached[place - 1] + 1;
    for (; x > from; x -= 1, y -= 1) parts.push({ kind: "same", text: old[x - 1] });
    if (inserted) parts.push({ kind: "new", text: now[(y -= 1)] });
    else parts.push({ kind: "gone", text: old[(x -= 1)] });
  }
  for (; x > 0; x -= 1) parts.push({ kind: "same", text: old[x - 1] });
  return parts.reverse();
}

// Neighbours of one kind become one part, what is gone comes before what is new, and white space between changes is a change.
function joinedParts(parts) {
  const joined = [];
  let gone = "";
  let fresh = "";
  let space = "";
  const close = () => {
    if (gone !== "") joined.push({ kind: "gone", text: gone });
    if (fresh !== "") joined.push({ kind: "new", text: fresh });
    gone = fresh = "";
  };
  for (const { kind, text } of [...parts, { kind: "same", text: "" }]) {
    const changing = gone !== "" || fresh !== "";
    if (kind === "same" && changing && text.trim() === "" && text !== "") {
      space += text;
      continue;
    }
    if (kind === "same") {
      close();
      const last = joined.at(-1);
      if (last?.kind === "same") last.text += space + text;
      else if (space + text !== "") joined.push({ kind: "same", text: space + text });
      space = "";
      continue;
    }
    gone += space + (kind === "gone" ? text : "");
    fresh += space + (kind === "new" ? text : "");
    space = "";
  }
  return joined;
}

// The difference as one text with deletions and insertions; null if it cannot be computed.
function diffText(before, after) {
  const parts = wordDiff(before, after);
  if (parts === null) return null;
  const tags = { same: "span", gone: "del", new: "ins" };
  return el("div", { class: "text diff", dir: "auto" }, parts.map(({ kind, text }) => el(tags[kind], { text })));
}
