// A link to a study for somebody who has no account.
import { change, may, shares, shown } from "./access.js";
import { answered } from "./dicomweb.js";
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
  const views = element("select", "", { id: "share-view" },
    may("share") ? element("option", "", { value: "" }, shown() ? `De-identified, as the view ${shown()}` : "As it is stored") : null,
    ...(shown() ? [] : shares().map((view) => element("option", "", { value: view }, `De-identified, as the view ${view}`))));
  dialog("Share this study", "Make a link", async () => {
    const wanted = { studies: [await nameIn(views.value, study)], days: Number(days.input.value), actions: ACTIONS.filter(may) };
    if (uses.input.value) wanted.uses = Number(uses.input.value);
    if (pin.input.value) wanted.pin = pin.input.value;
    if (shown() || views.value) wanted.view = shown() || views.value;
    if (label.input.value) wanted.label = label.input.value;
    return made(await change("shares", wanted));
  },
  element("p", "", {}, "Whoever has the link sees this study, and nothing else, without logging in."),
  element("div", "pair", {}, days.row, uses.row), pin.row,
  element("label", "", { for: "share-view" }, "What is seen", views), label.row);
}

/** The UID of a study in a view, "" for as it is shown here. */
async function nameIn(view, study) {
  if (!view) return study;
  const answer = await answered(`deidentified/${encodeURIComponent(view)}/studies/${study}`, "application/json");
  return (await answer.json()).url.split("/").at(-1);
}

function made({ url, qr, ends, pin }) {
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
    element("img", "qr", { src: qr, alt: "The link as a QR code, for the camera of a phone" }),
    element("p", "", {}, `Good until ${new Date(ends).toLocaleString()}${pin ? ", with the PIN" : ""}.`),
    said,
  ];
}
