// The links that one has made, and may revoke; an administrator sees those of all.
import { change } from "./access.js";
import { dialog, element } from "./elements.js";
import { ask, heading, moment, state, table } from "./operations.js";
import { count } from "./text.js";

const COLUMNS = ["For whom", "Shows", "Made by", "Made", "Ends", "Openings", "State", "Actions"];

/** Show the page in `place`; returns a function that ends it. */
export function show(place, failed) {
  const controller = new AbortController();
  const found = element("div", "found", {}, element("p", "status", { role: "status" }, "Loading"));

  async function draw() {
    const { shares } = await ask("shares", {}, controller.signal);
    found.replaceChildren(shares.length ? table("Links", COLUMNS, shares.map(row))
      : element("p", "muted", {}, "No links. A study is shared from its own page."));
  }

  function row(share) {
    const { id, label, studies, view, madeBy, made, ends, uses, mostUses, pin, state: condition } = share;
    const isGood = condition === "good";
    const study = view || studies.length > 1 ? count(studies.length, "study", "studies")
      : element("a", "quiet", { href: `#/studies/${studies[0]}` }, "The study");
    const counted = mostUses ? `${uses} of ${mostUses}` : pin ? String(uses) : "not counted";
    const revoke = element("button", "quiet", {
      type: "button", "aria-label": `Revoke the link for ${label || "no name"}`, onclick: () => askRevoke(share),
    }, "Revoke…");
    return [
      label || "–", element("span", "", {}, study, view ? ` through ${view}` : ""), madeBy, moment(made), moment(ends),
      pin ? `${counted}, with a PIN` : counted, state(isGood ? "open" : condition, isGood ? "good" : ""), isGood ? revoke : element("span", "hidden", {}, id),
    ];
  }

  function askRevoke({ id, label }) {
    dialog("Revoke this link", "Revoke", async () => {
      await change(`shares/${id}`, undefined, "DELETE");
      await draw();
    }, element("p", "", {}, `Whoever has the link${label ? ` (${label})` : ""} sees nothing any more, within a second.`));
  }

  place.replaceChildren(
    heading("Shares", "Links to studies for whoever has them, with how often they were opened. Those that ended are listed for 30 days."),
    found);
  draw().catch((error) => { if (error.name !== "AbortError") failed(error); });
  return () => controller.abort();
}
