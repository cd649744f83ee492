// Files and folders that are dropped on the page, wherever: they are stored, if one may.
import { may } from "./access.js";
import { element } from "./elements.js";

const LEFT_MS = 300;

/** Files below what was dropped, as [file, path] each; folders with all that is in them. */
async function dropped(transfer) {
  // All are asked for before anything is waited for: then the browser takes the list away.
  const entries = [...transfer.items].filter((item) => item.kind === "file")
    .map((item) => item.webkitGetAsEntry?.() ?? item.getAsFile());
  const found = [];
  for (const entry of entries) await walk(entry, found);
  return found;
}

async function walk(entry, found) {
  if (!entry) return;
  if (entry instanceof File) {
    found.push([entry, entry.name]);
  } else if (entry.isFile) {
    const file = await new Promise((done, failed) => { entry.file(done, failed); });
    found.push([file, entry.fullPath.replace(/^\//, "")]);
  } else {
    const reader = entry.createReader();
    for (;;) {
      // It gives some at a time, and none at the end.
      const some = await new Promise((done, failed) => { reader.readEntries(done, failed); });
      if (!some.length) return;
      for (const each of some) await walk(each, found);
    }
  }
}

/** Take files that are dropped anywhere on the page, and show what becomes of them. */
export function acceptDrops() {
  const over = element("div", "drop", { hidden: true, "aria-hidden": "true" }, element("p", "", {}, "Drop to store"));
  document.body.append(over);
  const isForUs = (event) => may("store") && event.dataTransfer?.types.includes("Files");
  let timer;
  addEventListener("dragover", (event) => {
    if (!isForUs(event)) return;
    event.preventDefault();
    event.dataTransfer.dropEffect = "copy";
    over.hidden = false;
    clearTimeout(timer);
    // No event says for sure that the pointer left the window.
    timer = setTimeout(() => { over.hidden = true; }, LEFT_MS);
  });
  addEventListener("drop", async (event) => {
    if (!isForUs(event)) return;
    event.preventDefault();
    over.hidden = true;
    const [{ send, unreadable }, files] = await Promise.all([
      import("./upload.js"), dropped(event.dataTransfer).catch((error) => error),
    ]);
    location.hash = "#/upload";
    if (files instanceof Error) unreadable(files);
    else send(files);
  });
}
