// One study: who and what it is, its series, and the viewer of the series that is chosen.
import { may, shown } from "./access.js";
import { Refused, search, searchAll } from "./dicomweb.js";
import { askDownload, canDownload } from "./download.js";
import { chip, element, notice } from "./elements.js";
import { thumbnail } from "./pictures.js";
import { askShare, canShare } from "./share.js";
import { descriptionOf, nameOf, patientFacts } from "./studies.js";
import { count, date, first, personName, time, values } from "./text.js";
import { Viewer } from "./viewer.js";
import { viewerLinks } from "./viewers.js";

const FIELDS = "Rows,Columns,NumberOfFrames,InstanceNumber,SliceThickness,DocumentTitle,ContentLabel";

/** A button that begins something, once at a time, and says beside it when that did not work. */
function button(text, act) {
  const wrong = element("span", "wrong", { role: "alert", hidden: true });
  let busy = false;
  const begin = async () => {
    if (busy) return;
    busy = true;
    wrong.hidden = true;
    try {
      await act();
    } catch (error) {
      wrong.textContent = error.message;
      wrong.hidden = false;
    }
    busy = false;
  };
  return element("span", "", {}, element("button", "quiet", { type: "button", onclick: begin }, text), wrong);
}

/** `chosen` gives the series that is shown, `instance` the instance, as soon as it is known. */
function heading(study, chosen, instance) {
  const referring = personName(study, "00080090").main;
  const accession = String(first(study, "00080050"));
  return element("div", "heading", {},
    element("a", "back", { href: "#/", "aria-label": "Back to the list of studies" }, "‹ Studies"),
    element("div", "patient", {},
      element("h1", "", {}, nameOf(study)),
      element("span", "muted", {}, patientFacts(study))),
    element("div", "what", {},
      descriptionOf(study),
      element("span", "muted", {}, [
        [date(first(study, "00080020")), time(first(study, "00080030"))].filter(Boolean).join(" "),
        accession && `Accession ${accession}`,
        referring && `Referred by ${referring}`,
      ].filter(Boolean).join(" · "))),
    element("span", "chips", {}, ...values(study, "00080061").map(chip)),
    element("span", "actions", {},
      viewerLinks(String(first(study, "0020000D"))),
      may("read") ? button("Attributes…", async () => {
        const [{ showAttributes }, known] = await Promise.all([import("./attributes.js"), instance()]);
        if (!known) throw new Error("This series has no instances.");
        await showAttributes(known.path, "Attributes of this instance");
      }) : null,
      may("audit_read") && !shown() ? button("Accesses…", async () => {
        await (await import("./accesses.js")).showAccesses(first(study, "0020000D"));
      }) : null,
      canDownload() ? element("button", "quiet", {
        type: "button", onclick: () => askDownload(first(study, "0020000D"), chosen()),
      }, "Download…") : null,
      canShare() ? element("button", "quiet", {
        type: "button", onclick: () => askShare(first(study, "0020000D")),
      }, "Share…") : null));
}

function strip(study, series) {
  const uid = first(series, "0020000E");
  const number = first(series, "00200011");
  const modality = first(series, "00080060");
  const description = first(series, "0008103E");
  return element("a", "series", { href: `#/studies/${study}/series/${uid}`, "data-series": uid },
    thumbnail(`studies/${study}/series/${uid}`),
    element("span", "about", {},
      element("span", "description", {}, description || `Series ${number}`.trim()),
      element("span", "muted", {}, [description && number !== "" && `Series ${number}`, count(first(series, "00201209") || 0, "instance")]
        .filter(Boolean).join(" · ")),
      modality && chip(modality)));
}

/** The frames of a series, one after the other; an instance without pixels is one entry too. */
function frames(study, series, instances) {
  return instances.flatMap((instance) => {
    const path = `studies/${study}/series/${series}/instances/${first(instance, "00080018")}`;
    const about = {
      path,
      hasPixels: Number(first(instance, "00280010")) > 0,
      columns: Number(first(instance, "00280011")) || 0,
      rows: Number(first(instance, "00280010")) || 0,
      number: first(instance, "00200013"),
      title: first(instance, "00420010") || first(instance, "00700080"),
      frames: Math.max(1, Number(first(instance, "00280008")) || 1),
    };
    return Array.from({ length: about.hasPixels ? about.frames : 1 }, (_, place) => ({ ...about, frame: place + 1 }));
  });
}

/** Show a study in `place`. Returns an object with `choose(series)`, to show another series, and `end()`. */
export function showStudy(place, studyUid, seriesUid, failed) {
  const controller = new AbortController();
  const { signal } = controller;
  const viewer = new Viewer();
  let strips = null;
  let all = [];
  let wanted = seriesUid;
  let current = "";
  let asked = 0;
  let choosing = Promise.resolve();

  /** What is looked at, once the series has come that is on its way; who asks meanwhile waits for it. */
  async function instance() {
    for (let awaited; awaited !== choosing;) {
      awaited = choosing;
      await awaited;
    }
    return viewer.shown;
  }

  async function start() {
    const [{ results }, found] = await Promise.all([
      search("studies", { StudyInstanceUID: studyUid, limit: 1 }, signal),
      searchAll(`studies/${studyUid}/series`, {}, signal),
    ]);
    if (!results.length) {
      place.replaceChildren(notice("This study is not here", ["It is not in the archive, or not for you to see."],
        element("a", "primary", { href: "#/" }, "To the list of studies")));
      return;
    }
    all = found;
    strips = element("nav", "strips", { "aria-label": "Series" }, ...all.map((each) => strip(studyUid, each)));
    place.replaceChildren(heading(results[0], () => current, instance), element("div", "reading", {}, strips, viewer.place));
    await choose(wanted);
  }

  function choose(uid) {
    choosing = chooseNow(uid);
    return choosing;
  }

  async function chooseNow(uid) {
    wanted = uid;
    if (!strips) return;
    const series = all.find((each) => first(each, "0020000E") === uid) ?? all[0];
    if (!series) return;
    const chosen = current = first(series, "0020000E");
    for (const each of strips.children) {
      const isShown = each.dataset.series === chosen;
      each.toggleAttribute("aria-current", isShown);
      if (isShown) each.scrollIntoView({ block: "nearest", inline: "nearest" });
    }
    const turn = ++asked;
    viewer.wait();
    const path = `studies/${studyUid}/series/${chosen}/instances`;
    const instances = await searchAll(path, { includefield: FIELDS }, signal);
    if (turn !== asked) return;
    viewer.show(frames(studyUid, chosen, instances), String(first(series, "00080060")));
  }

  function report(error) {
    if (error.name === "AbortError") return;
    if (error instanceof Refused) failed(error);
    else throw error;
  }

  place.replaceChildren(element("p", "status", { role: "status" }, "Loading the study"));
  start().catch(report);
  return {
    choose: (uid) => choose(uid).catch(report),
    end: () => {
      controller.abort();
      viewer.end();
    },
  };
}
