// The list of studies, and the questions that its filters ask.
import { followArrivals } from "./arrivals.js";
import { Refused, search } from "./dicomweb.js";
import { chip, element, notice } from "./elements.js";
import { thumbnail } from "./pictures.js";
import { age, count, date, first, personName, sex, time, values } from "./text.js";

const PAGE = 50;

/** The searches that one question takes: the words are looked for in names, and in ids and accession numbers. */
export function questions({ words, dates, modality }) {
  const filters = {};
  if (dates) filters.StudyDate = dates;
  if (modality) filters.ModalitiesInStudy = modality;
  const text = words.replace(/[\\=]/g, " ").trim();
  if (!text) return [filters];
  const parts = text.split(/[\s,^]+/).filter(Boolean);
  const found = [{ ...filters, PatientName: `*${parts.join("*")}*` }];
  // "Jane Doe" is kept as Doe^Jane.
  if (parts.length === 2) found.push({ ...filters, PatientName: `*${parts[1]}*${parts[0]}*` });
  // Ids are matched as they are written, and mostly written in capitals.
  for (const id of new Set([text, text.toUpperCase()])) {
    found.push({ ...filters, PatientID: `*${id}*` });
    if (/\d/.test(id)) found.push({ ...filters, AccessionNumber: `*${id}*` });
  }
  return found;
}

/** The studies that answer a question, page by page; a study that answers two of its searches comes once. */
export class Studies {
  constructor(question) {
    this.searches = questions(question).map((parameters) => ({ parameters, offset: 0, remaining: 1 }));
    this.seen = new Set();
  }

  get hasMore() {
    return this.searches.some((each) => each.remaining > 0);
  }

  /** At most how many are to come: one study may be counted by two searches. */
  get remaining() {
    return this.searches.reduce((sum, each) => sum + each.remaining, 0);
  }

  async next(signal) {
    const open = this.searches.filter((each) => each.remaining > 0);
    const pages = await Promise.all(open.map(({ parameters, offset }) =>
      search("studies", { ...parameters, limit: PAGE, offset }, signal)));
    const found = [];
    pages.forEach(({ results, remaining }, place) => {
      open[place].offset += results.length;
      open[place].remaining = results.length ? remaining : 0;
      for (const study of results) {
        const uid = first(study, "0020000D");
        if (!this.seen.has(uid)) found.push(study);
        this.seen.add(uid);
      }
    });
    if (open.length > 1) found.sort((a, b) => moment(b).localeCompare(moment(a)));
    return found;
  }
}

const moment = (study) => first(study, "00080020") + first(study, "00080030");

/** Patient's name, with its other groups. */
export function nameOf(study) {
  const { main, others } = personName(study, "00100010");
  return element("span", "name", {}, main || "No name",
    ...others.map((other) => element("span", "other", {}, other)));
}

/** Study Description. */
export function descriptionOf(study) {
  const text = first(study, "00081030");
  return element("span", text ? "description" : "description muted", {}, text || "No description");
}

/** Id, birth date and sex. */
export function patientFacts(study) {
  const born = date(first(study, "00100030"));
  const years = age(first(study, "00100030"), first(study, "00080020"));
  return [
    String(first(study, "00100020")),
    born && `born ${born}${years ? ` (${years})` : ""}`,
    sex(first(study, "00100040")),
  ].filter(Boolean).join(" · ");
}

/** How much of a study there is. */
function amount(study) {
  return [
    element("span", "", {}, count(first(study, "00201206") || 0, "series", "series")),
    element("span", "muted", {}, count(first(study, "00201208") || 0, "instance")),
  ];
}

function row(study) {
  const uid = first(study, "0020000D");
  const modalities = values(study, "00080061");
  const accession = String(first(study, "00080050"));
  return element("li", "", { "data-study": uid },
    element("a", "study", { href: `#/studies/${uid}` },
      thumbnail(`studies/${uid}`),
      element("span", "patient", {}, nameOf(study), element("span", "muted", {}, patientFacts(study))),
      element("span", "what", {},
        descriptionOf(study),
        element("span", "muted", {}, accession && `Accession ${accession}`)),
      element("span", "when", {},
        element("span", "", {}, date(first(study, "00080020")) || "No date"),
        element("span", "muted", {}, time(first(study, "00080030")))),
      element("span", "chips", {}, ...modalities.map(chip)),
      element("span", "size", {}, ...amount(study))));
}

function placeholders() {
  return Array.from({ length: 6 }, () => element("li", "study waiting", { "aria-hidden": "true" },
    element("span", "thumbnail"), element("span", "bar wide"), element("span", "bar")));
}

/** What stands where no study is. */
function nothing(filtered) {
  if (filtered) return notice("No study matches", ["Try fewer letters, another date or all modalities."]);
  const store = `storescu -aec GATEWAY ${location.hostname} 11112 FILE.dcm`;
  const stow = [
    "curl -H 'Content-Type: multipart/related; type=\"application/dicom\"' \\",
    "     -F 'file=@FILE.dcm;type=application/dicom' \\",
    `     ${new URL("dicomweb/studies", document.baseURI)}`,
  ].join("\n");
  return notice("No studies yet", ["Send the first one. From a modality or the command line, by C-STORE:"],
    element("pre", "", { tabindex: "0" }, store),
    element("p", "", {}, "Or over the web, by STOW-RS:"),
    element("pre", "", { tabindex: "0" }, stow),
    element("p", "muted", {}, "AE title and port are the defaults; yours may differ. New studies appear here by themselves."));
}

/** Show the list in `place`; returns a function that ends it. */
export function showStudies(place, question, failed) {
  const controller = new AbortController();
  const filtered = Boolean(question.words.trim() || question.dates || question.modality);
  let studies;
  let waiting = [];
  const list = element("ol", "studies", { "aria-label": "Studies" });
  const title = element("h1", "hidden", {}, "Studies");
  const status = element("p", "status", { role: "status" }, "Loading studies");
  const more = element("button", "quiet more", { type: "button", hidden: true }, "Show more");
  const news = element("button", "primary news", { type: "button", onclick: () => {
    show(waiting);
    scrollTo(0, 0);
    list.querySelector("a").focus();
  } });
  const said = element("div", "arrived", { role: "status" });
  list.append(...placeholders());
  place.replaceChildren(title, status, said, list, more);

  async function start() {
    studies = new Studies(question);
    await add(studies, true);
    more.onclick = () => add(studies, false).catch(report);
  }

  /** Ask again what is asked, and show what is new at its place: at once if nobody is just reading or pointing there. */
  async function renew() {
    const latest = await new Studies(question).next(controller.signal);
    if (!list.isConnected) return latest.length ? start() : undefined;
    for (const study of latest) {
      const size = list.querySelector(`[data-study="${first(study, "0020000D")}"] .size`);
      const parts = amount(study);
      if (size && size.textContent !== parts.map((part) => part.textContent).join("")) size.replaceChildren(...parts);
    }
    const fresh = latest.filter((study) => !studies.seen.has(first(study, "0020000D")));
    if (!fresh.length) return undefined;
    waiting = latest;
    if (scrollY || list.matches(":hover, :focus-within")) {
      news.textContent = `${count(fresh.length, "new study", "new studies")}: show`;
      if (!news.isConnected) said.replaceChildren(news);
    } else {
      show(latest);
      said.replaceChildren(element("span", "hidden", {}, count(fresh.length, "new study", "new studies")));
    }
    return undefined;
  }

  function show(latest) {
    let after = null;
    for (const study of latest.toReversed()) {
      const uid = first(study, "0020000D");
      let shown = list.querySelector(`[data-study="${uid}"]`);
      if (!shown) {
        shown = row(study);
        list.insertBefore(shown, after);
        studies.seen.add(uid);
      }
      after = shown;
    }
    said.replaceChildren();
    tell();
  }

  function tell() {
    const shown = count(studies.seen.size, "study", "studies");
    status.textContent = studies.hasMore ? `${shown} of ${studies.searches.length > 1 ? "at most " : ""}${
      (studies.seen.size + studies.remaining).toLocaleString("en")}` : shown;
  }

  async function add(studies, fresh) {
    more.disabled = true;
    const found = await studies.next(controller.signal);
    const rows = found.map(row);
    if (fresh) list.replaceChildren();
    list.append(...rows);
    more.hidden = !studies.hasMore;
    more.disabled = false;
    tell();
    if (!studies.seen.size) {
      if (list.isConnected) place.replaceChildren(nothing(filtered));
    } else if (!list.isConnected) {
      place.replaceChildren(title, status, said, list, more);
    }
    if (!fresh) rows[0]?.querySelector("a").focus();
  }

  function report(error) {
    if (error.name === "AbortError") return;
    if (error instanceof Refused) failed(error);
    else throw error;
  }

  start().catch(report);
  // What stands there is still right when this fails; the next arrival asks again.
  const leave = followArrivals(() => renew().catch((error) => {
    if (error.name !== "AbortError" && error.status === 401) failed(error);
  }));
  return () => {
    leave();
    controller.abort();
  };
}
