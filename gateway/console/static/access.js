// The API key: kept for this tab only, shown with every request, asked for when the gateway wants one.
import { element } from "./elements.js";

const NAME = "gateway.api-key";

/** Headers that show who asks. */
export function credentials() {
  const key = sessionStorage.getItem(NAME);
  return key ? { Authorization: `Bearer ${key}` } : {};
}

/** Whether a key is kept. */
export function hasKey() {
  return sessionStorage.getItem(NAME) !== null;
}

/** Forget the key. */
export function forgetKey() {
  sessionStorage.removeItem(NAME);
}

/** A form for the key; `then` is called when one was given. */
export function keyForm(then) {
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
  return element("form", "notice", { onsubmit: submit },
    element("h1", "", {}, refused ? "This API key is not known" : "The gateway asks who you are"),
    element("label", "", { for: "api-key" }, "API key"),
    element("div", "together", {}, input, element("button", "primary", { type: "submit" }, "Continue")),
    element("p", "muted", { id: "api-key-note" },
      "Kept in this tab until it is closed. Keys are given out by whoever runs this gateway."));
}
