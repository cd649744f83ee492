// Files on their way into the archive by STOW-RS (PS3.18 10.5), a few to a request. The browser reads them while it
// sends them: of a file the page holds its first bytes at most.
import { credentials, may, proof } from "./access.js";
import { ROOT } from "./dicomweb.js";
import { HEAD_BYTES, looked } from "./part10.js";
import { first } from "./text.js";

const MOST_FILES = 50;
const MOST_BYTES = 32 << 20;
const PAUSES_MS = [1000, 3000, 9000];
/** The connection, or something between here and the gateway, was not up to it; later it may be. */
const PASSING = new Set([0, 408, 429, 502, 503, 504]);
const MOST_PAGES = 20;
const FAILED = "00081198";
const STORED = "00081199";
const OTHERS = "0008119A";

/**
 * Uploads, one request at a time.
 *
 * `files` has each file with its `state` (waiting, sending, stored, failed, left) and its `reason`; `state` is idle,
 * sending, pausing (after a failed connection) or stopped, and `note` says why. `changed` is called after each change.
 */
export class Sending {
  constructor(changed) {
    this.changed = changed;
    this.queue = [];
    this.running = false;
    this.forget();
    addEventListener("online", () => {
      if (this.state === "pausing") this.wake?.();
    });
  }

  /** Leave out what is not stored yet, and know nothing of all of them any more. */
  forget() {
    for (const entry of this.queue.splice(0)) entry.state = "left";
    this.round = {};
    this.files = [];
    this.state = "idle";
    this.note = "";
    this.studies = new Set();
    this.totalBytes = 0;
    this.doneBytes = 0;
    this.underwayBytes = 0;
    this.counts = { waiting: 0, sending: 0, stored: 0, failed: 0, left: 0 };
    this.cursor = null;
    this.request?.abort();
    this.wake?.();
    this.changed();
  }

  /** Take files, given as [file, path] each, and begin with them. */
  add(files) {
    for (const [file, path] of files) {
      const entry = { file, path, size: file.size, state: "waiting", reason: "", uid: "", alone: false, round: this.round };
      this.files.push(entry);
      this.queue.push(entry);
      this.counts.waiting += 1;
      this.totalBytes += file.size;
    }
    this.run();
  }

  /** Go on with what waits. */
  run() {
    this.state = "sending";
    this.note = "";
    this.changed();
    this.wake?.();
    if (this.running) return;
    this.running = true;
    this.sendAll().finally(() => {
      this.running = false;
      this.changed();
    });
  }

  /** Leave out what is not stored yet; what is stored stays. */
  cancel() {
    this.state = "idle";
    this.note = "";
    for (const entry of this.queue.splice(0)) this.mark(entry, "left");
    this.request?.abort();
    this.wake?.();
    this.changed();
  }

  stop(note) {
    this.state = "stopped";
    this.note = note;
  }

  mark(entry, state, reason = "") {
    if (entry.state === state || entry.round !== this.round) return;
    this.counts[entry.state] -= 1;
    this.counts[state] += 1;
    const done = ["stored", "failed", "left"];
    if (done.includes(state) && !done.includes(entry.state)) this.doneBytes += entry.size;
    entry.state = state;
    entry.reason = reason;
    this.changed();
  }

  async sendAll() {
    this.cursor ??= await this.head();
    while (this.state === "sending") {
      const batch = await this.batch();
      if (this.state !== "sending") {
        for (const entry of batch) this.mark(entry, "left");
      } else if (batch.length) {
        await this.send(batch);
      } else if (!this.queue.length) {
        this.state = "idle";
      }
    }
  }

  /** The next files for one request: each can be told from the others in the answer to it. */
  async batch() {
    const found = [];
    const uids = new Set();
    let bytes = 0;
    while (this.queue.length && found.length < MOST_FILES) {
      const entry = this.queue[0];
      if (!entry.body && !await this.look(entry)) {
        if (this.queue[0] === entry) this.queue.shift();
        continue;
      }
      if (this.queue[0] !== entry) break;
      const apart = entry.alone || (found.length && bytes + entry.body.size > MOST_BYTES) || uids.has(entry.uid);
      if (apart && found.length) break;
      this.queue.shift();
      found.push(entry);
      bytes += entry.body.size;
      if (entry.uid) uids.add(entry.uid);
      if (entry.alone) break;
    }
    for (const entry of found) this.mark(entry, "sending");
    return found;
  }

  /** Look what a file is; false for one that nothing can be sent of. */
  async look(entry) {
    if (!entry.size) {
      this.mark(entry, "failed", "The file is empty.");
      return false;
    }
    let head;
    try {
      head = new Uint8Array(await entry.file.slice(0, HEAD_BYTES).arrayBuffer());
    } catch {
      this.mark(entry, "failed", "The file cannot be read.");
      return false;
    }
    const { kind, uid } = looked(head);
    entry.uid = uid;
    entry.kind = kind;
    if (kind !== "other" && !uid) entry.alone = true;
    // What is no DICOM by its beginning is refused for that: the gateway need not have all of a film to say so.
    entry.body = kind === "other" ? entry.file.slice(0, HEAD_BYTES) : entry.file;
    return true;
  }

  async send(batch) {
    let left = batch;
    for (let tried = 0; ; tried += 1) {
      const answer = await this.post(left);
      if (answer.cancelled) {
        for (const entry of left) this.mark(entry, "left");
        return;
      }
      const body = answer.body ?? {};
      const isReport = [FAILED, STORED, OTHERS].some((tag) => tag in body);
      if (answer.status === 507 || answer.status === 401 || answer.status === 403) {
        this.give(left);
        this.stop({
          401: "Your session has ended. Log in again in another tab, then continue here.",
          403: "Your rights do not include storing here.",
          507: "The archive has no room left.",
        }[answer.status]);
        return;
      }
      if (!PASSING.has(answer.status)) {
        if (isReport) this.settle(left, body);
        else this.refused(left, body.detail ?? `The gateway answered ${answer.status}.`);
        return;
      }
      left = await this.readable(left);
      if (tried === PAUSES_MS.length) {
        this.give(left);
        this.stop(answer.status ? "The gateway is busy, or something before it." : "The gateway cannot be reached.");
        return;
      }
      if (!await this.pause(Math.max(PAUSES_MS[tried], answer.retryMs))) {
        this.give(left);
        if (this.state === "idle") for (const entry of this.queue.splice(0)) this.mark(entry, "left");
        return;
      }
      left = await this.missing(left);
      if (!left.length) return;
    }
  }

  /** Back to the queue, at its beginning. */
  give(batch) {
    for (const entry of batch) this.mark(entry, "waiting");
    this.queue.unshift(...batch.filter((entry) => entry.round === this.round));
  }

  /** Files that can still be read: a browser says the same of one that cannot as of a failed connection. */
  async readable(batch) {
    const found = [];
    for (const entry of batch) {
      const can = await entry.file.slice(0, 1).arrayBuffer().then(() => true, () => false);
      if (can) found.push(entry);
      else this.mark(entry, "failed", "The file changed, or cannot be read any more.");
    }
    return found;
  }

  /** Wait a while; whether it goes on then. */
  async pause(ms) {
    this.state = "pausing";
    this.note = "The connection failed; trying again.";
    this.changed();
    await new Promise((done) => {
      const timer = setTimeout(done, ms);
      this.wake = () => {
        clearTimeout(timer);
        done();
      };
    });
    this.wake = null;
    if (this.state === "pausing" || this.state === "sending") {
      this.state = "sending";
      this.note = "";
    }
    this.changed();
    return this.state === "sending";
  }

  post(batch) {
    const boundary = crypto.getRandomValues(new Uint32Array(4)).join("-");
    const body = new Blob([
      ...batch.flatMap((entry) => [`--${boundary}\r\nContent-Type: application/dicom\r\n\r\n`, entry.body, "\r\n"]),
      `--${boundary}--\r\n`,
    ]);
    const size = batch.reduce((sum, entry) => sum + entry.size, 0);
    // fetch does not tell how much of a body has gone out.
    const request = this.request = new XMLHttpRequest();
    return new Promise((done) => {
      request.open("POST", `${ROOT}studies`);
      const headers = { Accept: "application/dicom+json", ...credentials(), ...proof() };
      for (const [name, value] of Object.entries(headers)) request.setRequestHeader(name, value);
      request.setRequestHeader("Content-Type", `multipart/related; type="application/dicom"; boundary=${boundary}`);
      request.upload.onprogress = ({ loaded, total }) => {
        this.underwayBytes = total ? size * (loaded / total) : 0;
        this.changed();
      };
      request.onabort = () => done({ cancelled: true });
      request.onerror = () => done({ status: 0, retryMs: 0 });
      request.onload = () => done({
        status: request.status,
        retryMs: 1000 * (Number(request.getResponseHeader("Retry-After")) || 0),
        body: parsed(request.responseText),
      });
      request.send(body);
    }).finally(() => {
      this.request = null;
      this.underwayBytes = 0;
    });
  }

  /** What the answer says of each file (PS3.18 Annex I); files that it does not tell apart are sent once more, alone. */
  settle(batch, report) {
    const items = (tag) => report[tag]?.Value ?? [];
    const uid = (item) => String(first(item, "00081155"));
    const stored = new Set(items(STORED).map(uid));
    const failed = new Map(items(FAILED).map((item) => [uid(item), item]));
    for (const item of items(STORED)) this.studies.add(/\/studies\/([0-9.]+)/.exec(first(item, "00081190"))?.[1]);
    let rest = [];
    for (const entry of batch) {
      if (entry.uid && stored.has(entry.uid)) this.mark(entry, "stored");
      else if (entry.uid && failed.has(entry.uid)) this.mark(entry, "failed", why(failed.get(entry.uid)));
      else rest.push(entry);
    }
    const others = items(OTHERS);
    if (batch.length === 1) {
      const [item] = [...items(FAILED), ...others];
      // Under another UID: what is de-identified on its way in.
      for (const entry of rest) this.mark(entry, item ? "failed" : "stored", item ? why(item) : "");
      return;
    }
    if (others.length === rest.length && rest.every((entry) => entry.kind === "other")) {
      rest.forEach((entry, place) => this.mark(entry, "failed", why(others[place])));
      rest = [];
    } else if (rest.length === batch.length && items(STORED).length === batch.length) {
      for (const entry of rest) this.mark(entry, "stored");
      rest = [];
    }
    this.again(rest);
  }

  /** A request was refused as a whole: one of its files may be to blame. */
  refused(batch, reason) {
    if (batch.length > 1) this.again(batch);
    else for (const entry of batch) this.mark(entry, "failed", reason);
  }

  again(batch) {
    for (const entry of batch) entry.alone = true;
    this.give(batch);
  }

  /** Where the change feed stands, to know afterwards what came in; null where that cannot be asked. */
  async head() {
    if (!may("search")) return null;
    const found = await feed("/latest");
    return found && { epoch: found.epoch, after: found.next };
  }

  /** The files of a request without an answer that are not stored yet, as the change feed tells. */
  async missing(batch) {
    const came = new Set();
    for (let page = 0; this.cursor && page < MOST_PAGES; page += 1) {
      const found = await feed(`?${new URLSearchParams({ ...this.cursor, limit: 1000 })}`);
      if (!found) break;
      for (const { action, sopInstanceUID, studyInstanceUID } of found.changes) {
        if (!["created", "updated", "alternative"].includes(action)) continue;
        came.add(sopInstanceUID);
        if (batch.some((entry) => entry.uid === sopInstanceUID)) this.studies.add(studyInstanceUID);
      }
      this.cursor = { epoch: found.epoch, after: found.next };
      if (!found.more) break;
    }
    for (const entry of batch) if (entry.uid && came.has(entry.uid)) this.mark(entry, "stored");
    return batch.filter((entry) => entry.state !== "stored");
  }
}

/** A part of the change feed, null where it cannot be had: then files are sent again, which changes nothing. */
async function feed(rest) {
  const answer = await fetch(`${ROOT}changefeed${rest}`, { headers: { Accept: "application/json", ...credentials() } })
    .catch(() => null);
  return answer?.ok ? answer.json() : null;
}

/** Failure Reasons (PS3.18 Table I.2-2) in a few words; the gateway's own say more, but are cut at 64 letters. */
const REASONS = {
  "0110": "The gateway failed",
  "0111": "Another instance has this UID",
  "0124": "Your rights do not include it",
  A700: "The gateway has no room, or no time",
  A900: "It is not what it says it is",
  C000: "It is no DICOM file, or a damaged one",
  C002: "It cannot be de-identified",
};

function why(item) {
  const code = Number(first(item, "00081197")).toString(16).toUpperCase().padStart(4, "0");
  return [REASONS[code] ?? "The gateway refused it", first(item, "00000902"), code].filter(Boolean).join(" · ");
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}
