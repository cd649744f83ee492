// What the gateway does just now, asked for again and again while somebody looks.
import { lastAssociations } from "./associations.js";
import { element } from "./elements.js";
import { ask, heading, moment, state, table } from "./operations.js";
import { count } from "./text.js";

const EVERY_MS = 15_000;
const UNITS = ["B", "kB", "MB", "GB", "TB", "PB"];

/** Show the page in `place`; `failed` is told what leaves nothing to show. */
export function show(place, failed) {
  const controller = new AbortController();
  // No live region: to be read the time every 15 s helps nobody. What is wrong is an alert.
  const said = element("p", "muted", {}, "Loading");
  const found = element("div", "found");
  let timer;
  let before = null;
  const over = lastAssociations();

  async function look() {
    clearTimeout(timer);
    try {
      // Nobody looks at a page in the background, and each question is recorded.
      if (!document.hidden) {
        const [now, { associations }] = await Promise.all(
          ["admin/activity", "admin/associations"].map((path) => ask(path, {}, controller.signal)));
        found.replaceChildren(...told(now, before), over.of(associations));
        said.replaceChildren("As of ", moment(new Date().toISOString()));
        before = now;
      }
    } catch (error) {
      if (error.name === "AbortError") return;
      if (!before || error.status === 401 || error.status === 403) return failed(error);
      said.replaceChildren(state("not up to date", "bad"), element("span", "", { role: "alert" }, ` ${error.message}`));
    }
    timer = setTimeout(look, EVERY_MS);
  }

  const seen = () => { if (!document.hidden) look(); };
  document.addEventListener("visibilitychange", seen);
  place.replaceChildren(
    heading("Activity", "What this host does just now. Refreshes itself every 15 s while you look at it.",
      element("button", "quiet", { type: "button", onclick: look }, "Refresh")),
    said, found);
  look();
  return () => {
    document.removeEventListener("visibilitychange", seen);
    clearTimeout(timer);
    controller.abort();
  };
}

function told(now, before) {
  const { archive, counted } = now;
  return [
    now.fault ? element("p", "wrong", { role: "alert" }, `The engines: ${now.fault}`) : null,
    element("div", "figures", {},
      ...(counted?.faces ?? []).map((face) => figure(`${face.face} workers ready`, `${face.ready} of ${face.wanted}`,
        face.restarts ? `${count(face.restarts, "restart")}` : "", face.ready < face.wanted)),
      figure("objects", archive.objects.toLocaleString("en"), size(archive.bytes)),
      figure("in quarantine", archive.quarantined.toLocaleString("en"), "", archive.quarantined > 0),
      ...now.room.map((each) => figure(`free for the ${each.place}`, each.freeBytes === null ? "unknown" : size(each.freeBytes),
        `nothing is stored below ${size(now.minFreeBytes)}`, each.freeBytes !== null && each.freeBytes < now.minFreeBytes))),
    counted ? null : element("p", "panel", {},
      "Workers, counts and most queues are told where the settings have metrics.port; this gateway has none, or it does not answer."),
    table("Under way or waiting", ["What", "Now"], [
      ...(counted?.queues ?? []), { what: "commitments to answer", count: now.commitments },
    ].map((each) => [each.what, number(each.count)])),
    ...(counted ? ofProcesses(counted, before?.counted) : []),
  ].filter(Boolean);
}

function ofProcesses({ done, failures, duties }, before) {
  return [
    table("Failures since the start", ["What", "How often", "Since the last look"], growth(failures, before?.failures, "none")),
    table("Done since the start", ["What", "How often", "Since the last look"], growth(done, before?.done, "nothing")),
    table("Background work", ["What", "Last done", "Interrupted"], duties.map((each) => [
      each.duty, each.doneAt ? moment(new Date(each.doneAt * 1000).toISOString()) : "", number(each.interrupted)])),
  ];
}

function growth(now, before, none) {
  if (!now.length) return [[none, "", ""]];
  const earlier = new Map((before ?? []).map((each) => [each.what, each.count]));
  return now.map((each) => {
    const more = before ? each.count - (earlier.get(each.what) ?? 0) : 0;
    // Less than before: the gateway was started anew.
    return [each.what, number(each.count), more > 0 ? `+${number(more)}` : ""];
  });
}

function figure(what, value, note, isWrong = false) {
  return element("div", isWrong ? "figure is-wrong" : "figure", {},
    element("strong", "", {}, value), element("span", "", {}, what), note && element("span", "muted", {}, note));
}

const number = (value) => value.toLocaleString("en");

function size(bytes) {
  const unit = Math.min(UNITS.length - 1, Math.max(0, Math.floor(Math.log10(Math.max(1, bytes)) / 3)));
  return `${(bytes / 1000 ** unit).toFixed(unit ? 1 : 0)}\u00a0${UNITS[unit]}`;
}
