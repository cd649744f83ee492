// A stack of rendered frames: wheel, slider and keys step through it.
import { element } from "./elements.js";
import { PictureStore } from "./pictures.js";

const KEPT = 160;
const AHEAD = 6;
const BEHIND = 2;
const WHEEL_STEP_PX = 40;
const PAGE = 10;
// Center and width in Hounsfield units; without one, the window that the instance names.
const WINDOWS = { Default: "", Brain: "40,80", Bone: "400,1800", Lung: "-600,1500" };

export class Viewer {
  constructor() {
    this.store = new PictureStore(KEPT);
    this.stack = [];
    this.position = 0;
    this.window = "";
    this.wheel = 0;
    this.busy = false;
    this.turn = 0;
    this.image = element("img", "frame", { alt: "", draggable: "false", hidden: true });
    this.note = element("p", "note", { role: "status", hidden: true });
    this.label = element("output", "label", { for: "position" });
    this.slider = element("input", "", {
      type: "range", id: "position", min: "0", max: "0", value: "0", "aria-label": "Image in the series",
      oninput: () => this.go(Number(this.slider.value)),
    });
    this.windows = element("div", "windows", { role: "group", "aria-label": "Window", hidden: true },
      ...Object.entries(WINDOWS).map(([name, window]) => element("button", "", {
        type: "button", "aria-pressed": String(window === ""), "data-window": window,
        title: window ? `Center and width ${window.replace(",", ", ")} HU` : "The window that the instance names",
        onclick: () => this.choose(window),
      }, name)));
    this.stage = element("div", "stage", {
      tabindex: "0", role: "group", "aria-label": "Image; arrow keys step through the series",
      onkeydown: (event) => this.key(event),
    }, this.image, this.note);
    this.stage.addEventListener("wheel", (event) => this.scroll(event), { passive: false });
    this.place = element("section", "viewer", { "aria-label": "Viewer" }, this.stage,
      element("div", "controls", {}, this.slider, this.label, this.windows,
        element("span", "muted purpose", {}, "Preview, not for diagnosis")));
  }

  /** What is looked at just now. */
  get shown() {
    return this.stack[this.position];
  }

  /** Show that another series is on its way. */
  wait() {
    this.stack = [];
    this.turn += 1;
    this.image.hidden = true;
    this.say("Loading");
  }

  /** Show a series from its middle, as its thumbnail does. */
  show(stack, modality) {
    this.stack = stack;
    this.turn += 1;
    this.windows.hidden = modality !== "CT" || !stack.some((each) => each.hasPixels);
    this.mark("");
    this.slider.max = String(Math.max(0, stack.length - 1));
    this.slider.hidden = stack.length < 2;
    this.position = -1;
    if (stack.length) this.go(Math.floor(stack.length / 2));
    else this.say("This series has no instances.");
  }

  /** Let go of what is kept. */
  end() {
    this.stack = [];
    this.turn += 1;
    this.store.clear();
  }

  go(position) {
    const next = Math.min(Math.max(position, 0), this.stack.length - 1);
    if (!this.stack.length || next === this.position) return;
    this.direction = next < this.position ? -1 : 1;
    this.position = next;
    this.slider.value = String(next);
    const { frame, frames } = this.stack[next];
    const text = [`${next + 1} / ${this.stack.length}`, frames > 1 && `frame ${frame}`].filter(Boolean).join(" · ");
    this.label.textContent = text;
    this.slider.setAttribute("aria-valuetext", text);
    this.draw();
  }

  choose(window) {
    this.mark(window);
    this.draw();
  }

  mark(window) {
    this.window = window;
    for (const button of this.windows.children) {
      button.setAttribute("aria-pressed", String(button.dataset.window === window));
    }
  }

  /** Draw where the user is now; while one picture is on its way, later wishes wait for it and only the last counts. */
  async draw() {
    if (this.busy) return;
    this.busy = true;
    let drawn = "";
    while (this.stack.length && drawn !== this.wish()) {
      drawn = this.wish();
      await this.drawOnce(this.stack[this.position], this.turn);
    }
    this.busy = false;
    if (!this.image.hidden) this.prefetch();
  }

  wish() {
    return `${this.turn} ${this.position} ${this.window}`;
  }

  async drawOnce(entry, turn) {
    if (!entry.hasPixels) {
      const title = entry.title ? `“${entry.title}”` : "This instance";
      this.say(`${title} has no image. It can be retrieved over DICOMweb.`);
      return;
    }
    try {
      const url = await this.rendered(entry);
      if (turn !== this.turn) return;
      this.image.src = url;
      await this.image.decode();
      if (turn !== this.turn) return;
      this.image.alt = `Image ${this.label.textContent}`;
      this.image.hidden = false;
      this.note.hidden = true;
    } catch (error) {
      if (turn === this.turn) this.say(error.status === undefined ? "This picture cannot be shown." : error.message);
    }
  }

  rendered(entry) {
    const parameters = {};
    if (this.window && !this.windows.hidden) parameters.window = this.window;
    const side = this.side();
    // Pictures larger than the screen are made smaller by the gateway; smaller ones grow here.
    if (Math.max(entry.columns, entry.rows) > side) parameters.viewport = `${side},${side}`;
    const path = entry.frames > 1 ? `${entry.path}/frames/${entry.frame}` : entry.path;
    return this.store.get(`${path}/rendered`, parameters);
  }

  /** The longer side of the stage in device pixels, in coarse steps so that resizing does not fetch anew. */
  side() {
    const box = this.stage.getBoundingClientRect();
    const longest = Math.max(box.width, box.height) * devicePixelRatio;
    return Math.min(4096, Math.max(512, Math.ceil(longest / 512) * 512));
  }

  async prefetch() {
    const wish = this.wish();
    for (let step = 1; step <= AHEAD + BEHIND; step += 1) {
      const distance = step <= AHEAD ? step : AHEAD - step;
      const entry = this.stack[this.position + distance * (this.direction ?? 1)];
      if (!entry?.hasPixels) continue;
      // Where one picture cannot be had, its neighbours mostly cannot either; the user may still ask for them.
      const had = await this.rendered(entry).then(() => true, () => false);
      if (!had || wish !== this.wish() || this.busy) return;
    }
  }

  say(text) {
    this.image.hidden = true;
    this.note.textContent = text;
    this.note.hidden = false;
  }

  key(event) {
    const steps = { ArrowDown: 1, ArrowRight: 1, ArrowUp: -1, ArrowLeft: -1, PageDown: PAGE, PageUp: -PAGE };
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    if (event.key in steps) this.go(this.position + steps[event.key]);
    else if (event.key === "Home") this.go(0);
    else if (event.key === "End") this.go(this.stack.length - 1);
    else return;
    event.preventDefault();
  }

  scroll(event) {
    if (event.ctrlKey || this.stack.length < 2) return;
    event.preventDefault();
    // A mouse wheel counts lines or large steps, a touchpad many small ones.
    this.wheel += event.deltaMode === 0 ? event.deltaY : event.deltaY * WHEEL_STEP_PX;
    const steps = Math.trunc(this.wheel / WHEEL_STEP_PX);
    if (!steps) return;
    this.wheel -= steps * WHEEL_STEP_PX;
    this.go(this.position + Math.sign(steps) * Math.min(Math.abs(steps), 3));
  }
}
