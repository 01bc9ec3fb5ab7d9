// -- two tables, or the parts of one, compared -------------------------------------------------------------------------

// Whether a difference is better or worse: only if its interval excludes 0.
function distinguished({ mean, low, high }) {
  if (mean === null) return { kind: "", note: null };
  if (low === null || high === null) return { kind: "", note: "not distinguishable: there is no interval" };
  if (low > 0) return { kind: "better", note: null };
  if (high < 0) return { kind: "worse", note: null };
  return { kind: "", note: "not distinguishable from 0" };
}

const FLIPS_LISTED = 200;
const FLIPS_PRINTED = 6; // as in page.css
let chosenPair = 0; // of several tables; it stays when the page is drawn again

function comparisonSection(facts, rows, open, showOnly, isSelection) {
  const { comparison } = facts;
  if (!comparison) return null;
  const { tables, pairings } = comparison;
  const pairs = [...new Set(pairings.map(({ first, second }) => JSON.stringify([first, second])))];
  const place = el("div", {});
  const show = () => {
    const chosen = pairings.filter(({ first, second }) => JSON.stringify([first, second]) === pairs[chosenPair]);
    place.replaceChildren(...chosen.map((pairing) => pairingBlock(pairing, rows, open, showOnly)));
  };
  chosenPair = Math.min(chosenPair, pairs.length - 1);
  show();
  const picker = pairs.length < 2 ? null : el("label", { class: "picker" }, "from, to ",
    el("select", { onchange: (event) => { chosenPair = Number(event.target.value); show(); } },
      pairs.map((pair, index) => el("option", { value: index, selected: index === chosenPair, text: JSON.parse(pair).map((name) => name.slice(0, 60)).join(" \u2192 ") }))));
  return el("section", { class: "comparison" },
    title("Comparison", isSelection ? "of all rows, whatever the filters" : null),
    el("p", { class: "about", dir: "auto" }, ...(comparison.split === null ? ["from ", el("bdi", { text: tables[0].table }), " to ", el("bdi", { text: tables[1].table })] : ["of the values of ", el("bdi", { text: comparison.split })])),
    comparison.warnings.length === 0 ? null : el("ul", { class: "notes" }, comparison.warnings.map((text) => el("li", { dir: "auto", text }))),
    comparison.split === null ? null : contenders(tables),
    tables.length > 2 ? [...new Set(pairings.map(({ scorer }) => scorer))].map((scorer) => matrix(tables.map(({ table }) => table), pairings.filter((pairing) => pairing.scorer === scorer), scorer)) : null,
    picker, place);
}

function contenders(tables) {
  return el("div", { class: "scorer-block contenders" }, tables[0].scores.map(({ scorer }) => el("table", { class: "scores" },
    el("caption", {}, el("bdi", { text: scorer }), el("small", { class: "aside", text: " on a line from 0 to 100 %; cost, median latency" })),
    el("thead", { class: "hidden" }, el("tr", {}, ["Part", "Interval as a chart", "Mean", "95 % interval", "Rows", "Cost and latency"].map((text) => el("th", { scope: "col", text })))),
    el("tbody", {}, tables.map((each) => {
      const line = groupLine(each.table, each.scores.find((score) => score.scorer === scorer));
      line.append(el("td", { class: "n costs", text: [
        each.cost_usd === null ? null : `${format.dollars(each.cost_usd)}${each.rows_with_cost < each.rows ? ` for ${format.many(each.rows_with_cost, "row")}` : ""}`,
        each.median_duration_s === null ? null : format.seconds(each.median_duration_s),
      ].filter(Boolean).join(" \u00b7 ") }));
      return line;
    })))));
}

// The score of the line minus that of the column, for every pair that was compared.
function matrix(names, pairings, scorer) {
  const found = (line, column) => {
    const forth = pairings.find(({ first, second }) => first === column && second === line);
    const back = pairings.find(({ first, second }) => first === line && second === column);
    if (forth !== undefined) return forth.difference;
    if (back === undefined) return null;
    const { mean, low, high } = back.difference;
    return { mean: mean === null ? null : -mean, low: high === null ? null : -high, high: low === null ? null : -low };
  };
  const cell = (line, column) => {
    const difference = line === column ? null : found(line, column);
    if (difference === null || difference.mean === null) return el("td", { class: "aside", text: line === column ? "" : EN_DASH });
    const { kind } = distinguished(difference);
    return el("td", { class: kind === "" ? "aside" : kind },
      el("b", { text: format.points(difference.mean) }),
      el("small", { text: difference.low === null ? "no interval" : `${format.points(difference.low)} to ${format.points(difference.high)}` }));
  };
  return el("div", { class: "scorer-block" },
    el("h3", {}, el("bdi", { text: scorer }), el("small", { class: "aside", text: " points, row minus column, with 95 % interval; in color if it excludes 0" })),
    el("table", { class: "matrix" },
      el("thead", {}, el("tr", {}, el("td", {}), names.map((name) => el("th", { scope: "col", dir: "auto", text: name.slice(0, 60) })))),
      el("tbody", {}, names.map((line) => el("tr", {}, el("th", { scope: "row", dir: "auto", text: line.slice(0, 60) }), names.map((column) => cell(line, column)))))));
}

function pairingBlock(pairing, rows, open, showOnly) {
  const { difference } = pairing;
  const reach = Math.max(0.02, ...[difference.low, difference.high, difference.mean].filter((value) => value !== null).map(Math.abs)) * 1.25;
  const shown = distinguished(difference);
  const isCorrected = pairing.corrected_p !== null && pairing.corrected_p !== pairing.p_value;
  return el("div", { class: "pairing" },
    el("h3", {}, el("bdi", { text: pairing.scorer })),
    el("p", { class: `figure ${shown.kind}` }, difference.mean === null ? EN_DASH : `${format.points(difference.mean)} points`, shown.note === null ? null : el("small", { text: ` ${shown.note}` })),
    el("div", { class: "difference" }, el("span", { "aria-hidden": "true", text: "worse" }), intervalTrack(difference.mean, difference.low, difference.high, -reach, reach, 0), el("span", { "aria-hidden": "true", text: "better" })),
    el("p", { class: "note", text: [
      pairing.means === null ? null : `${format.percent(pairing.means[0])} \u2192 ${format.percent(pairing.means[1])}`,
      `${format.interval(difference.low, difference.high, format.points)} (95${NARROW_SPACE}%)`,
      `${format.p(pairing.p_value)}${isCorrected ? `, ${format.p(pairing.corrected_p)} after Holm\u2019s correction` : ""}`, `over ${format.many(pairing.pairs, "pair")}`, difference.note,
    ].filter(Boolean).join(" \u00b7 ") }),
    differenceGroups(pairing.groups ?? {}),
    el("div", { class: "flips" },
      flips("Better", "better", pairing, rows, open, showOnly),
      flips("Worse", "worse", pairing, rows, open, showOnly)),
    sideBySide(pairing, rows, open));
}

// The differences within the groups of --by.
function differenceGroups(groups) {
  const columns = Object.entries(groups).filter(([, labels]) => Object.keys(labels).length > 1);
  if (columns.length === 0) return null;
  const ends = columns.flatMap(([, labels]) => Object.values(labels).flatMap(({ difference }) => [difference.mean, difference.low, difference.high])).filter((value) => value !== null);
  const reach = Math.max(0.02, ...ends.map(Math.abs));
  return el("table", { class: "scores differences" }, columns.map(([column, labels]) => el("tbody", {},
    el("tr", { class: "group-head" }, el("th", { colspan: "5", scope: "rowgroup" }, "by ", el("bdi", { text: column }))),
    Object.entries(labels).sort(([, one], [, other]) => other.pairs - one.pairs).slice(0, GROUPS_SHOWN).map(([label, { difference, pairs }]) => el("tr", {},
      el("th", { scope: "row", dir: "auto", text: label === "" ? "(empty)" : label.slice(0, 120) }),
      el("td", { class: "drawn" }, intervalTrack(difference.mean, difference.low, difference.high, -reach, reach, 0)),
      el("td", { class: `mean-text ${distinguished(difference).kind}`, text: difference.mean === null ? EN_DASH : format.points(difference.mean) }),
      el("td", { class: "range", text: format.interval(difference.low, difference.high, format.points) }),
      el("td", { class: "n", text: format.many(pairs, "pair") }))))));
}

function flips(name, kind, pairing, rows, open, showOnly) {
  const positions = pairing[`${kind}_rows`];
  const pairs = pairing[kind].length;
  const listed = positions.map((position) => rows.at(position)).filter((row) => row !== undefined);
  const label = flipLabels(rows, listed);
  const answer = rows.column("output", "response");
  const left = (most) => format.count(listed.length - most);
  return el("div", { class: `flip-list ${kind}` },
    el("h4", {}, el("span", { class: "dot", "aria-hidden": "true" }), pairs === positions.length ? `${name} (${format.count(pairs)})` : `${name} (${format.many(pairs, "pair")}, ${format.many(positions.length, "row")})`,
      listed.length > 0 ? el("button", { type: "button", class: "plain", text: "in the table", onclick: () => showOnly(positions) }) : null),
    el("ul", {}, listed.slice(0, FLIPS_LISTED).map((row) =>
      el("li", {}, el("button", { type: "button", class: "flip", onclick: () => open(row) },
        el("b", { text: label(row) }), " ", el("span", { dir: "auto", text: (rows.prompt(row) ?? String(row.cell(answer) ?? "")).slice(0, 160) }))))),
    listed.length > FLIPS_LISTED ? el("p", { class: "aside on-screen", text: `${left(FLIPS_LISTED)} more in the table` }) : null,
    listed.length > FLIPS_PRINTED ? el("p", { class: "aside printed", text: `${left(FLIPS_PRINTED)} more, not printed` }) : null);
}

// The key of a flipped row; of several with the same key also what distinguishes them, such as the epoch.
function flipLabels(rows, listed) {
  const sameKey = grouped(listed, (row) => row.k);
  return (row) => {
    const alike = sameKey.get(row.k).filter((each) => each !== row);
    return alike.length === 0 ? row.k.slice(0, 60) : `${row.k.slice(0, 60)} ${distinctionOf(rows, row, alike)}`;
  };
}

// -- flipped rows side by side, with the words that differ

const SIDE_ROWS = 10; // at once
const SIDE_CHARACTERS = 3_000;

function sideBySide(pairing, rows, open) {
  const answer = rows.column("output", "response");
  const text = (row) => (row === undefined ? null : String(row.cell(answer) ?? ""));
  const listed = ["worse", "better"].flatMap((kind) => (pairing[`${kind}_rows`] ?? []).map((position, place) => {
    const row = rows.at(position);
    const first = pairing[`${kind}_first`]?.[place];
    const before = first === undefined ? (row?.b?.response ?? null) : text(rows.at(first));
    return { kind, row, before, after: text(row) };
  })).filter(({ row, before }) => row !== undefined && before !== null);
  if (listed.length === 0) return null;
  const label = flipLabels(rows, listed.map(({ row }) => row));
  const body = el("tbody", {});
  const more = el("button", { type: "button", class: "plain", onclick: () => add() });
  const add = () => {
    const from = body.childElementCount;
    body.append(...listed.slice(from, from + SIDE_ROWS).map((each) => sideLine(each, rows, open, label(each.row))));
    const left = listed.length - body.childElementCount;
    more.hidden = left === 0;
    more.textContent = `Show ${format.count(Math.min(left, SIDE_ROWS))} more of ${format.count(left)}`;
  };
  const part = el("details", { class: "side" }, el("summary", { text: "Side by side, with the words that differ" }),
    el("table", {}, el("thead", {}, el("tr", {}, el("th", { scope: "col", text: "Row" }), [pairing.first, pairing.second].map((name) => el("th", { scope: "col", dir: "auto", text: name.slice(0, 80) })))), body), more);
  part.addEventListener("toggle", () => { if (part.open && body.childElementCount === 0) add(); });
  return part;
}

function sideLine({ kind, row, before, after }, rows, open, label) {
  const [old, now] = [before, after].map((text) => (text.length > SIDE_CHARACTERS ? `${text.slice(0, SIDE_CHARACTERS)} \u2026` : text));
  const parts = wordDiff(old, now);
  const side = (gone, tag, whole) => (whole === "" ? "empty" : parts === null ? whole : parts.filter((each) => each.kind !== gone).map((each) => el(each.kind === "same" ? "span" : tag, { text: each.text })));
  const target = rows.columns.findIndex(({ role, name }) => role === "own" && name === rows.names.target);
  return el("tr", {},
    el("th", { scope: "row" },
      el("button", { type: "button", class: "link", onclick: () => open(row) }, el("bdi", { text: label })), el("span", { class: `dot ${kind}`, "aria-hidden": "true" }), el("small", { text: ` ${kind}` }),
      el("p", { class: "aside", dir: "auto", text: (rows.prompt(row) ?? "").slice(0, 300) }),
      target < 0 ? null : el("p", { class: "aside", dir: "auto", text: `expected: ${String(row.cell(target) ?? "").slice(0, 200)}` })),
    el("td", {}, el("div", { class: "diff", dir: "auto" }, side("new", "del", old))),
    el("td", {}, el("div", { class: "diff", dir: "auto" }, side("gone", "ins", now))));
}
