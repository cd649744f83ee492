// The DICOMweb services of this gateway (PS3.18): searches and rendered pictures.
import { credentials } from "./access.js";

/** The path of the service root. */
export const ROOT = new URL("dicomweb/", document.baseURI).pathname;
const MORE = /There are (\d+) additional results/;

/** An answer that is not a success; `message` can be shown. */
export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

const REASONS = {
  0: "The gateway cannot be reached.",
  403: "Your rights do not include this.",
  404: "It is not in the archive, or not for you to see.",
  406: "There is no picture of it.",
  410: "It was deleted.",
  500: "The gateway failed.",
  503: "The gateway is busy. Try again in a moment.",
};

const request = (path, accept, signal) => ask("GET", ROOT + path, accept, signal);

/** The answer to a question of any address, else Refused. */
export const answered = (url, accept, signal = undefined) => ask("GET", url, accept, signal);

/** Refused when something would not be answered. */
export const accepted = (url, accept, signal = undefined) => ask("HEAD", url, accept, signal);

async function ask(method, url, accept, signal) {
  let answer;
  try {
    answer = await fetch(url, { method, headers: { Accept: accept, ...credentials() }, signal });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused(0, REASONS[0]);
  }
  if (answer.ok) return answer;
  const problem = await answer.json().catch(() => ({}));
  const detail = typeof problem.detail === "string" ? problem.detail : "";
  const reason = REASONS[answer.status] ?? `The gateway answered ${answer.status}.`;
  throw new Refused(answer.status, detail ? `${reason} (${detail})` : reason);
}

/** One page of a search: its results, and how many there are after them. */
export async function search(path, parameters = {}, signal = undefined) {
  const answer = await request(`${path}?${new URLSearchParams(parameters)}`, "application/dicom+json", signal);
  const results = answer.status === 204 ? [] : await answer.json();
  const remaining = Number(MORE.exec(answer.headers.get("Warning") ?? "")?.[1] ?? 0);
  return { results, remaining };
}

/** All results of a search. */
export async function searchAll(path, parameters = {}, signal = undefined) {
  const found = [];
  for (;;) {
    const page = await search(path, { ...parameters, offset: found.length }, signal);
    found.push(...page.results);
    if (!page.remaining || !page.results.length) return found;
  }
}

/** A rendered resource as a blob. */
export async function picture(path, parameters = {}, signal = undefined) {
  const query = new URLSearchParams(parameters);
  return (await request(`${path}?${query}`, "image/jpeg", signal)).blob();
}
