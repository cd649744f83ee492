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
