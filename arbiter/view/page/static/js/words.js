// Numbers and words for people.

/** @param {number | null | undefined} value @param {number} [digits] */
export const percent = (value, digits = 1) =>
  value === null || value === undefined ? "–" : `${(value * 100).toFixed(digits)} %`;

/** @param {number | null | undefined} value */
export const whole = (value) => (value === null || value === undefined ? "–" : Math.round(value).toLocaleString("en"));

/** @param {number} number @param {string} word @param {string} [many] */
export const count = (number, word, many = `${word}s`) =>
  `${number.toLocaleString("en")} ${number === 1 ? word : many}`;

/** @param {number | null | undefined} value A short form for axes and tables: 1.2 M. */
export function compact(value) {
  if (value === null || value === undefined) return "–";
  if (Math.abs(value) < 10_000) return whole(value);
  return new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 3 }).format(value);
}

/** @param {number | null | undefined} value */
export function seconds(value) {
  if (value === null || value === undefined) return "–";
  if (value < 0.0995) return `${Math.round(value * 1000)} ms`;
  if (value < 99.5) return `${value.toFixed(value < 9.95 ? 2 : 1)} s`;
  if (value < 3600) return `${Math.floor(value / 60)} min ${Math.round(value % 60)} s`;
  return `${Math.floor(value / 3600)} h ${Math.round((value % 3600) / 60)} min`;
}

/** @param {number} value Seconds, on an axis. */
export const clock = (value) =>
  value < 120
    ? `${+value.toFixed(2)} s`
    : value < 7200
      ? `${+(value / 60).toFixed(1)} min`
      : `${+(value / 3600).toFixed(1)} h`;

/** @param {number | null | undefined} value */
export function score(value) {
  if (value === null || value === undefined) return "–";
  if (value > 0 && value < 0.001) return "< 0.001";
  return value < 1 && value > 0.999 ? "> 0.999" : value.toFixed(3);
}

/** @param {number | null | undefined} epoch Seconds since 1970. */
export function moment(epoch) {
  if (epoch === null || epoch === undefined) return "–";
  return new Date(epoch * 1000).toISOString().replace("T", " ").slice(0, 16);
}

/** @param {string | null | undefined} name */
export const spaced = (name) => (name ?? "").replaceAll("_", " ");

/** @param {string} id @param {number | null | undefined} sample */
export const label = (id, sample) => {
  const named = id.trim() ? id : "(blank id)";
  return sample ? `${named} #${sample}` : named;
};
