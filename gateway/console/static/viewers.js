// Other viewers that this gateway serves; each opens a study in a tab of its own.
import { element } from "./elements.js";

let known;

async function ask() {
  const answer = await fetch("viewers", { headers: { Accept: "application/json" } }).catch(() => null);
  return answer?.ok ? (await answer.json()).viewers : [];
}

/** Links to a study in the other viewers; none where there are none. */
export function viewerLinks(study) {
  const place = element("span", "viewers");
  known ??= ask();
  known.then((viewers) => place.append(...viewers.map((viewer) => element("a", "quiet", {
    href: viewer.study + encodeURIComponent(study),
    target: "_blank",
    // It is ours: with its opener it has the key that this tab keeps.
    rel: "opener",
  }, `Open in ${viewer.name}`))));
  return place;
}
