// DICOM values as people read them.

/** The values of an attribute of a DICOM JSON data set (PS3.18 Annex F), by its tag. */
export function values(dataSet, tag) {
  return (dataSet?.[tag]?.Value ?? []).filter((value) => value !== null && value !== "");
}

/** The first value, or "". */
export function first(dataSet, tag) {
  return values(dataSet, tag)[0] ?? "";
}

function group(text, separator) {
  const [family = "", given = "", middle = "", prefix = "", suffix = ""] = text.split("^").map((part) => part.trim());
  const called = [prefix, given, middle].filter(Boolean).join(" ");
  return [[family, called].filter(Boolean).join(separator), suffix].filter(Boolean).join(", ");
}

/** A person's name: its alphabetic group, and the other groups as they are written (PS3.5 6.2.1). */
export function personName(dataSet, tag) {
  const name = first(dataSet, tag) || {};
  const others = [name.Ideographic, name.Phonetic].filter(Boolean).map((each) => group(each, " "));
  const alphabetic = name.Alphabetic ? group(name.Alphabetic, ", ") : "";
  return { main: alphabetic || others.shift() || "", others };
}

/** A DA value as an ISO date, which no country reads in another way. */
export function date(text) {
  const found = /^(\d{4})\.?(\d{2})\.?(\d{2})$/.exec(text);
  if (found && Number(found[2]) === 0) return "";
  return found ? found.slice(1).join("-") : text;
}

/** A TM value as hours and minutes. */
export function time(text) {
  const found = /^(\d{2}):?(\d{2})/.exec(text);
  return found ? `${found[1]}:${found[2]}` : "";
}

/** Years between two DA values, or "" when one is missing. */
export function age(birth, at) {
  if (!/^\d{8}$/.test(birth) || !/^\d{8}$/.test(at) || at < birth || !date(birth)) return "";
  return `${Math.floor((Number(at) - Number(birth)) / 10000)}\u00a0y`;
}

const SEXES = { F: "female", M: "male", O: "other" };

/** Patient's Sex as a word. */
export function sex(code) {
  return SEXES[code] ?? code;
}

/** A number and its noun. */
export function count(number, one, many = `${one}s`) {
  return `${Number(number).toLocaleString("en")} ${Number(number) === 1 ? one : many}`;
}

/** A number of bytes as people say it. */
export function size(bytes) {
  const units = ["bytes", "kB", "MB", "GB", "TB"];
  let place = 0;
  let number = bytes;
  while (number >= 1000 && place < units.length - 1) {
    number /= 1000;
    place += 1;
  }
  return `${place && number < 10 ? number.toFixed(1) : Math.round(number)}\u00a0${units[place]}`;
}
