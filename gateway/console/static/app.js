// The console: what the address and the filters ask for is shown.
import { identify, inLink, may, whoForm } from "./access.js";
import { showAccount } from "./account.js";
import { acceptDrops } from "./drops.js";
import { element, notice } from "./elements.js";
import { openPage, pageOf, showPlaces } from "./navigation.js";
import { showStudies } from "./studies.js";
import { showStudy } from "./study.js";

const TYPING_MS = 250;
const DAY_MS = 86_400_000;
const MODALITIES = {
  CR: "radiography, computed", CT: "tomography", DX: "radiography, digital", ES: "endoscopy", IO: "intraoral",
  MG: "mammography", MR: "magnetic resonance", NM: "nuclear medicine", OP: "ophthalmic photography",
  OPT: "ophthalmic tomography", OT: "other", PT: "positron emission", PX: "panoramic", RF: "fluoroscopy",
  RTDOSE: "dose", RTPLAN: "plan", RTSTRUCT: "structure set", SC: "secondary capture", SEG: "segmentation",
  SM: "slide microscopy", SR: "structured report", US: "ultrasound", XA: "angiography",
};
const ROUTE = /^#\/studies\/([0-9.]{1,64})(?:\/series\/([0-9.]{1,64}))?$/;

const byId = (id) => document.getElementById(id);
const content = byId("content");
const filters = byId("filters");
const places = byId("places");
const [words, period, from, to, modality, account] =
  ["search", "period", "from", "to", "modality", "account"].map(byId);

let showing = null;

function dicomDate(moment) {
  return [moment.getFullYear(), moment.getMonth() + 1, moment.getDate()].map((n) => String(n).padStart(2, "0")).join("");
}

function dates() {
  if (period.value === "range") {
    const [low, high] = [from, to].map((input) => input.value.replaceAll("-", ""));
    return low || high ? `${low}-${high}` : "";
  }
  return period.value ? `${dicomDate(new Date(Date.now() - Number(period.value) * DAY_MS))}-` : "";
}

function question() {
  return { words: words.value, dates: dates(), modality: modality.value };
}

function end() {
  showing?.end();
  showing = null;
}

function failed(error) {
  end();
  if (error.status === 401) {
    askWho();
  } else {
    content.replaceChildren(notice("This did not work", [error.message],
      element("button", "primary", { type: "button", onclick: route }, "Try again")));
  }
}

function askWho() {
  end();
  document.body.classList.remove("is-reading");
  document.body.classList.add("is-asked");
  content.replaceChildren(whoForm(start));
  content.querySelector("a, button").focus();
  showAccount(account, null, start);
  showPlaces(places, null);
}

/** Find out who we are to the gateway, and begin anew with that. */
async function start() {
  const me = await identify();
  if (me === null && !inLink) {
    askWho();
    return;
  }
  showAccount(account, me, start);
  end();
  if (!location.hash && me && !may("search") && may("store")) location.replace("#/upload");
  else route();
}

function route(event) {
  const page = pageOf(location.hash);
  document.body.classList.remove("is-asked");
  showPlaces(places, page);
  const [, study, series] = ROUTE.exec(location.hash) ?? [];
  document.body.classList.toggle("is-reading", Boolean(study));
  if (study && showing?.study === study) {
    showing.choose(series);
    return;
  }
  end();
  if (study) {
    showing = { study, ...showStudy(content, study, series, failed) };
  } else if (page.load) {
    showing = { study: null, end: openPage(page, content, failed, event?.type === "hashchange") };
  } else {
    showing = { study: null, end: showStudies(content, question(), failed) };
  }
}

let typing;
function ask(delay) {
  clearTimeout(typing);
  typing = setTimeout(() => {
    byId("range").hidden = period.value !== "range";
    if (ROUTE.test(location.hash)) location.hash = "#/";
    else route();
  }, delay);
}

for (const [name, meaning] of Object.entries(MODALITIES)) {
  modality.append(element("option", "", { value: name }, `${name} – ${meaning}`));
}
words.addEventListener("input", () => ask(TYPING_MS));
for (const each of [period, from, to, modality]) each.addEventListener("change", () => ask(0));
filters.addEventListener("submit", (event) => {
  event.preventDefault();
  ask(0);
});
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault();
  content.focus();
});
acceptDrops();
addEventListener("hashchange", route);
start();
