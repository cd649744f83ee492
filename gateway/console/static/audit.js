// The audit trail: who did what, when, to which studies, and whether the trail is as it was recorded.
import { element } from "./elements.js";
import { ask, choice, field, heading, moment, state, table } from "./operations.js";
import { count } from "./text.js";

const COLUMNS = ["When", "Who", "Did what", "Outcome", "About"];
const ACTIONS = [
  "search", "read", "read_deidentified", "render", "download", "store", "delete", "share", "echo", "associate",
  "worklist", "perform", "schedule", "authenticate", "login", "logout", "admin", "audit_read", "export", "reidentify", "erase", "hold", "retention",
  "transition", "commitment", "policy", "configure",
];
const OUTCOMES = ["allowed", "denied", "break-glass", "refused", "stored", "new version", "duplicate", "deleted"];
const WRONG = new Set(["denied", "refused", "break-glass", "release refused"]);
const DAY_MS = 86_400_000;

/** Show the page in `place`; `failed` is told what leaves nothing to show. */
export function show(place, failed) {
  const controller = new AbortController();
  const inputs = {
    since: element("input", "", { type: "date", max: "9999-12-31" }),
    until: element("input", "", { type: "date", max: "9999-12-31" }),
    principal: text({ maxlength: 64 }),
    action: element("input", "", { list: "audit-actions", maxlength: 64, autocomplete: "off" }),
    outcome: element("input", "", { list: "audit-outcomes", maxlength: 64, autocomplete: "off" }),
    address: text({ maxlength: 64 }),
    patient: text({ maxlength: 64 }),
    issuer: text({ maxlength: 64 }),
    study: text({ maxlength: 64, pattern: "[0-9.]+", inputmode: "decimal" }),
  };
  const said = element("p", "muted", { role: "status" });
  const found = element("div", "found");
  const more = element("button", "quiet more", { type: "button", hidden: true }, "Show more");
  let asked = {};
  let next = null;
  let records = [];
  let turn = 0;

  function question() {
    const given = Object.entries(inputs).map(([name, input]) => [name, input.value.trim()]).filter(([, value]) => value);
    const wanted = Object.fromEntries(given);
    // The day that is named is meant too; the trail takes times before.
    if (wanted.until) wanted.until = new Date(Date.parse(wanted.until) + DAY_MS).toISOString().slice(0, 10);
    return wanted;
  }

  async function load(fresh) {
    if (fresh) {
      asked = question();
      records = [];
      turn += 1;
    }
    // What a search before this one finds comes too late to be shown.
    const ours = turn;
    more.disabled = true;
    said.textContent = "Searching";
    try {
      const page = await ask("admin/audit", fresh ? asked : { ...asked, before: next }, controller.signal);
      if (ours !== turn) return;
      records = [...records, ...page.records];
      next = page.next;
      said.textContent = [count(records.length, "record"), next ? ", and there may be more" : "", page.gap ? `; ${page.gap}` : ""].join("");
      found.replaceChildren(...(records.length ? [table("Records, latest first", COLUMNS, records.map(row))] : []));
      more.hidden = next === null;
    } catch (error) {
      if (error.name === "AbortError" || ours !== turn) return;
      if (error.status === 401) return failed(error);
      said.textContent = "";
      found.replaceChildren(element("p", "wrong", { role: "alert" }, error.message));
    } finally {
      if (ours === turn) more.disabled = false;
    }
  }

  more.addEventListener("click", () => load(false));
  place.replaceChildren(
    heading("Audit", "Who did what, when, and to which studies of this tenant. Each search is recorded too."),
    verification(controller.signal),
    element("form", "panel form", { onsubmit: (event) => { event.preventDefault(); load(true); } },
      field("From (UTC)", inputs.since), field("To (UTC)", inputs.until), field("Who", inputs.principal),
      field("Did what", inputs.action), field("Outcome", inputs.outcome), field("Address", inputs.address),
      field("Patient ID", inputs.patient), field("Issuer of Patient ID", inputs.issuer), field("Study Instance UID", inputs.study),
      suggestions("audit-actions", ACTIONS), suggestions("audit-outcomes", OUTCOMES),
      element("div", "choices", {}, element("button", "primary", { type: "submit" }, "Search"))),
    said, found, more);
  load(true);
  return () => controller.abort();
}

const text = (attributes) => element("input", "", { autocomplete: "off", spellcheck: "false", ...attributes });

function suggestions(id, values) {
  return element("datalist", "", { id }, ...values.map((value) => element("option", "", { value })));
}

/** Whether the trail is whole: of today at once, of more when asked. */
function verification(signal) {
  const days = choice({ id: "audit-days", "aria-label": "Days to verify" }, [[1, "today"], [7, "7 days"], [30, "30 days"], [366, "a year"]]);
  const said = element("div", "", { role: "status" }, "Verifying the trail");
  async function verify() {
    button.disabled = true;
    try {
      said.replaceChildren(...verdict(await ask("admin/audit/verification", { days: days.value }, signal)));
    } catch (error) {
      if (error.name !== "AbortError") said.replaceChildren(state("not verified", "bad"), ` ${error.message}`);
    } finally {
      button.disabled = false;
    }
  }
  const button = element("button", "quiet", { type: "button", onclick: verify }, "Verify");
  verify();
  return element("div", "panel verification", {}, said, element("div", "acts", {}, days, button));
}

function verdict({ whole, since, chains, records, checkpoints, faults, gap }) {
  const about = `${count(records, "record")} in ${count(chains, "chain")} since ${since}, by ${count(checkpoints, "checkpoint")}`;
  return [
    state(whole ? "as it was recorded" : count(faults.length, "fault"), whole ? "good" : "bad"), ` ${about}.`,
    gap ? element("div", "muted", {}, gap) : null,
    ...faults.map((each) => element("div", "", {}, `${each.where}${each.record === null ? "" : `, record ${each.record}`}: ${each.what}`)),
  ].filter(Boolean);
}

function row(record) {
  const { subject = [], query, detail, view, counts } = record;
  const counted = Object.entries(counts).map(([name, value]) => `${value.toLocaleString("en")} ${name}`).join(", ");
  return [
    moment(record.time),
    element("div", "", {}, record.principal ?? "", element("div", "muted", {},
      [record.calling && `as ${record.calling}`, record.address && `from ${record.address}`].filter(Boolean).join(" "))),
    record.action ?? "",
    record.outcome ? state(record.outcome, WRONG.has(record.outcome) ? "bad" : "") : "",
    element("div", "", {},
      ...subject.map((each) => element("div", "uid", {}, String(each))),
      query && element("div", "uid", {}, query),
      detail && element("div", "", {}, detail),
      view && element("div", "muted", {}, `through the view ${view}`),
      counted && element("div", "muted", {}, counted)),
  ];
}
