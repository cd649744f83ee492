// Why somebody may do something or not, as the policy in force has it.
import { element } from "./elements.js";
import { ask, choice, field, heading, state, table } from "./operations.js";

const ACTIONS = [
  ["echo", "verify by C-ECHO"], ["search", "search"], ["read", "read"], ["read_deidentified", "read through a view"],
  ["download", "download"], ["render", "see pictures"], ["store", "store"], ["delete", "delete"],
  ["share", "share by a link"], ["audit_read", "read the audit trail"], ["reidentify", "re-identify"],
  ["worklist", "be told what is scheduled"], ["perform", "report what is performed"],
  ["schedule", "schedule procedure steps"], ["admin", "administer"],
];

/** Show the page in `place`. */
export function show(place) {
  const controller = new AbortController();
  const kind = choice({ id: "policy-kind" }, [["principal", "A principal, user or API key"], ["role", "Anybody with a role"]]);
  const who = element("input", "", { id: "policy-who", required: true, maxlength: 64, autocomplete: "off", spellcheck: "false" });
  const action = choice({ id: "policy-action" }, ACTIONS.map(([value, text]) => [value, text]));
  action.value = "read";
  const study = element("input", "", {
    id: "policy-study", maxlength: 64, pattern: "[0-9.]+", autocomplete: "off", spellcheck: "false", inputmode: "decimal",
  });
  const reason = element("input", "", { id: "policy-reason", type: "checkbox" });
  const found = element("div", "found", { role: "status" });

  async function submit(event) {
    event.preventDefault();
    const asked = { [kind.value]: who.value.trim(), action: action.value };
    if (study.value.trim()) asked.study = study.value.trim();
    if (reason.checked) asked.reason = "given";
    try {
      found.replaceChildren(...told(await ask("admin/explain", asked, controller.signal)));
    } catch (error) {
      if (error.name !== "AbortError") found.replaceChildren(element("p", "wrong", { role: "alert" }, error.message));
    }
  }

  place.replaceChildren(
    heading("Policy", "Ask which rules let somebody do something, and why the others do not. Each question is recorded."),
    element("form", "panel form", { onsubmit: submit },
      field("Who", kind),
      field("Of the name", who),
      field("May do what", action),
      field("Study Instance UID, if one is meant", study),
      element("label", "tick", {}, reason, "with a reason stated (emergency access)"),
      element("div", "choices", {}, element("button", "primary", { type: "submit" }, "Explain"))),
    found);
  return () => controller.abort();
}

function told({ principal, action, allowed, decidedBy, studyFound, rules }) {
  const verdict = allowed ? `may ${action}, by ${decidedBy.join(", ")}` : `may not ${action}`;
  return [
    element("p", "verdict", {}, state(allowed ? "allowed" : "denied", allowed ? "good" : "bad"),
      element("span", "", {}, `${principal} ${verdict}.`)),
    studyFound === false ? element("p", "muted", {}, "There is no such study in the archive.") : null,
    rules.length ? table("Rules", ["Rule", "Counts", "Study in its scope", "Why not"], rules.map((rule) => [
      rule.rule, rule.counts ? "yes" : "no", { true: "yes", false: "no" }[rule.inScope], rule.why,
    ])) : element("p", "muted", {}, "No rule is about whoever this is."),
  ].filter(Boolean);
}
