// The attributes of an instance as a table that can be searched, and its versions. They come as XML (PS3.19 A.1), which
// has their keywords.
import { may, shown } from "./access.js";
import { answered, ROOT } from "./dicomweb.js";
import { element } from "./elements.js";
import { ask, moment, state, table, tell } from "./operations.js";
import { count, size } from "./text.js";

const ROWS = 400;
const LONGEST = 500;
const XML = 'multipart/related; type="application/dicom+xml"';
const COLUMNS = ["Tag", "Keyword", "VR", "Value"];
const PARTS = ["FamilyName", "GivenName", "MiddleName", "NamePrefix", "NameSuffix"];

const children = (node, name) => [...node.children].filter((child) => child.localName === name);
const written = (tag) => `(${tag.slice(0, 4)},${tag.slice(4)})`;
const cut = (text) => (text.length > LONGEST ? `${text.slice(0, LONGEST)} …` : text);

/** A person's name as it is written in a data set (PS3.5 6.2.1). */
function personName(node) {
  const groups = ["Alphabetic", "Ideographic", "Phonetic"].map((group) => {
    const found = children(node, group)[0];
    return found ? PARTS.map((part) => children(found, part)[0]?.textContent ?? "").join("^").replace(/\^+$/, "") : "";
  });
  return groups.join("=").replace(/=+$/, "");
}

function valueOf(node) {
  if (children(node, "BulkData").length) return "bulk data";
  const [binary] = children(node, "InlineBinary");
  if (binary) return size(Math.floor(binary.textContent.trim().length * 3 / 4));
  return [...children(node, "Value").map((each) => each.textContent), ...children(node, "PersonName").map(personName)].join(" \\ ");
}

/** The attributes below a node, with those in the items of sequences after these, a level deeper each. */
function* attributes(node, depth = 0) {
  for (const each of children(node, "DicomAttribute")) {
    const [tag, vr] = ["tag", "vr"].map((name) => each.getAttribute(name) ?? "");
    const creator = each.getAttribute("privateCreator");
    const keyword = each.getAttribute("keyword") || (creator ? `private: ${creator}` : "");
    const items = children(each, "Item");
    yield { tag, vr, keyword, depth, value: vr === "SQ" ? count(items.length, "item") : valueOf(each) };
    for (const item of items) {
      yield { tag: "", vr: "", keyword: `Item ${item.getAttribute("number")}`, depth: depth + 1, value: "" };
      yield* attributes(item, depth + 1);
    }
  }
}

async function metadata(path) {
  const answer = await answered(`${ROOT}${path}/metadata`, XML);
  const boundary = /boundary="?([^";]+)/.exec(answer.headers.get("Content-Type"))[1];
  const [, part] = (await answer.text()).split(`--${boundary}`);
  const text = part.slice(part.indexOf("\r\n\r\n") + 4).trimEnd();
  return [...attributes(new DOMParser().parseFromString(text, "application/xml").documentElement)];
}

const cells = ({ tag, keyword, vr, value, depth }) => [
  element("span", `tag${depth ? ` deep deep${Math.min(depth, 4)}` : ""}`, {}, tag ? written(tag) : keyword), tag ? keyword : "", vr, cut(value),
];

function found(all, text) {
  const wanted = text.toLowerCase().replace(/[(),\s]/g, "");
  if (!wanted) return all;
  return all.filter((each) => [each.tag, each.keyword, each.value.replace(/[(),\s]/g, "")]
    .some((part) => part.toLowerCase().includes(wanted)));
}

/** Show the attributes of an instance, and which versions of it there are. */
export async function showAttributes(path, title) {
  const all = await metadata(path);
  const place = element("div", "attributes");
  const status = element("p", "muted", { role: "status" });
  const input = element("input", "", { type: "search", id: "attribute", autocomplete: "off", spellcheck: "false", autofocus: true });
  const draw = () => {
    const rows = found(all, input.value);
    const shownRows = rows.slice(0, ROWS);
    status.textContent = rows.length > ROWS
      ? `The first ${ROWS} of ${count(rows.length, "attribute")}; search for others` : count(rows.length, "attribute");
    place.replaceChildren(table("Attributes", COLUMNS, shownRows.map(cells)));
  };
  input.addEventListener("input", draw);
  draw();
  tell(title, element("label", "", { for: "attribute" }, "Tag, keyword or value", input), status,
    element("div", "tall", { tabindex: "0", role: "region", "aria-label": "Attributes" }, place), await versions(path));
}

/** The versions of an instance: current, replaced, and deleted for whoever may undo that. */
async function versions(path) {
  if (shown() || !may("read")) return "";
  const uids = path.split("/");
  const [kept, deletions] = await Promise.all([
    ask(`history/${path}`), may("delete") ? ask(`${ROOT}deletions`) : [],
  ]);
  const gone = deletions.filter((each) => each.studyInstanceUID === uids[1]
    && [undefined, uids[3]].includes(each.seriesInstanceUID) && [undefined, uids[5]].includes(each.sopInstanceUID));
  return table("Versions", ["Received", "State", "Version"], [
    ...kept.versions.map(({ version, received, current }) => [
      moment(received), current ? state("current", "good") : state("replaced"), version,
    ]),
    ...gone.map(({ deleted, undoable, undoUntil }) => [
      "", state("deleted", "bad"), element("span", "", {}, moment(deleted), undoable ? ", to be undone until " : "", undoable ? moment(undoUntil) : ""),
    ]),
  ]);
}
