// Who asks: an API key that is kept for this tab, or a session that the browser's cookie stands for. Within a share
// link nobody is asked for.
import { element } from "./elements.js";

const NAME = "gateway.api-key";

/** Whether this page stands in a share link: there is nobody to log in as, and nothing to share. */
export const inLink = /\/share\/[\w-]+\.[\w-]+\/$/.test(location.pathname);

let me;

/** Headers that show who asks. */
export function credentials() {
  const key = inLink ? null : sessionStorage.getItem(NAME);
  return key ? { Authorization: `Bearer ${key}` } : {};
}

/** Headers of what changes something: a cookie comes along whoever has the browser send it, this shows it is this page. */
export function proof() {
  return me?.csrf ? { "X-CSRF-Token": me.csrf } : {};
}

/** Whether a key is kept. */
export function hasKey() {
  return !inLink && sessionStorage.getItem(NAME) !== null;
}

/** Forget the key. */
export function forgetKey() {
  sessionStorage.removeItem(NAME);
}

/** Ask the gateway who we are to it: null when it knows nobody, undefined when it cannot say. */
export async function identify() {
  const before = me?.principal;
  me = undefined;
  if (inLink) return null;
  const answer = await fetch("session", { headers: { Accept: "application/json", ...credentials() } }).catch(() => null);
  if (answer?.ok) me = await answer.json();
  // What one person began is nothing for the next.
  if (before !== undefined && before !== me?.principal) dispatchEvent(new Event("personchange"));
  return answer?.status === 401 ? null : me;
}

/** Whether we may do something somewhere in the archive. */
export function may(action) {
  return me?.actions.includes(action) ?? false;
}

/** The de-identified view that we are shown, "" for what is as stored. */
export const shown = () => me?.view ?? "";

/** The de-identified views through which we may download. */
export const downloads = () => me?.downloads ?? [];

/** The de-identified views through which we may share. */
export const shares = () => me?.shares ?? [];

/** Have something changed; what the gateway says to it. Throws an Error with a message that can be shown. */
export async function change(path, body, method = "POST") {
  const headers = { "Content-Type": "application/json", ...credentials(), ...proof() };
  const answer = await fetch(path, { method, headers, body: body && JSON.stringify(body) }).catch(() => null);
  if (!answer) throw new Error("The gateway cannot be reached.");
  const said = answer.status === 204 ? {} : await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Error(said.detail ?? `The gateway answered ${answer.status}.`);
  return said;
}

/** What asks who somebody is; `then` is called when a key was given. */
export function whoForm(then) {
  if (inLink) {
    return element("section", "notice", { role: "status" },
      element("h1", "", {}, "This link is not open any more"),
      element("p", "", {}, "It has ended, or has to be opened again."),
      element("button", "primary", { type: "button", onclick: () => location.reload() }, "Open it again"));
  }
  const refused = hasKey();
  forgetKey();
  const input = element("input", "", {
    type: "password", id: "api-key", autocomplete: "off", required: true, spellcheck: "false",
    "aria-describedby": "api-key-note", oninput: () => input.setCustomValidity(""),
  });
  const submit = (event) => {
    event.preventDefault();
    const key = input.value.trim();
    // A header takes visible ASCII only; anything else cannot be a key.
    if (!/^[\x21-\x7e]+$/.test(key)) {
      input.setCustomValidity("A key has neither spaces nor accented letters.");
      input.reportValidity();
      return;
    }
    sessionStorage.setItem(NAME, key);
    then();
  };
  const login = `login${location.hash ? `?to=${encodeURIComponent(location.hash)}` : ""}`;
  return element("form", "notice", { onsubmit: submit },
    element("h1", "", {}, refused ? "This API key is not known" : "The gateway asks who you are"),
    element("a", "primary", { href: login }, "Log in"),
    element("p", "or", {}, "or show an API key"),
    element("label", "", { for: "api-key" }, "API key"),
    element("div", "together", {}, input, element("button", "quiet", { type: "submit" }, "Continue")),
    element("p", "muted", { id: "api-key-note" },
      "Kept in this tab until it is closed. Keys are given out by whoever runs this gateway."));
}
