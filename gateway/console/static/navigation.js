// The pages of the console beside the studies, and the landmark that leads to them. Which of them somebody sees is the
// policy's to say; the gateway refuses what it does not allow, whatever is shown here.
import { may } from "./access.js";
import { element, notice } from "./elements.js";

const NAME = "Imaging Gateway";
/**
 * A page's module exports `show(place, failed)`: it puts a heading and the rest in `place`, calls `failed` with an Error
 * that leaves nothing to show, and returns a function that ends it. It is fetched when the page is first asked for.
 */
const PAGES = [
  { path: "", title: "Studies", action: "search" },
  { path: "upload", title: "Upload", action: "store", load: () => import("./upload.js") },
  { path: "shares", title: "Shares", action: "share", load: () => import("./shares.js") },
  { path: "activity", title: "Activity", action: "admin", load: () => import("./activity.js") },
  { path: "peers", title: "Peers", action: "admin", load: () => import("./peers.js") },
  { path: "quarantine", title: "Quarantine", action: "admin", load: () => import("./quarantine.js") },
  { path: "audit", title: "Audit", action: "audit_read", load: () => import("./audit.js") },
  { path: "policy", title: "Policy", action: "admin", load: () => import("./policy.js") },
];
const STUDIES = PAGES[0];

/** The page that an address asks for; what is no page is of the studies. */
export function pageOf(hash) {
  const path = /^#\/([a-z]+)(?:[/?]|$)/.exec(hash)?.[1];
  return PAGES.find((page) => page.load && page.path === path) ?? STUDIES;
}

/** Show in `place` where one may go, and where one is; null while it is not known who asks. */
export function showPlaces(place, current) {
  const open = current ? PAGES.filter((page) => may(page.action)) : [];
  place.hidden = open.length < 2;
  place.replaceChildren(element("ul", "", {}, ...open.map((page) => element("li", "", {},
    element("a", "", { href: `#/${page.path}`, "aria-current": page === current ? "page" : null }, page.title)))));
  // On a phone not all of them are seen at once: the one where one is has to be.
  const here = place.querySelector("[aria-current]");
  if (here) place.scrollLeft = here.offsetLeft - place.offsetLeft - (place.clientWidth - here.offsetWidth) / 2;
  document.body.classList.toggle("is-elsewhere", Boolean(current?.load));
  document.title = current?.load ? `${current.title} – ${NAME}` : NAME;
}

/** Show a page in `place`; returns a function that ends it. Its heading takes the focus when one has `moved` there. */
export function openPage(page, place, failed, moved) {
  let isLeft = false;
  let end = () => undefined;
  const arrive = () => {
    const heading = place.querySelector("h1");
    heading.tabIndex = -1;
    if (moved) heading.focus();
  };
  if (may(page.action)) {
    place.replaceChildren(element("p", "status", { role: "status" }, "Loading"));
    page.load().then((module) => {
      if (isLeft) return;
      end = module.show(place, failed);
      arrive();
    }).catch((error) => { if (!isLeft) failed(error); });
  } else {
    place.replaceChildren(notice("This page is not for you", ["Your rights do not include it."]));
    arrive();
  }
  return () => {
    isLeft = true;
    end();
  };
}
