// The page of uploads: what is chosen or dropped, how far it is, and what became of each file.
import { may } from "./access.js";
import { element } from "./elements.js";
import { Sending } from "./sending.js";
import { count, size } from "./text.js";

const ROWS = 200;
const DRAWN_EVERY_MS = 200;
const WORDS = { waiting: "Waiting", sending: "Sending", stored: "Stored", failed: "Not stored", left: "Left out" };
const CHOICES = { all: "All", failed: "Not stored", stored: "Stored" };

const watchers = new Set();
let timer;
// It goes on while other pages are shown.
const sending = new Sending(() => {
  timer ??= setTimeout(() => {
    timer = undefined;
    for (const watcher of watchers) watcher();
  }, DRAWN_EVERY_MS);
});
const isBusy = () => sending.state === "sending" || sending.state === "pausing";

addEventListener("beforeunload", (event) => {
  if (isBusy() || sending.state === "stopped") event.preventDefault();
});

addEventListener("personchange", () => sending.forget());

/** Take files, given as [file, path] each, and begin to send them. */
export const send = (files) => sending.add(files);

/** Say that what was dropped cannot be read. */
export function unreadable(error) {
  sending.note = `What was dropped cannot be read: ${error.message}`;
  sending.changed();
}

const chosen = (input) => [...input.files].map((file) => [file, file.webkitRelativePath || file.name]);
const percent = () => Math.floor(100 * (sending.doneBytes + sending.underwayBytes) / (sending.totalBytes || 1));

// On other pages: how far it is, and the way back
const elsewhere = element("a", "elsewhere primary", { href: "#/upload", hidden: true });
document.body.append(elsewhere);
const tell = () => {
  elsewhere.hidden = location.hash === "#/upload" || sending.state === "idle";
  elsewhere.textContent = sending.state === "stopped" ? "The upload stopped" : `Uploading: ${percent()} %`;
};
watchers.add(tell);
addEventListener("hashchange", tell);

// The page

/** Show the page in `place`; returns a function that ends it. */
export function show(place) {
  const page = new Page();
  place.replaceChildren(page.place);
  const draw = () => page.draw();
  watchers.add(draw);
  draw();
  return () => watchers.delete(draw);
}

class Page {
  constructor() {
    this.filter = "all";
    this.most = ROWS;
    this.rows = new Map();
    const pick = (attributes, label) => {
      const input = element("input", "hidden", {
        type: "file", multiple: true, tabindex: "-1", "aria-label": label, ...attributes,
        onchange: () => {
          sending.add(chosen(input));
          input.value = "";
        },
      });
      return [element("button", "quiet", { type: "button", onclick: () => input.click() }, `${label}…`), input];
    };
    this.title = element("h1", "", {}, "Upload");
    this.bar = element("progress", "", { max: 100, "aria-label": "Upload" });
    this.said = element("p", "", { role: "status" });
    this.note = element("p", "wrong", { role: "alert", hidden: true });
    this.amount = element("span", "muted", {});
    this.cancel = element("button", "quiet", { type: "button", onclick: () => sending.cancel() }, "Cancel");
    this.more = element("button", "primary", { type: "button", onclick: () => sending.run() }, "Continue");
    this.underway = element("section", "underway", { "aria-label": "Progress" },
      this.bar, element("div", "line", {}, this.amount, element("span", "choices", {}, this.more, this.cancel)));
    this.studies = element("p", "links", { hidden: true });
    this.choices = element("div", "pressed", { role: "group", "aria-label": "Files" },
      ...Object.keys(CHOICES).map((name) => element("button", "quiet", {
        type: "button", "data-name": name, onclick: () => {
          this.filter = name;
          this.most = ROWS;
          this.draw();
        },
      })));
    this.body = element("tbody");
    this.rest = element("button", "quiet more", { type: "button", hidden: true, onclick: () => {
      this.most += ROWS;
      this.draw();
    } }, "Show more");
    this.table = element("div", "table", {}, element("table", "", {},
      element("caption", "hidden", {}, "Files of this upload"),
      element("thead", "", {}, element("tr", "", {},
        ...["File", "Size", "Outcome"].map((name) => element("th", "", { scope: "col" }, name)))),
      this.body));
    this.files = element("section", "", { "aria-label": "Files", hidden: true }, this.choices, this.table, this.rest);
    this.place = element("div", "upload", {},
      element("div", "page", {}, this.title),
      element("section", "zone", { "aria-label": "Choose what to store" },
        element("p", "", {}, "Drop DICOM files or whole folders here, or anywhere on this page."),
        element("div", "together", {}, ...pick({}, "Choose files"), ...pick({ webkitdirectory: true }, "Choose a folder"))),
      this.note, this.underway, this.said, this.studies, this.files);
  }

  draw() {
    const { files, counts, state, note } = sending;
    this.files.hidden = !files.length;
    this.underway.hidden = state === "idle";
    this.bar.value = percent();
    this.amount.textContent = `${percent()} % · ${size(sending.doneBytes + sending.underwayBytes)} of ${
      size(sending.totalBytes)} · ${count(counts.waiting + counts.sending, "file")} to go`;
    this.more.hidden = state !== "stopped";
    this.note.hidden = !note;
    if (this.note.textContent !== note) this.note.textContent = note;
    this.say(state, counts);
    this.link(state);
    const numbers = { all: files.length, failed: counts.failed + counts.left, stored: counts.stored };
    for (const button of this.choices.children) {
      const { name } = button.dataset;
      button.setAttribute("aria-pressed", String(name === this.filter));
      const text = `${CHOICES[name]} ${numbers[name].toLocaleString("en")}`;
      if (button.textContent !== text) button.textContent = text;
    }
    this.list();
  }

  /** What is worth interrupting for: the beginning and the end. */
  say(state, counts) {
    const outcome = [
      counts.stored && `${count(counts.stored, "file")} stored`,
      counts.failed && `${count(counts.failed, "file")} not stored`,
      counts.left && `${count(counts.left, "file")} left out`,
    ].filter(Boolean).join(", ");
    const text = !sending.files.length ? "" : state === "idle" ? `Done: ${outcome}.` : "Uploading.";
    if (this.said.textContent !== text) this.said.textContent = text;
    this.said.classList.toggle("hidden", state !== "idle" || !text);
  }

  link(state) {
    const studies = [...sending.studies].filter(Boolean);
    this.studies.hidden = state !== "idle" || !studies.length || !may("search");
    if (this.studies.hidden || this.studies.childElementCount) {
      if (state !== "idle") this.studies.replaceChildren();
      return;
    }
    const shown = studies.slice(0, 5).map((uid, place) => element("a", "quiet", { href: `#/studies/${uid}` },
      studies.length === 1 ? "Open the study" : `Open study ${place + 1}`));
    this.studies.replaceChildren(...shown, studies.length > shown.length ? element("a", "quiet", { href: "#/" },
      `All ${count(studies.length, "study", "studies")} are in the list`) : "");
  }

  list() {
    const shown = [];
    let others = 0;
    for (const entry of sending.files) {
      const fits = this.filter === "all" || entry.state === this.filter || (this.filter === "failed" && entry.state === "left");
      if (!fits) continue;
      if (shown.length < this.most) shown.push(this.row(entry));
      else others += 1;
    }
    if (shown.length !== this.body.children.length || shown.some((row, place) => row !== this.body.children[place])) {
      this.body.replaceChildren(...shown);
    }
    this.rest.hidden = !others;
  }

  row(entry) {
    let row = this.rows.get(entry);
    if (!row) {
      row = element("tr", "", {}, element("th", "", { scope: "row", "data-label": "File" }, entry.path),
        element("td", "", { "data-label": "Size" }, size(entry.size)),
        element("td", "", { "data-label": "Outcome" }, element("span", "outcome")));
      this.rows.set(entry, row);
    }
    const text = entry.reason ? `${WORDS[entry.state]}: ${entry.reason}` : WORDS[entry.state];
    const outcome = row.lastChild.firstChild;
    if (outcome.textContent !== text) {
      outcome.textContent = text;
      outcome.className = `outcome ${entry.state}`;
    }
    return row;
  }
}
