// Who is logged in, at the top of the page: logging out, and breaking the glass where a rule lets one.
import { change, forgetKey, hasKey } from "./access.js";
import { dialog, element } from "./elements.js";

const LONGEST_REASON = 200;
// Each process of the gateway remembers a session for up to a second.
const SEEN_MS = 1100;

async function state(reason, again) {
  await change("session/reason", { reason });
  await new Promise((done) => { setTimeout(done, SEEN_MS); });
  again();
}

/** Show in `place` who we are; `again` is called when that changed. */
export function showAccount(place, me, again) {
  place.replaceChildren();
  if (hasKey()) {
    const forget = () => {
      forgetKey();
      again();
    };
    place.append(...name(me), element("button", "quiet", { type: "button", onclick: forget }, "Forget API key"));
  } else if (me?.csrf) {
    const leave = () => change("logout", {}).catch(() => undefined).then(again);
    place.append(...glass(me, again), ...name(me), element("button", "quiet", { type: "button", onclick: leave }, "Log out"));
  }
}

function name(me) {
  return me ? [element("span", "who", { title: me.roles.join(", ") },
    element("span", "hidden", {}, "You are "), me.principal)] : [];
}

function glass(me, again) {
  if (me.breaksGlass) {
    const end = () => state("", again).catch(again);
    return [element("button", "alarm", { type: "button", onclick: end }, "End emergency access")];
  }
  return me.mayBreakGlass
    ? [element("button", "quiet", { type: "button", onclick: () => askReason(again) }, "Emergency access…")] : [];
}

function askReason(again) {
  const reason = element("input", "", {
    id: "reason", required: true, maxlength: LONGEST_REASON, autocomplete: "off", "aria-describedby": "reason-note",
  });
  dialog("Emergency access", "Break the glass", () => state(reason.value, again),
    element("p", "", { id: "reason-note" },
      "You see more than usual until you end it or log out. Your reason and everything you open are recorded, and an alarm is raised."),
    element("label", "", { for: "reason" }, "Reason", reason));
}
