// -- the table of all rows: only visible rows are in the document ---------------------------------------------

const ROW_PX = 38;
const CELL_CHARACTERS = 240;

class RowTable {
  constructor(rows, onOpen) {
    this.rows = rows;
    this.onOpen = onOpen;
    this.current = 0; // place among the shown rows
    this.visible = [];
    this.reading = 0; // number of rows when all are read
    this.drawn = new Map();
    this.build();
  }

  build() {
    this.searchField = el("input", {
      type: "search", id: "search", placeholder: "Search everything", "aria-label": "Search all rows", "aria-keyshortcuts": "/",
      autocomplete: "off", spellcheck: "false",
      oninput: () => this.later(() => { this.rows.search = this.searchField.value; this.refresh(true); }),
      onkeydown: (event) => {
        if (event.key === "Enter" || event.key === "ArrowDown") { event.preventDefault(); this.settle(); this.grid.focus(); }
        if (event.key === "Escape") { this.settle(); this.searchField.value = ""; this.rows.search = ""; this.refresh(true); this.grid.focus(); }
      },
    });
    this.chips = el("div", { class: "chips", role: "group", "aria-label": "Statuses shown" });
    this.counter = el("p", { class: "counter", role: "status" });
    this.noteProblem = el("p", { class: "problem lacking", role: "alert" });
    this.lacking = el("p", { class: "problem lacking", role: "alert" });
    this.filterButton = el("button", {
      type: "button", class: "plain", "aria-expanded": "false", text: "Filter columns",
      onclick: () => this.toggleFilters(),
    });
    this.menu = el("details", { class: "menu" }, el("summary", { text: "Columns" }), el("div", { class: "choices" }));
    this.menu.addEventListener("keydown", (event) => {
      if (event.key === "Escape") { this.menu.open = false; this.menu.firstElementChild.focus(); }
    });
    this.exportButton = el("button", { type: "button", class: "plain", text: "Export CSV", title: "Save the rows in the table, with all columns", onclick: () => this.onExport(this.rows.shown) });
    this.resetButton = el("button", { type: "button", class: "plain", text: "Show all", hidden: true, onclick: () => this.reset() });
    this.head = el("div", { class: "grid-head", role: "rowgroup" });
    this.body = el("div", { class: "grid-body", role: "rowgroup" });
    this.grid = el(
      "div",
      {
        class: "grid", role: "grid", tabindex: "0", "aria-label": "Rows", "aria-describedby": "grid-help",
        onkeydown: (event) => this.key(event),
        onclick: (event) => this.click(event),
      },
      this.head,
      this.body,
    );
    this.printed = el("div", { class: "printed" });
    this.element = el(
      "section",
      { class: "rows", "aria-labelledby": "rows-title" },
      el("h2", { id: "rows-title", tabindex: "-1", text: "Rows" }),
      el("div", { class: "toolbar" },
        el("label", { class: "search" }, this.searchField, el("kbd", { "aria-hidden": "true", text: "/" })),
        this.chips, this.resetButton, this.filterButton, this.menu, this.exportButton),
      this.lacking,
      this.noteProblem,
      this.counter,
      this.grid,
      el("p", { class: "hint", id: "grid-help", text: "\u2191 \u2193 to move, Enter to open a row, / to search. A column\u2019s filter accepts part of the text, =whole, !not, >5 or 5..10." }),
      this.printed,
    );
    addEventListener("beforeprint", () => this.print());
  }

  // Called when the columns are known, or have changed.
  adopt(fromTop = true) {
    this.visible = orderedColumns(this.rows).filter((index) => isUsual(this.rows, index));
    this.drawMenu();
    this.drawHead();
    this.refresh(fromTop);
  }

  later(task) {
    this.settle();
    this.waiting = { task, timer: setTimeout(() => this.settle(), this.rows.all.length > 5_000 ? 120 : 30) };
  }

  settle() {
    if (this.waiting === undefined) return;
    clearTimeout(this.waiting.timer);
    const { task } = this.waiting;
    this.waiting = undefined;
    task();
  }

  // -- the shown rows

  refresh(fromTop = false) {
    const before = this.rows.shown[this.current]?.i;
    this.rows.arrange();
    const again = fromTop || before === undefined ? -1 : this.rows.shown.findIndex((row) => row.i === before);
    this.current = Math.max(0, Math.min(again < 0 ? (fromTop ? 0 : this.current) : again, this.rows.shown.length - 1));
    this.drawChips();
    this.drawCounter();
    this.forget();
    this.layOut();
    if (fromTop) this.grid.scrollTop = 0;
    this.draw();
    this.onShown?.();
  }

  reset() {
    this.settle(); // a filter that is still waiting would be applied afterwards
    this.rows.only = null;
    this.rows.statuses = null;
    this.rows.search = this.searchField.value = "";
    this.rows.filters.clear();
    this.drawHead();
    this.refresh(true);
    this.grid.focus();
  }

  showOnly(positions) {
    this.rows.only = new Set(positions);
    this.refresh(true);
    this.element.scrollIntoView();
    this.grid.focus();
  }

  showErrors(kind) {
    const index = this.rows.column("output", "error_type");
    this.rows.only = new Set(
      this.rows.all
        .filter((row) => (index >= 0 && row.cell(index) === kind) || this.rows.statusOf(row) === kind || (row.t ?? []).some((each) => each[4] === kind))
        .map((row) => row.i),
    );
    this.refresh(true);
    this.element.scrollIntoView();
    this.grid.focus();
  }

  drawChips() {
    const { statuses } = this.rows;
    const counts = this.rows.counts();
    const order = Object.keys(STATUS_WORDS);
    const rank = (status) => (order.includes(status) ? order.indexOf(status) : order.length);
    const listed = [...counts].sort(([one], [other]) => rank(one) - rank(other)).slice(0, 12);
    const chips = listed.map(([status, count]) =>
      el(
        "button",
        {
          type: "button", class: `chip ${statusKind(status)}`, "data-status": status,
          "aria-pressed": String(statuses !== null && statuses.has(status)),
          onclick: () => this.toggleStatus(status),
        },
        el("span", { class: "dot", "aria-hidden": "true" }), `${statusWord(status)} `, el("b", { text: format.count(count) }),
      ),
    );
    const focused = this.chips.contains(document.activeElement) ? document.activeElement.dataset.status : null;
    this.chips.replaceChildren(...(listed.length > 1 || statuses !== null ? chips : []));
    if (focused !== null) chips.find((chip) => chip.dataset.status === focused)?.focus();
  }

  toggleStatus(status) {
    const chosen = new Set(this.rows.statuses ?? []);
    if (!chosen.delete(status)) chosen.add(status);
    this.rows.statuses = chosen.size === 0 ? null : chosen;
    this.refresh(true);
  }

  get isNarrowed() {
    return this.rows.search !== "" || this.rows.statuses !== null || this.rows.only !== null || this.rows.filters.size > 0;
  }

  drawCounter() {
    const { all, shown } = this.rows;
    const narrowed = this.isNarrowed;
    this.counter.textContent = narrowed ? `${format.count(shown.length)} of ${format.many(all.length, "row")}` : format.many(all.length, "row");
    if (this.rows.notes.size > 0) this.counter.textContent += ` \u00b7 ${notesText(this.rows)}`;
    if (this.reading > all.length) this.counter.textContent += ` read, of ${format.count(this.reading)}`;
    this.grid.setAttribute("aria-busy", String(this.reading > all.length));
    this.resetButton.hidden = !narrowed;
  }

  // -- head, filters, columns

  drawHead() {
    const { order, keyColumn } = this.rows;
    const key = keyColumn < 0 ? "row" : keyColumn;
    const header = (index, name, numeric) =>
      el(
        "div",
        { class: `cell${numeric ? " number" : ""}`, role: "columnheader", "aria-sort": order.column !== index ? "none" : order.falling ? "descending" : "ascending" },
        el("button", { type: "button", title: name, onclick: () => this.sortBy(index) },
          el("span", { class: "name", text: name.slice(0, 80) }),
          el("span", { class: "arrow", "aria-hidden": "true", text: order.column !== index ? "" : order.falling ? "\u2193" : "\u2191" })),
      );
    const names = el("div", { class: "row", role: "row" },
      header(key, this.rows.names.key ?? "row", false),
      this.visible.map((index) => header(index, this.rows.columns[index].name, this.rows.isNumber(index))));
    const children = [names];
    if (this.filterButton.getAttribute("aria-expanded") === "true") {
      children.push(el("div", { class: "row filters", role: "row" }, keyColumn < 0 ? el("div", { class: "cell", role: "gridcell" }) : this.filterField(keyColumn), this.visible.map((index) => this.filterField(index))));
    }
    this.head.replaceChildren(...children);
    this.grid.setAttribute("aria-colcount", String(this.visible.length + 1));
    const widths = ["row", ...this.visible].map((index) => columnWidth(this.rows, index));
    this.grid.style.setProperty("--columns", widths.map(([least, share]) => (share === 0 ? `${Math.round(least)}px` : `minmax(${least}px, ${share}fr)`)).join(" "));
    this.grid.style.setProperty("--least", `${widths.reduce((sum, [least]) => sum + least, 16)}px`);
  }

  filterField(index) {
    const field = el("input", {
      type: "text", value: this.rows.filters.get(index) ?? "", placeholder: this.rows.isNumber(index) ? ">, <, a..b" : "contains",
      "aria-label": `Filter ${this.rows.columns[index].name}`, autocomplete: "off", spellcheck: "false",
      oninput: () => this.later(() => {
        if (field.value === "") this.rows.filters.delete(index);
        else this.rows.filters.set(index, field.value);
        this.refresh(true);
      }),
      onkeydown: (event) => {
        event.stopPropagation();
        if (event.key === "Enter" || event.key === "ArrowDown") { event.preventDefault(); this.settle(); this.grid.focus(); }
      },
    });
    return el("div", { class: "cell", role: "gridcell" }, field);
  }

  toggleFilters() {
    const open = this.filterButton.getAttribute("aria-expanded") !== "true";
    this.filterButton.setAttribute("aria-expanded", String(open));
    if (!open) {
      this.settle();
      this.rows.filters.clear();
    }
    this.drawHead();
    this.refresh(true);
    if (open) this.head.querySelector("input")?.focus();
  }

  drawMenu() {
    const choices = orderedColumns(this.rows).map((index) =>
      el("label", {},
        el("input", {
          type: "checkbox", checked: this.visible.includes(index),
          onchange: (event) => {
            const chosen = new Set(this.visible);
            if (event.target.checked) chosen.add(index);
            else chosen.delete(index);
            this.visible = orderedColumns(this.rows).filter((each) => chosen.has(each));
            this.drawHead();
            this.forget();
            this.draw();
          },
        }),
        el("span", { text: this.rows.columns[index].name.slice(0, 80) })),
    );
    this.menu.lastElementChild.replaceChildren(...choices);
  }

  sortBy(column) {
    const { order } = this.rows;
    if (order.column !== column) this.rows.order = { column, falling: false };
    else this.rows.order = order.falling ? { column: null, falling: false } : { column, falling: true };
    const place = [...this.head.querySelectorAll("button")].indexOf(document.activeElement);
    this.drawHead();
    this.refresh(true);
    this.head.querySelectorAll("button")[place]?.focus();
  }

  // -- the visible rows

  layOut() {
    const headPx = this.head.offsetHeight || ROW_PX;
    const options = {
      count: this.rows.shown.length,
      getScrollElement: () => this.grid,
      estimateSize: () => ROW_PX,
      overscan: 8,
      scrollMargin: headPx,
      scrollPaddingStart: headPx,
      scrollToFn: vendor.elementScroll,
      observeElementRect: vendor.observeElementRect,
      observeElementOffset: vendor.observeElementOffset,
      onChange: () => this.draw(),
    };
    if (this.virtualizer === undefined) {
      this.virtualizer = new vendor.Virtualizer(options);
      this.virtualizer._didMount();
    } else {
      this.virtualizer.setOptions(options);
    }
    this.virtualizer._willUpdate();
    this.virtualizer.measure();
    this.body.style.height = `${this.virtualizer.getTotalSize()}px`;
    this.grid.setAttribute("aria-rowcount", String(this.rows.shown.length + 1));
  }

  forget() {
    this.drawn.clear();
    this.body.replaceChildren();
  }

  draw() {
    if (this.virtualizer === undefined) return;
    const margin = this.virtualizer.options.scrollMargin;
    const places = new Map(this.virtualizer.getVirtualItems().map((item) => [item.index, item.start - margin]));
    for (const [place, node] of this.drawn) {
      if (!places.has(place)) {
        node.remove();
        this.drawn.delete(place);
      }
    }
    for (const [place, top] of places) {
      if (this.drawn.has(place) || place >= this.rows.shown.length) continue;
      const node = this.drawRow(this.rows.shown[place], place);
      node.style.transform = `translateY(${top}px)`;
      this.drawn.set(place, node);
      this.body.append(node);
    }
    this.mark();
  }

  drawRow(row, place) {
    return el("div", { class: "row", role: "row", id: `row-${place}`, "data-place": place, "aria-rowindex": place + 2 },
      el("div", { class: "cell key", role: "rowheader", text: row.k.slice(0, CELL_CHARACTERS) }),
      this.visible.map((index) => this.drawCell(row, index)));
  }

  drawCell(row, index) {
    const column = this.rows.columns[index];
    const cell = row.cell(index);
    if (index === this.rows.status) return el("div", { class: "cell", role: "gridcell" }, statusPill(cell));
    if (column.key === "rating" && column.role === "note" && !MISSING(cell)) {
      const { stale } = this.rows.notes.get(row.i);
      return el("div", { class: `cell ${stale ? "stale" : cell}`, role: "gridcell", title: stale ? "about an earlier answer" : null, text: cell });
    }
    const numeric = this.rows.isNumber(index) && !MISSING(cell);
    const node = el("div", { class: `cell${numeric ? " number" : ""}`, role: "gridcell", text: cellText(column, cell) });
    if (column.role === "score" && !MISSING(cell)) node.classList.add(cell >= 1 ? "right" : cell <= 0 ? "wrong" : "partly");
    return node;
  }

  // The notes have changed: rows stay where they are, even if a filter would leave them out by now.
  redraw() {
    this.drawCounter();
    this.forget();
    this.draw();
  }

  mark() {
    for (const [place, node] of this.drawn) node.classList.toggle("current", place === this.current);
    for (const [place, node] of this.drawn) node.setAttribute("aria-selected", String(place === this.current));
    if (this.drawn.has(this.current)) this.grid.setAttribute("aria-activedescendant", `row-${this.current}`);
    else this.grid.removeAttribute("aria-activedescendant");
  }

  // -- keys and clicks

  go(place) {
    this.current = Math.max(0, Math.min(place, this.rows.shown.length - 1));
    this.virtualizer.scrollToIndex(this.current, { align: "auto" });
    this.draw();
    return this.rows.shown[this.current];
  }

  goTo(position) {
    const place = this.rows.shown.findIndex((row) => row.i === position);
    if (place >= 0) this.go(place);
  }

  key(event) {
    if (event.target !== this.grid || event.ctrlKey || event.metaKey || event.altKey) return;
    const page = Math.max(1, Math.floor((this.grid.clientHeight - this.head.offsetHeight) / ROW_PX) - 1);
    const steps = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -Infinity, End: Infinity };
    if (Object.hasOwn(steps, event.key)) {
      event.preventDefault();
      const row = this.go(Math.max(-1, Math.min(this.current + steps[event.key], this.rows.shown.length)));
      if (row !== undefined) this.onOpen(row, { ifOpen: true });
    } else if ((event.key === "Enter" || event.key === " ") && this.rows.shown.length > 0) {
      event.preventDefault();
      this.onOpen(this.rows.shown[this.current], {});
    }
  }

  click(event) {
    const node = event.target.closest("[data-place]");
    if (node === null || String(getSelection()) !== "") return;
    this.current = Number(node.dataset.place);
    this.mark();
    this.onOpen(this.rows.shown[this.current], { keepFocus: true });
  }

  // The printed page has the first shown rows and the most informative columns.
  print() {
    const columns = this.visible.filter((index) => {
      const { role, key } = this.rows.columns[index];
      return role !== "output" || key === "status" || key === "response";
    });
    this.printed.replaceChildren(...printedTable(this.rows, columns));
  }
}

function cellText(column, cell) {
  if (MISSING(cell)) return "";
  if (typeof cell === "number" && column.role !== "own") {
    if (column.key === "cost_usd") return format.dollars(cell);
    if (column.key === "duration_s") return format.seconds(cell);
    return format.number(cell);
  }
  if (column.role === "output" && column.key === "completed_at") return format.moment(cell).slice(0, 19);
  return String(cell).slice(0, CELL_CHARACTERS);
}
