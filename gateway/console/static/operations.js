// What administrators ask the gateway for, and what their pages are made of.
import { credentials } from "./access.js";
import { Refused } from "./dicomweb.js";
import { element } from "./elements.js";

/** The answer to a question, as JSON; throws Refused with the gateway's own words. */
export async function ask(path, parameters = {}, signal = undefined) {
  const query = new URLSearchParams(parameters).toString();
  const headers = { Accept: "application/json", ...credentials() };
  let answer;
  try {
    answer = await fetch(query ? `${path}?${query}` : path, { headers, signal });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused(0, "The gateway cannot be reached.");
  }
  const said = await answer.json().catch((error) => {
    // Whoever asked has gone, or the rest of the answer is lost.
    if (error.name === "AbortError") throw error;
    if (answer.ok) throw new Refused(0, "The gateway cannot be reached.");
    return {};
  });
  if (!answer.ok) throw new Refused(answer.status, said.detail ?? `The gateway answered ${answer.status}.`);
  return said;
}

/** A page's heading, with a line of explanation and what can be done to the whole page. */
export function heading(title, about, ...actions) {
  return element("header", "page", {},
    element("div", "", {}, element("h1", "", {}, title), element("p", "muted", {}, about)),
    actions.length ? element("div", "choices", {}, ...actions) : null);
}

/** A field of a form with its label, and a note below that. */
export function field(label, input, note = "") {
  return element("label", "", {}, label, note && element("span", "muted", {}, note), input);
}

/** A choice among values, each with what people read. */
export function choice(attributes, values) {
  return element("select", "", attributes, ...values.map(([value, text]) => element("option", "", { value }, text)));
}

/**
 * A table with a caption; each cell is text or an element. On a phone each row stands for itself, which takes the
 * table's own meaning from it in some browsers: roles say it again.
 */
export function table(caption, columns, rows) {
  const cell = (content, place) => element(place ? "td" : "th",
    "", { role: place ? "cell" : "rowheader", "data-label": columns[place], scope: place ? null : "row" },
    content === "" || content === null || content === undefined ? "–" : content);
  return element("div", "table", {}, element("table", "", { role: "table" },
    element("caption", "", {}, caption),
    element("thead", "", { role: "rowgroup" }, element("tr", "", { role: "row" }, ...columns.map((each) =>
      element("th", "", { scope: "col", role: "columnheader" }, each)))),
    element("tbody", "", { role: "rowgroup" },
      ...rows.map((cells) => element("tr", "", { role: "row" }, ...cells.map(cell))))));
}

/** A word that says how something is: "good", "bad" or "" for neither. */
export function state(text, kind = "") {
  return element("span", `state ${kind}`.trim(), {}, text);
}

/** A moment in ISO 8601 as the reader's clock has it, with the exact one behind it. */
export function moment(text) {
  if (!text) return "";
  const found = new Date(/Z$|[+-]\d\d:\d\d$/.test(text) ? text : `${text}Z`);
  return Number.isNaN(found.valueOf()) ? text
    : element("time", "", { datetime: found.toISOString(), title: found.toISOString() }, found.toLocaleString("sv"));
}

/** A dialog that tells something, and is closed. */
export function tell(title, ...content) {
  const made = element("dialog", "wide", { "aria-labelledby": "told-title", onclose: () => made.remove() },
    element("h1", "", { id: "told-title" }, title), ...content,
    element("div", "choices", {}, element("button", "quiet", { type: "button", onclick: () => made.close() }, "Close")));
  document.body.append(made);
  made.showModal();
}
