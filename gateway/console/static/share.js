// A link to a study for somebody who has no account.
import { change, may, shown } from "./access.js";
import { dialog, element } from "./elements.js";

const ACTIONS = ["search", "read", "render"];
const LONGEST_DAYS = 366;

/** Whether a link to a study can be made. */
export const canShare = () => may("share") && may("render");

function field(id, label, note, attributes) {
  const input = element("input", "", { id, autocomplete: "off", ...attributes });
  return { input, row: element("label", "", { for: id }, label, note && element("span", "muted", {}, note), input) };
}

/** Ask for how long and how, and show the link. */
export function askShare(study) {
  const days = field("share-days", "Days", "", { type: "number", min: 1, max: LONGEST_DAYS, value: 7, required: true });
  const uses = field("share-uses", "Openings", "empty: any number", { type: "number", min: 1, max: 9999 });
  const pin = field("share-pin", "PIN", "4 or more letters and digits; tell it by another way", { pattern: "[0-9A-Za-z]{4,64}" });
  const label = field("share-label", "For whom", "shown in the list of links only", { maxlength: 128 });
  dialog("Share this study", "Make a link", async () => {
    const wanted = { studies: [study], days: Number(days.input.value), actions: ACTIONS.filter(may) };
    if (uses.input.value) wanted.uses = Number(uses.input.value);
    if (pin.input.value) wanted.pin = pin.input.value;
    if (shown()) wanted.view = shown();
    if (label.input.value) wanted.label = label.input.value;
    return made(await change("shares", wanted));
  },
  element("p", "", {}, "Whoever has the link sees this study, and nothing else, without logging in."),
  element("div", "pair", {}, days.row, uses.row), pin.row, label.row);
}

function made({ url, ends, pin }) {
  const link = element("input", "", { id: "share-link", readonly: true, value: url, onfocus: () => link.select() });
  const said = element("p", "muted", { role: "status" });
  const copy = async () => {
    link.select();
    const copied = await navigator.clipboard?.writeText(url).then(() => true, () => false);
    said.textContent = copied ? "Copied." : "Copy what is marked: the browser does not let the page do it.";
  };
  return [
    element("label", "", { for: "share-link" }, "The link, shown only now"),
    element("div", "together", {}, link, element("button", "primary", { type: "button", onclick: copy }, "Copy")),
    element("p", "", {}, `Good until ${new Date(ends).toLocaleString()}${pin ? ", with the PIN" : ""}.`),
    said,
  ];
}
