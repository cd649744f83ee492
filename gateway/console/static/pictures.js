// Thumbnails, loaded when they come into view; and a store of rendered pictures around the one being looked at.
// Pictures are fetched rather than linked, since a link cannot show an API key.
import { picture } from "./dicomweb.js";
import { element } from "./elements.js";

const SIZE = 160;
const waiting = new WeakMap();

const watcher = new IntersectionObserver((entries) => {
  for (const { isIntersecting, target } of entries) {
    if (!isIntersecting) continue;
    watcher.unobserve(target);
    load(target, waiting.get(target));
  }
}, { rootMargin: "200px" });

async function load(image, path) {
  try {
    const url = URL.createObjectURL(await picture(`${path}/thumbnail`, { viewport: `${SIZE},${SIZE}` }));
    image.addEventListener("load", () => URL.revokeObjectURL(url), { once: true });
    image.src = url;
  } catch {
    image.classList.add("missing");
  }
}

/** The thumbnail of a study or series. */
export function thumbnail(path) {
  const image = element("img", "thumbnail", { alt: "", width: SIZE, height: SIZE });
  waiting.set(image, path);
  watcher.observe(image);
  return image;
}

/** Rendered pictures by what they show; the oldest go when there are too many. */
export class PictureStore {
  constructor(most) {
    this.most = most;
    this.kept = new Map();
  }

  /** The object URL of a picture, fetched unless it is kept. */
  get(path, parameters) {
    const key = `${path}?${new URLSearchParams(parameters)}`;
    const known = this.kept.get(key);
    this.kept.delete(key);
    const promise = known ?? picture(path, parameters).then((blob) => URL.createObjectURL(blob));
    if (!known) promise.catch(() => this.kept.delete(key));
    this.kept.set(key, promise);
    for (const old of this.kept.keys()) {
      if (this.kept.size <= this.most) break;
      this.drop(old);
    }
    return promise;
  }

  drop(key) {
    this.kept.get(key).then((url) => URL.revokeObjectURL(url), () => undefined);
    this.kept.delete(key);
  }

  /** Let go of all pictures. */
  clear() {
    for (const key of [...this.kept.keys()]) this.drop(key);
  }
}
