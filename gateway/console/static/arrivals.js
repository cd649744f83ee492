// What comes into the archive while the page is looked at, by the change feed as a stream of events. One request is open
// while the page is shown, and none while it is hidden; afterwards it goes on where it was.
import { credentials, inLink } from "./access.js";
import { ROOT } from "./dicomweb.js";

const TOLD_EVERY_MS = 3000;
/** What comes first is told so soon: of a series that arrives, some more instances with it. */
const TOLD_AFTER_MS = 300;
const AGAIN_MS = [2000, 5000, 15_000, 60_000];

/** Have `changed` called, at most every few seconds, when studies have changed; returns a function that ends it. */
export function followArrivals(changed) {
  if (inLink) return () => undefined;
  let controller = null;
  let last = "";
  let failures = 0;
  let retry;
  let telling;
  let toldAt = 0;
  let isOver = false;

  async function listen() {
    controller = new AbortController();
    const headers = { Accept: "text/event-stream", ...credentials() };
    if (last) headers["Last-Event-ID"] = last;
    const answer = await fetch(`${ROOT}changefeed`, { headers, signal: controller.signal });
    // Who may not follow it, or no more than may: the list is as it was before there was this.
    if (answer.status === 401 || answer.status === 403) return stop();
    if (!answer.ok) throw new Error(`changefeed: ${answer.status}`);
    failures = 0;
    let text = "";
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return undefined;
      const events = (text + value).split("\n\n");
      text = events.pop();
      for (const each of events) heard(each);
    }
  }

  function heard(event) {
    const id = /^id: (.*)$/m.exec(event);
    if (!id) return;
    last = id[1];
    telling ??= setTimeout(() => {
      telling = undefined;
      toldAt = Date.now();
      if (!isOver) changed();
    }, Math.max(TOLD_AFTER_MS, toldAt + TOLD_EVERY_MS - Date.now()));
  }

  function begin() {
    clearTimeout(retry);
    if (isOver || controller || document.hidden) return;
    listen().catch((error) => {
      if (error.name !== "AbortError") failures += 1;
    }).finally(() => {
      controller = null;
      retry = setTimeout(begin, AGAIN_MS[Math.min(failures, AGAIN_MS.length - 1)]);
    });
  }

  function stop() {
    isOver = true;
    controller?.abort();
    clearTimeout(retry);
    clearTimeout(telling);
    document.removeEventListener("visibilitychange", turned);
  }

  function turned() {
    if (document.hidden) controller?.abort();
    else begin();
  }

  document.addEventListener("visibilitychange", turned);
  begin();
  return stop;
}
