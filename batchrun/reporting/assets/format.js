// -- text and elements ---------------------------------------------------------------------------------------

// An element with attributes and children. Strings become text nodes: nothing here makes markup of strings.
function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name === "text") node.textContent = value;
    else node.setAttribute(name, value === true ? "" : String(value));
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return node;
}

const NARROW_SPACE = "\u202f";
const MINUS = "\u2212";
const EN_DASH = "\u2013";
const whole = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });
const compact = new Intl.NumberFormat("en-US", { notation: "compact", maximumFractionDigits: 1 });

const format = {
  count: (number) => whole.format(number),

  short: (number) => (Math.abs(number) < 10_000 ? whole.format(number) : compact.format(number)),

  many: (number, one, several = `${one}s`) => `${whole.format(number)} ${number === 1 ? one : several}`,

  number(value) {
    if (Number.isInteger(value)) return whole.format(value);
    return new Intl.NumberFormat("en-US", { maximumSignificantDigits: 4 }).format(value);
  },

  percent: (share) => (share === null ? EN_DASH : `${(100 * share).toFixed(1)}${NARROW_SPACE}%`),

  points(share) {
    const text = (100 * Math.abs(share)).toFixed(1);
    return `${share < 0 ? MINUS : "+"}${text}`;
  },

  interval(low, high, form = format.percent) {
    return low === null || high === null ? "no interval" : `${form(low)} to ${form(high)}`;
  },

  p(value) {
    if (value === null) return `p ${EN_DASH}`;
    return value < 0.0001 ? "p < 0.0001" : `p = ${value.toFixed(4)}`;
  },

  dollars(value) {
    if (value === 0) return "$0";
    const digits = Math.abs(value) >= 100 ? 0 : Math.abs(value) >= 1 ? 2 : Math.min(8, 2 - Math.floor(Math.log10(Math.abs(value))));
    return `$${new Intl.NumberFormat("en-US", { minimumFractionDigits: Math.min(2, digits), maximumFractionDigits: digits }).format(value)}`;
  },

  seconds(value) {
    if (value < 0.9995) return `${Math.round(value * 1000)} ms`;
    if (value < 99.95) return `${value.toFixed(value < 9.995 ? 2 : 1)} s`;
    const minutes = Math.round(value / 60);
    if (minutes < 120) return `${Math.floor(value / 60)} min ${String(Math.floor(value % 60)).padStart(2, "0")} s`;
    const hours = Math.floor(minutes / 60);
    return hours < 72 ? `${hours} h ${String(minutes % 60).padStart(2, "0")} min` : `${Math.round(hours / 24)} days`;
  },

  moment(text) {
    const time = new Date(text);
    if (Number.isNaN(time.getTime())) return text;
    return `${time.toISOString().slice(0, 19).replace("T", " ")} UTC`;
  },

  measure(unit) {
    return { USD: format.dollars, s: format.seconds, tokens: format.count }[unit];
  },

  // On axes: no more digits than needed.
  tick(unit) {
    const seconds = (value) => (value < 1 ? `${Math.round(value * 1000)} ms` : `${Number(value.toFixed(2))} s`);
    const tokens = (value) => (Number.isInteger(value) ? format.short(value) : "");
    return { USD: format.dollars, s: seconds, tokens }[unit];
  },
};

const STATUS_WORDS = {
  completed: "completed",
  incomplete: "incomplete",
  failed: "failed",
  expired: "expired",
  cancelled: "cancelled",
  in_flight: "in flight",
  pending: "pending",
};
const STATUS_KIND = {
  completed: "good",
  incomplete: "warn",
  failed: "bad",
  expired: "bad",
  cancelled: "bad",
  in_flight: "busy",
  pending: "idle",
};

const statusWord = (status) => (Object.hasOwn(STATUS_WORDS, status) ? STATUS_WORDS[status] : status);
const statusKind = (status) => (Object.hasOwn(STATUS_KIND, status) ? STATUS_KIND[status] : "idle");
const statusPill = (status) => el("span", { class: `pill ${statusKind(status)}`, text: statusWord(status) });
