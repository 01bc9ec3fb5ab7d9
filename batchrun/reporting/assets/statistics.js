// -- means with intervals, as intervals.py, statistics.py and probability.py compute them -----------------------------

const TAIL = 0.025; // of each side of a 95 % interval
const Z = 1.959963984540054;
const NO_SPREAD = 1e-12;

// Γ(a + 1/2) / Γ(a): the series of dlmf.nist.gov/5.11#E13 for large a, and steps down from there.
function gammaRatio(a) {
  let factor = 1;
  let large = a;
  for (; large < 100; large += 1) factor *= large / (large + 0.5);
  const z = 1 / large;
  return factor * Math.sqrt(large) * (1 - z / 8 + z ** 2 / 128 + (5 * z ** 3) / 1024 - (21 * z ** 4) / 32768 - (399 * z ** 5) / 262144);
}

// The continued fraction of I_x(a, b), by Lentz's method.
function betaFraction(a, b, x) {
  const tiny = 1e-300;
  let c = 1;
  let d = 1 / (1 - ((a + b) * x) / (a + 1));
  let value = d;
  for (let m = 1; ; m += 1) {
    for (const numerator of [(m * (b - m) * x) / ((a + 2 * m - 1) * (a + 2 * m)), (-(a + m) * (a + b + m) * x) / ((a + 2 * m) * (a + 2 * m + 1))]) {
      d = 1 / (1 + numerator * d || tiny);
      c = 1 + numerator / c || tiny;
      value *= c * d;
    }
    if (Math.abs(c * d - 1) <= 2e-15) return value;
  }
}

// The probability that Student's t is above `t`.
function studentTail(t, freedom) {
  if (t === 0) return 0.5;
  const a = freedom / 2;
  const square = (t * t) / freedom;
  const x = 1 / (1 + square);
  const complement = square / (1 + square);
  const factor = Math.exp(-a * Math.log1p(square)) * Math.sqrt(complement / Math.PI) * gammaRatio(a);
  if (x < (a + 1) / (a + 2.5)) return (factor * betaFraction(a, 0.5, x)) / a / 2;
  return (1 - (factor * betaFraction(0.5, a, complement)) / 0.5) / 2;
}

// The value that Student's t exceeds with probability `tail`, by Newton's steps from below.
function studentQuantile(tail, freedom) {
  const a = freedom / 2;
  const highest = gammaRatio(a) / Math.sqrt(Math.PI * freedom);
  for (let t = 0; ; ) {
    const density = highest * Math.exp(-(a + 0.5) * Math.log1p((t * t) / freedom));
    const step = (studentTail(t, freedom) - tail) / density;
    t += step;
    if (step <= 1e-15 * t) return t;
  }
}

const sum = (values) => values.reduce((total, value) => total + value, 0);

// How uncertain the mean is, given the units that are independent: rows, or clusters of rows.
function spreadOf(values, clusters) {
  const mean = sum(values) / values.length;
  let deviations = values.map((value) => value - mean);
  let sizes = values.map(() => 1);
  if (clusters !== null) {
    const units = new Map();
    deviations.forEach((deviation, place) => {
      const unit = units.get(clusters[place]) ?? [0, 0];
      units.set(clusters[place], [unit[0] + deviation, unit[1] + 1]);
    });
    deviations = [...units.values()].map(([deviation]) => deviation);
    sizes = [...units.values()].map(([, size]) => size);
  }
  const units = sizes.length;
  const evenUnits = values.length ** 2 / sum(sizes.map((size) => size ** 2));
  if (units === 1) return { units, evenUnits, error: null };
  const square = sum(deviations.map((each) => each ** 2));
  const error = Math.sqrt((units / (units - 1)) * square) / values.length;
  if (error <= NO_SPREAD) return { units, evenUnits, error: 0 };
  const kurtosis = (units * sum(deviations.map((each) => each ** 4))) / square ** 2;
  const freedom = Math.max(1, evenUnits - 1);
  const tailFreedom = Math.max(1, Math.min(freedom, units / Math.max(kurtosis - 1, NO_SPREAD)));
  return { units, evenUnits, error, freedom, tailFreedom, skewness: sum(deviations.map((each) => each ** 3)) / square ** 1.5 };
}

function wilson(mean, n, quantile = Z) {
  const square = quantile ** 2;
  const centre = (mean * n + square / 2) / (n + square);
  const reach = (quantile / (n + square)) * Math.sqrt(mean * (1 - mean) * n + square / 4);
  return [mean > 0 ? Math.max(0, centre - reach) : 0, mean < 1 ? Math.min(1, centre + reach) : 1];
}

function scoreInterval(mean, { units, evenUnits, error, freedom, tailFreedom, skewness }) {
  if (!error) return wilson(mean, units);
  const effective = (mean * (1 - mean)) / error ** 2;
  let [low, high] = wilson(mean, effective, studentQuantile(TAIL, freedom));
  const [tailLow, tailHigh] = wilson(mean, effective, studentQuantile(TAIL, tailFreedom));
  const [lastLow, lastHigh] = wilson(mean, Math.min(effective, evenUnits));
  if (skewness <= NO_SPREAD) low = Math.min(low, Math.max(tailLow, lastLow));
  if (skewness >= -NO_SPREAD) high = Math.max(high, Math.min(tailHigh, lastHigh));
  return [low, high];
}

// Why an interval is not exact, as intervals.py says it.
function caution({ units, evenUnits, error }, isClustered) {
  const kind = isClustered ? "clusters" : "rows";
  if (!error) return `${units === 1 ? `a single ${kind.slice(0, -1)}` : `the ${format.count(units)} ${kind} do not vary: each`} counts as one right or wrong row`;
  if (units < 10) return `few ${kind}: the interval may be too narrow or too wide`;
  if (evenUnits < Math.max(10, units / 2)) return "a few large clusters decide: the interval may be too narrow or too wide";
  return null;
}

// The mean of scores from 0 to 1 with its 95 % interval.
function estimate(values, clusters = null) {
  const n = values.length;
  if (n === 0) return { n, mean: null, low: null, high: null, note: null };
  const mean = sum(values) / n;
  const repeated = clusters !== null && new Set(clusters).size < n;
  const isBinary = values.every((value) => value === 0 || value === 1);
  if (!repeated && isBinary) {
    const [low, high] = wilson(mean, n);
    return { n, mean, low, high, note: null };
  }
  const spread = spreadOf(values, repeated ? clusters : null);
  const [low, high] = scoreInterval(mean, spread);
  return { n, mean, low, high, note: caution(spread, repeated) };
}

// -- distributions, as distributions.py computes them -----------------------------------------------------------------

const BARS = 40;
const LONG_TAIL = 4;

// By linear interpolation, of sorted values.
function quantile(sorted, share) {
  const place = (sorted.length - 1) * share;
  const below = Math.floor(place);
  const part = place - below;
  const low = sorted[below];
  const high = sorted[Math.min(below + 1, sorted.length - 1)];
  return part >= 0.5 ? high - (high - low) * (1 - part) : low + (high - low) * part;
}

function niceStep(least) {
  const power = 10 ** Math.floor(Math.log10(least));
  return [1, 2, 2.5, 5, 10].map((factor) => factor * power).find((step) => step >= least * (1 - 1e-9));
}

function distribution(values, isWhole = false) {
  const sorted = Float64Array.from(values).sort();
  const [p50, p90, p99] = [0.5, 0.9, 0.99].map((share) => quantile(sorted, share));
  const [low, high] = [sorted[0], sorted[sorted.length - 1]];
  const end = p99 > 0 && high > LONG_TAIL * p99 ? p99 * 1.25 : high;
  let step = end > low ? niceStep((end - low) / BARS) : isWhole ? 1 : Math.abs(low) / 10 || 1;
  if (isWhole) step = Math.max(1, step);
  const first = Math.floor(low / step);
  const bars = Math.max(1, isWhole ? Math.floor(end / step) - first + 1 : Math.ceil(end / step - 1e-9) - first);
  const last = (first + bars) * step;
  const counts = new Array(bars).fill(0);
  let beyond = 0;
  for (const value of sorted) {
    if (high > end && value > last) beyond += 1;
    else counts[Math.min(bars - 1, Math.max(0, Math.floor(value / step) - first))] += 1;
  }
  return {
    n: sorted.length, mean: sum(sorted) / sorted.length, min: low, max: high, p50, p90, p99,
    bars: counts.map((count, place) => [(first + place) * step, (first + place + 1) * step, count]), beyond,
  };
}
