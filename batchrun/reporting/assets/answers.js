// -- the other answers that a row's answer can be compared with ----------------------------------------------------

const MOST_OTHERS = 200;
const LEAST_TARGET_WORDS = 4; // shorter ones are compared at a glance

// [{name, text}]: the baseline's answer, answers to the same row by other settings, the expected answer.
function otherAnswers(rows, row) {
  const found = [];
  if (row.b !== undefined) found.push({ name: "the baseline", text: String(row.b.response ?? "") });
  const answer = rows.column("output", "response");
  for (const other of rows.epochsOf(row).slice(0, MOST_OTHERS)) {
    if (other !== row && !MISSING(other.cell(answer))) found.push({ name: distinctionOf(rows, other, [row]), text: String(other.cell(answer)) });
  }
  const target = rows.columns.findIndex(({ role, name }) => role === "own" && name === rows.names.target);
  if (target >= 0 && String(row.cell(target) ?? "").split(/\s+/).length >= LEAST_TARGET_WORDS) found.push({ name: `the target (${rows.names.target})`, text: String(row.cell(target)) });
  return found;
}

// What distinguishes a row from others with the same key: its settings, its epoch, the model that answered; else its position.
function distinctionOf(rows, row, others) {
  const parts = rows.columns.flatMap(({ role, name, key }, index) => {
    const names = isOfCombination(rows, index) || (role === "output" && key === "model");
    const differs = names && !MISSING(row.cell(index)) && others.some((other) => other.cell(index) !== row.cell(index));
    return differs ? [`${name.replace(/^axis_/, "")} ${String(row.cell(index)).slice(0, 60)}`] : [];
  });
  return parts.length > 0 ? [...new Set(parts)].join(", ") : `row ${row.i}`;
}

// A choice of the other answers, and the differences from the one that is chosen. They are computed when they are first seen.
function comparedAnswers(rows, row) {
  const answer = rows.output(row, "response");
  const others = otherAnswers(rows, row);
  if (MISSING(answer) || others.length === 0) return null;
  const place = el("div", {});
  const show = (index) => {
    const { text } = others[index];
    const unable = el("p", { class: "aside", text: "The answers are too long, or differ too much, to be compared word by word." });
    place.replaceChildren(text === String(answer) ? el("p", { class: "aside", text: "Both are equal." }) : (diffText(text, String(answer)) ?? unable));
  };
  const choice = others.length === 1
    ? el("bdi", { text: others[0].name })
    : el("select", { "aria-label": "Compare the answer with", onchange: (event) => show(Number(event.target.value)) }, others.map(({ name }, index) => el("option", { value: index, text: name })));
  const part = el("details", { class: "folded compared" }, el("summary", { text: "Compare the answer" }), el("p", { class: "aside" }, "from ", choice, " to this answer"), place);
  part.addEventListener("toggle", () => { if (part.open && place.childElementCount === 0) show(0); });
  return part;
}
