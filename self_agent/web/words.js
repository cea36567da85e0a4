// Every word the page says, in the browser's language, and times as people say them.
import en from "./en.js";
import zh from "./zh.js";

const ALL = { en, zh };

export const language = navigator.languages.map((tag) => tag.toLowerCase().split("-")[0]).find((tag) => ALL[tag]) ?? "en";
const tag = navigator.languages.find((one) => one.toLowerCase().startsWith(language)) ?? language;
document.documentElement.lang = language === "zh" ? "zh-Hans" : "en";

/** The sentence with that name; `{name}` in it becomes the value, a number as it is written here. */
export function say(name, values = {}) {
  const chosen = values.count === 1 && ALL[language][`${name}.one`] ? `${name}.one` : name;
  return ALL[language][chosen].replace(/\{(\w+)\}/g, (_, key) =>
    typeof values[key] === "number" ? number.format(values[key]) : values[key]);
}

const number = new Intl.NumberFormat(tag);
const clock = new Intl.DateTimeFormat(tag, { hour: "2-digit", minute: "2-digit" });
const date = new Intl.DateTimeFormat(tag, { weekday: "long", day: "numeric", month: "long" });
const dateAndYear = new Intl.DateTimeFormat(tag, { day: "numeric", month: "long", year: "numeric" });
const month = new Intl.DateTimeFormat(tag, { month: "long", year: "numeric" });
const all = new Intl.DateTimeFormat(tag, { dateStyle: "full", timeStyle: "short" });

/** Whole days from then to now, by the calendar here. */
function daysAgo(then) {
  const midnight = (time) => new Date(time.getFullYear(), time.getMonth(), time.getDate());
  return Math.round((midnight(new Date()) - midnight(then)) / 86_400_000);
}

export const timeOf = (text) => clock.format(new Date(text));
export const wholeTime = (text) => all.format(new Date(text));
export const dayKey = (text) => new Date(text).toDateString();

/** "Today, 16:42". */
export function dayAndTime(text) {
  const then = new Date(text);
  const ago = daysAgo(then);
  const day = ago <= 0 ? say("today") : ago === 1 ? say("yesterday")
    : (then.getFullYear() === new Date().getFullYear() ? date : dateAndYear).format(then);
  return `${day}, ${clock.format(then)}`;
}

/** The part of the list that a chat of that time is in. */
export function groupOf(text) {
  const then = new Date(text);
  const ago = daysAgo(then);
  if (ago <= 0) return say("today");
  if (ago === 1) return say("yesterday");
  if (ago <= 7) return say("lastDays", { days: 7 });
  if (ago <= 30) return say("lastDays", { days: 30 });
  return month.format(then);
}

/** What a chat is called: its title, or the first line of its first message. */
export const nameOf = (heading) => heading?.title || heading?.first_line || heading?.name || say("untitled");

const KNOWN = new Set([0, 400, 403, 404, 409, 413, 429, 500, 502, 503, 504, 507]);

/** Say what went wrong and what to do; the server's own words stand behind it. */
export function explain(error) {
  const status = error.status ?? -1;
  const kind = error.kind ?? (status === 401 ? "keyRefused" : KNOWN.has(status) ? String(status) : status > 499 ? "500" : "other");
  const detail = error.words ?? (status === -1 ? error.message : "");
  return { what: say(`error.${kind}`), remedy: say(`remedy.${kind}`), detail };
}
