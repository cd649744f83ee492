// What contradicts the archive: why, what differs, and what becomes of it.
import { change, may } from "./access.js";
import { dialog, element } from "./elements.js";
import { ask, heading, moment, state, table, tell } from "./operations.js";
import { count } from "./text.js";

const PAGE = 50;
const COLUMNS = ["Received", "From", "Why it is here", "Study and instance", "What to do"];

/** Show the page in `place`; `failed` is told what leaves nothing to show. */
export function show(place, failed) {
  const controller = new AbortController();
  const said = element("p", "muted", { role: "status", tabindex: "-1" }, "Loading the quarantine");
  const found = element("div", "found");
  const more = element("button", "quiet more", { type: "button", hidden: true }, "Show more");
  let shown = [];

  async function load(fresh, what = "") {
    try {
      const after = fresh ? "" : shown.at(-1).version;
      const { total, instances } = await ask("admin/quarantine", { limit: PAGE, after }, controller.signal);
      shown = fresh ? instances : [...shown, ...instances];
      said.textContent = [what, total ? `${count(total, "instance")} in quarantine.` : "Nothing is in quarantine."].filter(Boolean).join(" ");
      found.replaceChildren(...(shown.length ? [table("In quarantine", COLUMNS, shown.map((each) => row(each, done)))] : []));
      more.hidden = shown.length >= total;
    } catch (error) {
      if (error.name !== "AbortError") failed(error);
    }
  }

  /** Its row goes with the button that was pressed: the focus goes to what came of it. */
  const done = (what) => load(true, what).then(() => said.focus());
  more.addEventListener("click", () => load(false));
  place.replaceChildren(
    heading("Quarantine",
      "Instances that contradict the archive. They stand in no study, and whoever sent them was told that they are not stored.",
      element("button", "quiet", { type: "button", onclick: () => load(true) }, "Refresh")),
    said, found, more);
  load(true);
  return () => controller.abort();
}

function row(item, done) {
  const act = (text, then) => element("button", "quiet", {
    type: "button", onclick: () => then(item, done), "aria-label": `${text} instance ${item.instance}`,
  }, text);
  return [
    moment(item.received),
    item.source || item.principal ? element("div", "", {}, item.source || item.principal,
      element("div", "muted", {}, [item.source && item.principal, item.address && `from ${item.address}`].filter(Boolean).join(" "))) : "",
    item.reason,
    element("div", "", {}, element("div", "uid", {}, item.study), element("div", "uid muted", {}, item.instance)),
    element("div", "acts", {}, may("read") ? act("Compare", compare) : null, act("Release…", release), act("Discard…", discard)),
  ];
}

/** Show beside each other what the instance and the archive say; it is on the trail as a look at the patient's images. */
async function compare(item) {
  const found = element("div", "found", { role: "status" }, "Comparing");
  tell("What differs", found);
  try {
    const { against, compared } = await ask(`admin/quarantine/${item.version}`);
    found.replaceChildren(
      element("p", "", {}, `It is here because ${item.reason}.`),
      element("p", "muted", {}, against ? `Compared with ${against}.` : "The archive has nothing of it any more: it can be released."),
      table("Attributes", ["Attribute", "In quarantine", "In the archive", "Differs"], compared.map((each) => [
        each.keyword, value(each.here), value(each.archive), against && each.here !== each.archive ? state("differs", "bad") : "",
      ])));
  } catch (error) {
    found.replaceChildren(element("p", "wrong", { role: "alert" }, error.message));
  }
}

const value = (text) => text && element("span", "uid", {}, text);

function release(item, done) {
  dialog("Release this instance?", "Release", async () => {
    const { outcome } = await change(`admin/quarantine/${item.version}/release`, {});
    done(`Released: ${outcome}.`);
  }, element("p", "", {}, "It is stored as if it were sent again. What contradicts the archive as before stays in quarantine: put the cause right first."),
  element("p", "uid muted", {}, item.instance));
}

function discard(item, done) {
  dialog("Discard this instance for good?", "Discard for good", async () => {
    await change(`admin/quarantine/${item.version}/discard`, {});
    done("Discarded.");
  }, element("p", "", {}, "There is no undo. Whoever sent it was told that it is not stored, and should have a copy."),
  element("p", "uid muted", {}, item.instance));
}
