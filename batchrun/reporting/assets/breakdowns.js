// -- scores in detail, and the fields of answers ----------------------------------------------------------------------

const BAND_TITLES = {
  completion_tokens: "by length of the answer, in tokens",
  characters: "by length of the answer, in characters",
  cost_usd: "by cost",
};

// Lines of a scorer's table: its mean by length and by cost.
function bandLines(detail) {
  return (detail?.by ?? []).map(({ measure, bands }) => {
    const show = measure === "cost_usd" ? format.dollars : format.count;
    return el("tbody", { class: "bands" },
      el("tr", { class: "group-head" }, el("th", { colspan: "5", scope: "rowgroup", text: BAND_TITLES[measure] })),
      bands.map((band) => groupLine(band.least === band.most ? show(band.least) : `${show(band.least)} to ${show(band.most)}`, band)));
  });
}

function scoreBars(detail) {
  if (!detail?.bars) return null;
  return el("div", { class: "charts" }, histogram(detail.bars, { title: "Distribution of the score", show: format.percent, tick: (value) => `${Math.round(100 * value)}${NARROW_SPACE}%` }));
}

// Expected labels down, given ones across; the diagonal is right.
function confusionTable(facts) {
  if (!facts) return null;
  const { expected, given, counts } = facts;
  const heads = [...given, "other", "none"];
  const used = heads.map((_, column) => column < expected.length || counts.some((line) => line[column] > 0));
  const columns = heads.map((_, column) => column).filter((column) => used[column]);
  const right = expected.reduce((total, _, place) => total + counts[place][place], 0);
  const all = counts.flat().reduce((one, other) => one + other, 0);
  return el("details", { class: "confusion", open: true },
    el("summary", { text: `Expected and given labels: ${format.count(right)} of ${format.many(all, "row")} agree` }),
    el("div", { class: "scroll" }, el("table", {},
      el("thead", {}, el("tr", {}, el("th", { scope: "col", text: "expected" }),
        columns.map((column) => el("th", { scope: "col", class: column < given.length ? null : "aside", dir: "auto", text: heads[column].slice(0, 40) })),
        el("th", { scope: "col", class: "aside", text: "right" }))),
      el("tbody", {}, expected.map((label, line) => {
        const total = counts[line].reduce((one, other) => one + other, 0);
        return el("tr", {},
          el("th", { scope: "row", dir: "auto", text: label.slice(0, 40) }),
          columns.map((column) => {
            const cell = el("td", { class: column === line ? "right" : counts[line][column] > 0 ? "wrong" : null, text: counts[line][column] > 0 ? format.count(counts[line][column]) : EN_DASH });
            cell.style.setProperty("--share", String(total === 0 ? 0 : counts[line][column] / total));
            return cell;
          }),
          el("td", { class: "aside", text: total === 0 ? EN_DASH : format.percent(counts[line][line] / total) }));
      })))));
}

function fieldSection(facts) {
  const shown = facts.fields.filter(({ kind }) => kind === "values" || kind === "numbers");
  const others = facts.fields.filter(({ kind }) => kind === "texts" || kind === "none");
  if (facts.fields.length === 0) return null;
  const figures = shown.map((field) => (field.kind === "values" ? valueBars(field) : numberField(field)));
  const asides = others.map(({ column, kind, different, n }) => (kind === "none" ? `${column}: no value` : `${column}: ${format.count(different)} different texts in ${format.many(n, "row")}`));
  return el("section", { class: "fields" }, title("Fields", "of the answers"),
    el("div", { class: "charts" }, figures),
    asides.length === 0 ? null : el("p", { class: "aside", dir: "auto", text: asides.join(" \u00b7 ") }));
}

const missingNote = ({ n, missing }) => `${format.many(n, "row")}${missing > 0 ? `, ${format.count(missing)} without a value` : ""}`;

function valueBars(field) {
  const most = field.values[0][1];
  const listed = field.values.reduce((total, [, rows]) => total + rows, 0);
  const line = (label, rows, kind = null) => {
    const bar = el("span", { class: "value-bar", "aria-hidden": "true" });
    bar.style.width = `${(100 * Math.min(rows, most)) / most}%`;
    return el("tr", { class: kind },
      el("th", { scope: "row", dir: "auto", text: label.slice(0, 120) }),
      el("td", { class: "drawn" }, bar),
      el("td", { class: "n", text: format.count(rows) }),
      el("td", { class: "n", text: format.percent(rows / field.n) }));
  };
  return el("figure", {},
    el("figcaption", {}, el("h3", {}, el("bdi", { text: field.column })), el("p", { class: "quantiles", text: missingNote(field) })),
    el("table", { class: "values" }, el("tbody", {},
      field.values.map(([label, rows]) => line(label === "" ? "(empty)" : label, rows)),
      listed < field.n ? line(`${format.count(field.different - field.values.length)} other values`, field.n - listed, "aside") : null)));
}

function numberField(field) {
  const facts = field.distribution;
  const figure = histogram(facts, { title: field.column, show: format.number, tick: format.number, notes: [["mean", facts.mean]] });
  const [low, high] = [Math.min(...field.groups.map(({ p10 }) => p10)), Math.max(...field.groups.map(({ p90 }) => p90))];
  const columns = [...new Set(field.groups.map(({ column }) => column))];
  if (columns.length > 0) {
    figure.append(el("table", { class: "values" },
      el("thead", { class: "hidden" }, el("tr", {}, ["Group", "10th to 90th percentile", "Mean", "Rows"].map((text) => el("th", { scope: "col", text })))),
      columns.map((column) => el("tbody", {},
        el("tr", { class: "group-head" }, el("th", { colspan: "4", scope: "rowgroup" }, "by ", el("bdi", { text: column }), ": p10, median, p90, mean")),
        field.groups.filter((group) => group.column === column).map((group) => el("tr", {},
          el("th", { scope: "row", dir: "auto", text: group.label === "" ? "(empty)" : group.label.slice(0, 120) }),
          el("td", { class: "drawn", title: `${format.number(group.p10)}, ${format.number(group.p50)}, ${format.number(group.p90)}` }, intervalTrack(group.p50, group.p10, group.p90, low, high > low ? high : low + 1)),
          el("td", { class: "n", text: format.number(group.mean) }),
          el("td", { class: "n aside", text: format.many(group.n, "row") })))))));
  }
  if (field.missing > 0) figure.append(el("p", { class: "aside", text: missingNote(field) }));
  return figure;
}
