// The last associations: who called, what was asked for, how it ended.
import { element } from "./elements.js";
import { moment, state, table } from "./operations.js";
import { count } from "./text.js";

const COLUMNS = ["Calling AE", "Called AE", "Began", "Took", "Contexts", "Asked for", "Ended"];
const FIRST = 25;

/** Makes the table anew when there is another one; what the reader has opened stays open. */
export function lastAssociations() {
  let isWhole = false;
  let latest = null;
  const opened = new Set();
  const made = element("div", "found");

  function of(associations) {
    const first = associations[0]?.requestId ?? "";
    if (first === latest) return made;
    latest = first;
    return show(associations);
  }

  function show(associations) {
    const hosts = new Set(associations.map((each) => each.host)).size;
    const shown = isWhole ? associations : associations.slice(0, FIRST);
    const left = associations.length - shown.length;
    made.replaceChildren(
      table("Last associations", COLUMNS, shown.length ? shown.map((each) => row(each, hosts > 1, opened)) : [["none yet"]]),
      ...(left ? [element("button", "quiet", { type: "button", onclick: () => { isWhole = true; show(associations); } },
        `Show ${left.toLocaleString("en")} more`)] : []));
    return made;
  }

  return { of };
}

function row(each, isOneOfHosts, opened) {
  const { contexts, operations } = each;
  return [
    element("div", "", {}, each.calling,
      element("div", "muted", {}, `from ${each.address}`),
      each.principal && each.principal !== each.calling ? element("div", "muted", {}, `as ${each.principal}`) : ""),
    element("div", "", {}, each.called, isOneOfHosts ? element("div", "muted", {}, `on ${each.host}`) : ""),
    moment(each.began),
    took(each.seconds),
    contexts.proposed ? element("div", "", {}, `${contexts.accepted} of ${contexts.proposed}`, refused(each, opened)) : "",
    operations.length ? element("div", "", {}, ...operations.map((of) => element("div", "", {},
      `${of.count.toLocaleString("en")} ${of.operation}`,
      of.failed ? element("span", "", {}, " ", state(`${of.failed.toLocaleString("en")} failed`, "bad")) : ""))) : "",
    element("div", "", {}, state(each.outcome, each.outcome === "released" ? "good" : "bad"),
      each.detail ? element("div", "muted", {}, each.detail) : ""),
  ];
}

function refused({ requestId, contexts: { proposed, accepted, notAccepted } }, opened) {
  const left = proposed - accepted;
  if (!left) return "";
  const toggled = (event) => opened[event.target.open ? "add" : "delete"](requestId);
  return element("details", "muted", { open: opened.has(requestId), ontoggle: toggled }, element("summary", "", {}, `${count(left, "context")} not accepted`),
    ...notAccepted.map((each) => element("div", "", {}, each)));
}

function took(seconds) {
  if (seconds < 60) return `${seconds.toFixed(seconds < 1 ? 2 : 1)}\u00a0s`;
  const minutes = Math.floor(seconds / 60);
  return minutes < 60 ? `${minutes}\u00a0min ${Math.round(seconds % 60)}\u00a0s` : `${Math.floor(minutes / 60)}\u00a0h ${minutes % 60}\u00a0min`;
}
