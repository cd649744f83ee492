// Elements of the page. Text goes in as text, never as markup: names of patients are not to be trusted.

/** An element with a class, attributes and children; children that are null are left out. */
export function element(tag, className = "", attributes = {}, ...children) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value === true) made.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) made.setAttribute(name, value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined && child !== ""));
  return made;
}

/** A note in place of content: a title, lines of explanation, and something to do. */
export function notice(title, lines = [], ...more) {
  return element("section", "notice", { role: "status" },
    element("h1", "", {}, title),
    ...lines.map((line) => element("p", "", {}, line)),
    ...more);
}

/** The modality as a chip. */
export function chip(modality) {
  return element("span", "chip", {}, modality);
}

/**
 * A dialog with a form: `act` is called when it is sent, and an Error that it throws is shown. Elements that `act` gives
 * take the form's place; without any, the dialog closes.
 */
export function dialog(title, action, act, ...content) {
  const wrong = element("p", "wrong", { role: "alert", hidden: true });
  const send = element("button", "primary", { type: "submit" }, action);
  const close = (text) => element("button", "quiet", { type: "button", onclick: () => made.close() }, text);
  const submit = async (event) => {
    event.preventDefault();
    send.disabled = true;
    wrong.hidden = true;
    try {
      const found = await act();
      if (!found) return made.close();
      form.replaceChildren(heading, ...found, element("div", "choices", {}, close("Close")));
      form.querySelector("input, button")?.focus();
    } catch (error) {
      wrong.textContent = error.message;
      wrong.hidden = false;
    } finally {
      send.disabled = false;
    }
    return undefined;
  };
  const heading = element("h1", "", { id: "dialog-title" }, title);
  const form = element("form", "", { onsubmit: submit },
    heading, ...content, wrong, element("div", "choices", {}, close("Cancel"), send));
  const made = element("dialog", "", { "aria-labelledby": "dialog-title", onclose: () => made.remove() }, form);
  document.body.append(made);
  made.showModal();
}
