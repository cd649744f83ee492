// Who saw a study, as the audit trail says.
import { element } from "./elements.js";
import { ask, moment, table, tell } from "./operations.js";
import { count, size } from "./text.js";

const WORDS = {
  read: "read", read_deidentified: "read, de-identified", download: "downloaded", render: "looked at pictures",
  export: "exported", share: "shared",
};

function amount({ requests, instances, frames, size: bytes }) {
  return [
    requests && count(requests, "request"), instances && count(instances, "instance"), frames && count(frames, "frame"),
    bytes && size(bytes),
  ].filter(Boolean).join(", ");
}

/** Show who saw a study. */
export async function showAccesses(study) {
  const { seen, more, gap } = await ask(`history/studies/${study}`);
  const rows = seen.map((each) => [
    each.principal || "–", WORDS[each.action] ?? each.action, each.view, moment(each.first), moment(each.last),
    each.addresses.join(", "), amount(each),
  ]);
  tell("Who saw this study",
    element("p", "muted", {}, "By the audit trail; amounts are of accesses that have ended. To ask is recorded too."),
    more ? element("p", "muted", {}, "There are older records: gateway audit patient looks at all.") : "",
    gap ? element("p", "wrong", {}, gap) : "",
    element("div", "tall", { tabindex: "0", role: "region", "aria-label": "Accesses" },
      table(count(rows.length, "access", "accesses"), ["Who", "What", "View", "First", "Last", "From", "How much"], rows)));
}
