// -- the address of an open row: #row=KEY, and &at=POSITION if several rows have the key -----------------------------

class RowLink {
  constructor(rows) {
    this.rows = rows;
  }

  fragment(row) {
    const parts = new URLSearchParams({ row: row.id });
    if (this.rows.withId(row.id).length > 1) parts.set("at", row.i);
    return `#${parts}`;
  }

  address(row) {
    return location.href.split("#")[0] + this.fragment(row);
  }

  // {key, row} of the address; null if it names no row, and row undefined if there is no such row.
  named() {
    const parts = new URLSearchParams(location.hash.slice(1));
    const key = parts.get("row");
    if (key === null) return null;
    const found = this.rows.withId(key);
    return { key, row: found.find((row) => String(row.i) === parts.get("at")) ?? found[0] };
  }

  // The browser goes back from a row to the state before it; steps from row to row replace each other.
  opened(row, isStep) {
    this.go(this.fragment(row), isStep);
  }

  closed() {
    if (this.named() !== null) this.go(location.pathname + location.search, false);
  }

  go(address, replace) {
    if (address === location.hash) return;
    try {
      if (replace) history.replaceState(null, "", address);
      else history.pushState(null, "", address);
    } catch {
      // The frame of a notebook has no address of its own.
    }
  }
}
