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

function comparisonSection(facts, rows, open, showOnly, isSelection) {
  const { comparison } = facts;
  if (!comparison) return null;
  const parts = comparison.pairings.map((pairing) => {
    const { difference } = pairing;
    const reach = Math.max(0.02, ...[difference.low, difference.high, difference.mean].filter((value) => value !== null).map(Math.abs)) * 1.25;
    const shown = distinguished(difference);
    return el("div", { class: "pairing" },
      el("h3", {}, el("bdi", { text: pairing.scorer })),
      el("p", { class: `figure ${shown.kind}` }, difference.mean === null ? EN_DASH : `${format.points(difference.mean)} points`, shown.note === null ? null : el("small", { text: ` ${shown.note}` })),
      el("div", { class: "difference" }, el("span", { "aria-hidden": "true", text: "worse" }), intervalTrack(difference.mean, difference.low, difference.high, -reach, reach, 0), el("span", { "aria-hidden": "true", text: "better" })),
      el("p", { class: "note", text: [
        pairing.means === null ? null : `${format.percent(pairing.means[0])} \u2192 ${format.percent(pairing.means[1])}`,
        `${format.interval(difference.low, difference.high, format.points)} (95${NARROW_SPACE}%)`,
        format.p(pairing.p_value), `over ${format.many(pairing.pairs, "pair")}`,
      ].filter(Boolean).join(" \u00b7 ") }),
      el("div", { class: "flips" },
        flips("Better", "better", pairing.better_rows, rows, open, showOnly),
        flips("Worse", "worse", pairing.worse_rows, rows, open, showOnly)));
  });
  const [before, after] = comparison.tables;
  return el("section", { class: "comparison" },
    title("Comparison", isSelection ? "of all rows, whatever the filters" : null),
    el("p", { class: "about", dir: "auto" }, "from ", el("bdi", { text: before.table }), " to ", el("bdi", { text: after.table })),
    comparison.warnings.length === 0 ? null : el("ul", { class: "notes" }, comparison.warnings.map((text) => el("li", { dir: "auto", text }))),
    parts);
}

function flips(name, kind, positions, rows, open, showOnly) {
  const listed = positions.map((position) => rows.at(position)).filter((row) => row !== undefined);
  const answer = rows.column("output", "response");
  return el("div", { class: `flip-list ${kind}` },
    el("h4", {}, el("span", { class: "dot", "aria-hidden": "true" }), `${name} (${format.count(positions.length)})`,
      listed.length > 0 ? el("button", { type: "button", class: "plain", text: "in the table", onclick: () => showOnly(positions) }) : null),
    el("ul", {}, listed.slice(0, FLIPS_LISTED).map((row) =>
      el("li", {}, el("button", { type: "button", class: "flip", onclick: () => open(row) },
        el("b", { text: row.k.slice(0, 60) }), " ", el("span", { dir: "auto", text: (rows.prompt(row) ?? String(row.cell(answer) ?? "")).slice(0, 160) }))))),
    listed.length > FLIPS_LISTED ? el("p", { class: "aside", text: `${format.count(listed.length - FLIPS_LISTED)} more in the table` }) : null);
}
