// A study or series as a ZIP of DICOM files, as it is stored or as a de-identified view shows it.
import { credentials, downloads, hasKey, may, shown } from "./access.js";
import { ROOT, accepted, answered } from "./dicomweb.js";
import { dialog, element } from "./elements.js";
import { size } from "./text.js";

// As it is kept, whatever the transfer syntax; the parameter, since a link has no header (PS3.18 8.3.3.1).
const ZIP = "application/zip;transfer-syntax=*";

/** Whether anything can be downloaded. */
export const canDownload = () => may("download") || downloads().length > 0;

function choice(group, value, text, note, attributes = {}) {
  const input = element("input", "", { type: "radio", name: group, value, ...attributes });
  return element("label", "tick", {}, input, element("span", "", {}, text, note && element("span", "muted", {}, ` ${note}`)));
}

/** What can be had of what is looked at: as it is shown, and from what is as stored through views too. */
function ways() {
  if (shown()) return [choice("way", "", "De-identified", `as the view ${shown()} shows it`, { checked: true })];
  const stored = may("download");
  const found = [choice("way", "", "As it is stored", stored ? "" : "your rights do not include it", {
    checked: stored, disabled: !stored,
  })];
  for (const view of downloads()) {
    found.push(choice("way", view, "De-identified", `as the view ${view} shows it`, { checked: !stored && found.length === 1 }));
  }
  if (found.length === 1) {
    found.push(choice("way", "-", "De-identified", "no de-identified view is there for you to download through", { disabled: true }));
  }
  return found;
}

/** Ask what of a study to download, and how; `series` is the one that is looked at. */
export function askDownload(study, series) {
  const controller = new AbortController();
  const said = element("p", "muted", { role: "status" });
  const what = element("fieldset", "", {}, element("legend", "", {}, "What"),
    choice("what", "", "The whole study", "", { checked: true }), choice("what", series, "The series that is shown", ""));
  const how = element("fieldset", "", {}, element("legend", "", {}, "How"), ...ways());
  const picked = (set) => set.querySelector("input:checked")?.value;
  dialog("Download", "Download", async () => {
    said.textContent = "Asking for it";
    const from = await address(study, picked(what), picked(how));
    await accepted(from, ZIP, controller.signal);
    said.textContent = "";
    if (hasKey()) await save(from, said, controller.signal);
    else follow(`${from}?${new URLSearchParams({ accept: ZIP })}`, "");
  },
  element("p", "", {}, "A ZIP of DICOM files with a DICOMDIR, for any viewer or archive."), what, how, said);
  said.closest("dialog").addEventListener("close", () => controller.abort());
}

async function address(study, series, view) {
  const rest = series ? `/series/${series}` : "";
  if (!view) return `${ROOT}studies/${study}${rest}`;
  const path = `deidentified/${encodeURIComponent(view)}/studies/${study}`;
  const answer = await answered(`${path}${series ? `?series=${series}` : ""}`, "application/json");
  return (await answer.json()).url;
}

function follow(href, name) {
  element("a", "", { href, download: name }).click();
}

/** A link cannot show an API key: what comes is kept by the browser until all is there. */
async function save(from, said, signal) {
  const answer = await fetch(from, { headers: { Accept: ZIP, ...credentials() }, signal });
  let bytes = 0;
  const counted = answer.body.pipeThrough(new TransformStream({
    transform(block, controller) {
      bytes += block.length;
      said.textContent = size(bytes);
      controller.enqueue(block);
    },
  }));
  const url = URL.createObjectURL(await new Response(counted, { headers: { "Content-Type": "application/zip" } }).blob());
  follow(url, `${from.split("/").at(-1)}.zip`);
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}
