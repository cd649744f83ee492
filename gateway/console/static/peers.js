// The peers: where they listen, when they were last here, what went wrong, and whether they answer.
import { change } from "./access.js";
import { element } from "./elements.js";
import { ask, heading, moment, state, table } from "./operations.js";

const COLUMNS = ["AE title", "Listens at", "Last here", "Last sent to it", "Last failure", "C-ECHO"];

/** Show the page in `place`; `failed` is told what leaves nothing to show. */
export function show(place, failed) {
  const controller = new AbortController();
  const list = element("div", "found", {}, element("p", "status", { role: "status" }, "Loading peers"));
  const load = () => ask("admin/peers", {}, controller.signal).then((found) => list.replaceChildren(...told(found)))
    .catch((error) => { if (error.name !== "AbortError") failed(error); });
  place.replaceChildren(
    heading("Peers", "The peers of the settings and the policy, and whoever else came, as the last records of the audit trail have it.",
      element("button", "quiet", { type: "button", onclick: load }, "Refresh")),
    list);
  load();
  return () => controller.abort();
}

function told({ aeTitle, peers }) {
  if (!peers.length) {
    return [element("p", "muted", {},
      "Nobody has come yet. Destinations stand in dimse.destinations of the settings, who may come in the policy file.")];
  }
  return [
    table(`As ${aeTitle}, this gateway has to do with`, COLUMNS, peers.map((peer) => [
      title(peer),
      peer.listens ? element("div", "place", {}, `${peer.listens.host}:${peer.listens.port}`,
        element("div", "muted", {}, peer.listens.tls ? "over TLS" : "")) : "",
      peer.contacts.length ? element("div", "", {}, ...peer.contacts.map((each) =>
        element("div", "", {}, moment(each.time), ` ${each.what} `, element("span", "muted", {}, `from ${each.address}`)))) : "",
      peer.sent ? element("div", "", {}, moment(peer.sent.time), ` ${peer.sent.what}`) : "",
      failures(peer),
      peer.listens ? verification(peer) : "",
    ])),
  ];
}

function title({ aeTitle, principals, listens }) {
  const unknown = !principals.length && !listens;
  return element("div", "", {}, aeTitle,
    element("div", "muted", {}, principals.length ? `in the policy: ${principals.join(", ")}` : unknown ? "not by name in the policy" : ""));
}

function failures({ contacts }) {
  const found = contacts.filter((each) => each.failed);
  return found.length ? element("div", "", {}, ...found.map((each) =>
    element("div", "", {}, moment(each.failed), ` ${each.failure}`))) : "";
}

/** The last answer, and a button that asks anew. */
function verification({ aeTitle, verified }) {
  const said = element("div", "", { role: "status" });
  if (verified) {
    said.append(state(verified.answers ? "answers" : "no answer", verified.answers ? "good" : "bad"), " ", moment(verified.time),
      verified.answers ? "" : element("div", "", {}, verified.detail));
  }
  async function verify() {
    button.disabled = true;
    said.replaceChildren("Asking…");
    try {
      const found = await change(`admin/peers/${encodeURIComponent(aeTitle)}/echo`, {});
      said.replaceChildren(...result(found));
    } catch (error) {
      said.replaceChildren(state("not asked", "bad"), element("div", "", {}, error.message));
    } finally {
      button.disabled = false;
      // What is disabled loses the focus; who has gone on meanwhile keeps it.
      if (document.activeElement === document.body) button.focus();
    }
  }
  const button = element("button", "quiet", { type: "button", onclick: verify, "aria-label": `Verify ${aeTitle} by C-ECHO` }, "Verify");
  return element("div", "verify", {}, button, said);
}

function result({ answers, detail, advice, associatedSeconds, answeredSeconds }) {
  if (answers) {
    return [state("answers", "good"),
      ` association in ${milliseconds(associatedSeconds)}, C-ECHO in ${milliseconds(answeredSeconds)}`];
  }
  return [state("no answer", "bad"), element("div", "", {}, detail), advice ? element("div", "muted", {}, advice) : ""];
}

const milliseconds = (seconds) => `${(seconds * 1000).toFixed(1)}\u00a0ms`;
