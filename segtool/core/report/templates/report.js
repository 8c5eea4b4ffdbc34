"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const get = (id) => document.getElementById(id);

// Tables: a click on a heading sorts, a second one turns the order round.
for (const button of document.querySelectorAll(".sortable th button")) {
  button.addEventListener("click", () => {
    const heading = button.parentElement, table = heading.closest("table"), body = table.tBodies[0];
    const column = [...heading.parentElement.children].indexOf(heading);
    const down = heading.getAttribute("aria-sort") === "ascending";
    for (const other of heading.parentElement.children) other.removeAttribute("aria-sort");
    heading.setAttribute("aria-sort", down ? "descending" : "ascending");
    const key = (row) => row.cells[column].dataset.key;
    const numeric = [...body.rows].every((row) => row.cells[column].classList.contains("n"));
    const number = (text) => (text === "-inf" ? -Infinity : Number(text));
    const compare = (a, b) => (numeric ? number(key(a)) - number(key(b)) : key(a).localeCompare(key(b), undefined, { numeric: true }));
    body.append(...[...body.rows].sort((a, b) => (down ? compare(b, a) : compare(a, b))));
  });
}
for (const button of document.querySelectorAll("[data-counts]")) {
  button.addEventListener("click", () => {
    const on = button.parentElement.previousElementSibling.querySelector("table").classList.toggle("counts");
    button.setAttribute("aria-pressed", String(on));
  });
}

if (get("gallery")) gallery();

function gallery() {
  const { classes, sizes, multi, colours, cards } = data;
  const rgb = colours.map((colour) => [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16)));
  // Okabe and Ito: missed, false, another class.
  const ERRORS = { missed: [213, 94, 0], false: [86, 180, 233], wrong: [240, 228, 66] };
  const truths = cards.some((card) => card.truth);
  const list = get("gallery"), shown = get("shown");
  list.style.setProperty("--panels", truths ? 4 : 2);
  classes.forEach((name, index) => get("class").add(new Option(name, index)));
  sizes.forEach((name, index) => get("size").add(new Option(name, index)));
  for (const id of ["size", "missed", "low", "order"]) get(id).closest("label").hidden = !truths;
  if (!truths) get("order").value = "id";

  const text = (rgb) => `rgb(${rgb})`;
  function swatch(colour, name) {
    const item = document.createElement("li"), square = document.createElement("i");
    square.style.background = colour;
    item.append(square, name);
    return item;
  }
  // What the colours of errors mean depends on the class that is looked at.
  function legend() {
    const one = chosen() === "" ? null : classes[chosen()];
    let errors = [];
    if (one !== null) errors = [["missed", `${one} that was not predicted`], ["false", `predicted as ${one}, and is not`]];
    else if (multi) errors = [["missed", "a class was missed"], ["false", "a class too many"], ["wrong", "both: another class"]];
    else {
      errors = [["missed", `predicted as ${classes[0]}, and is not`], ["false", `${classes[0]} that was predicted as a class`]];
      if (classes.length > 2) errors.push(["wrong", "another class"]);
    }
    get("legend").replaceChildren(...classes.map((name, index) => swatch(colours[index], name)));
    get("errors").replaceChildren(...(truths ? errors.map(([kind, means]) => swatch(text(ERRORS[kind]), means)) : []),
      ...(truths ? [swatch(colours[classes.length], "not scored")] : []));
  }

  const chosen = () => get("class").value;
  const score = (card) => (chosen() === "" ? card.score : card.iou[chosen()] ?? null);

  function fits(card) {
    if (get("find").value && !card.id.toLowerCase().includes(get("find").value.toLowerCase())) return false;
    if (chosen() !== "" && truths && !(chosen() in card.iou)) return false;
    const value = score(card);
    if (value !== null && (value < Number(get("low").value) || value > Number(get("high").value))) return false;
    const size = get("size").value, missed = get("missed").checked;
    if (size === "" && !missed) return true;
    const bins = Object.entries(card.objects).filter(([index]) => chosen() === "" || index === chosen())
      .flatMap(([, counts]) => (size === "" ? counts : [counts[size]]));
    return bins.some(([objects, found]) => objects > (missed ? found : 0));
  }

  function compare(a, b) {
    if (get("order").value === "id") return a.id.localeCompare(b.id, undefined, { numeric: true });
    const [one, other] = [score(a), score(b)];
    if (one === null || other === null) return (one === null) - (other === null);
    return get("order").value === "up" ? one - other : other - one;
  }

  const element = (name, text, kind) => Object.assign(document.createElement(name), { textContent: text, className: kind ?? "" });
  const elements = new Map();
  function make(card) {
    const item = element("li", "", "card"), head = document.createElement("header"), panels = element("div", "", "panels");
    item.tabIndex = 0;
    item.card = card;
    const facts = [`${card.size[0]}×${card.size[1]}`];
    if (card.score !== null) facts.unshift(`mIoU ${card.score.toFixed(3)}`, `Dice ${card.dice === null ? "–" : card.dice.toFixed(3)}`);
    if (card.group) facts.push(`group ${card.group}`);
    head.append(element("b", card.id), ...facts.map((fact) => element("span", fact)), element("span", "", "own"));
    for (const name of truths ? ["image", "truth", "prediction", "errors"] : ["image", "prediction"]) {
      const figure = document.createElement("figure"), canvas = document.createElement("canvas");
      canvas.dataset.panel = name;
      figure.append(canvas, element("figcaption", name));
      panels.append(figure);
    }
    item.append(head, panels);
    item.addEventListener("click", () => item.classList.toggle("large"));
    watcher.observe(item);
    return item;
  }

  function refresh() {
    const kept = cards.filter(fits).sort(compare);
    for (const card of kept) if (!elements.has(card)) elements.set(card, make(card));
    list.replaceChildren(...kept.map((card) => elements.get(card)));
    legend();
    shown.textContent = `${kept.length} of ${cards.length} images shown` + (data.of > cards.length ? `, ${truths ? "the worst" : "the first"} of ${data.of}.` : ".");
    for (const card of kept) {
      const own = score(card);
      elements.get(card).querySelector(".own").textContent =
        chosen() !== "" && own !== null ? `IoU of ${classes[chosen()]} ${own.toFixed(3)}` : "";
    }
    redraw();
  }

  // Pictures are decoded when they come near the screen, and forgotten when they are far from it.
  const near = new Set();
  const watcher = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting } of entries) {
      if (isIntersecting) { near.add(target); draw(target); }
      else { near.delete(target); target.pixels = undefined; for (const canvas of target.querySelectorAll("canvas")) canvas.width = canvas.height = 1; }
    }
  }, { rootMargin: "600px" });
  const redraw = () => near.forEach(draw);

  async function read(source) {
    const image = new Image();
    image.src = source;
    await image.decode();
    const canvas = new OffscreenCanvas(image.width, image.height), context = canvas.getContext("2d", { willReadFrequently: true });
    context.drawImage(image, 0, 0);
    return context.getImageData(0, 0, image.width, image.height);
  }

  // Class ids as grey values; of classes that overlap bits of red, green and blue, 24 classes to a picture, one below the other.
  function masks(image, count) {
    if (!image) return null;
    const values = new Uint32Array(image.data.length / 4);
    for (let pixel = 0, at = 0; pixel < values.length; pixel += 1, at += 4)
      values[pixel] = multi ? image.data[at] | (image.data[at + 1] << 8) | (image.data[at + 2] << 16) : image.data[at];
    if (!multi) return values;
    return Array.from({ length: values.length / count }, (_, group) => values.subarray(group * count, (group + 1) * count));
  }
  async function open(card) {
    const [photo, ...others] = await Promise.all([card.image, card.pred, card.truth, card.unsure].map((source) => source && read(source)));
    const count = photo.width * photo.height;
    const [pred, truth, unsure] = others.map((image) => masks(image, count));
    return { photo, pred, truth, unsure };
  }

  async function draw(item) {
    item.pixels ??= open(item.card);
    const { photo, pred, truth, unsure } = await item.pixels;
    if (!near.has(item)) return;
    const blend = get("blend").value / 100, only = chosen() === "" ? -1 : Number(chosen());
    const painter = multi ? paintPlanes(pred, truth, unsure, only) : paintIds(pred, truth, only);
    for (const canvas of item.querySelectorAll("canvas")) {
      const panel = canvas.dataset.panel, layer = painter[panel], picture = new ImageData(photo.width, photo.height);
      // The photo stays faint behind errors, which are strong.
      const faint = panel === "errors" ? 0.35 : 1, part = blend === 0 || panel !== "errors" ? blend : Math.max(blend, 0.8);
      const from = photo.data, to = picture.data;
      for (let pixel = 0, at = 0; at < to.length; pixel += 1, at += 4) {
        const over = layer && part > 0 ? layer(pixel) : null;
        for (let channel = at; channel < at + 3; channel += 1) {
          const own = 255 - faint * (255 - from[channel]);
          to[channel] = over ? own + part * (over[channel - at] - own) : own;
        }
        to[at + 3] = 255;
      }
      canvas.width = photo.width;
      canvas.height = photo.height;
      canvas.getContext("2d").putImageData(picture, 0, 0);
    }
  }

  const IGNORED = 255;
  function paintIds(pred, truth, only) {
    const colour = (id) => (id === IGNORED ? rgb[classes.length] : only < 0 || id === only ? rgb[id] : null);
    // Without a chosen class, what is wrong is told from class 0, the background where there is one.
    const away = Math.max(only, 0);
    const error = (is, was) => {
      if (is === IGNORED) return rgb[classes.length];
      if (is === was) return null;
      if (only < 0) return was === away ? ERRORS.missed : is === away ? ERRORS.false : ERRORS.wrong;
      return is === only ? ERRORS.missed : was === only ? ERRORS.false : null;
    };
    return {
      truth: (pixel) => colour(truth[pixel]),
      prediction: (pixel) => colour(pred[pixel]),
      errors: (pixel) => error(truth[pixel], pred[pixel]),
    };
  }
  function paintPlanes(pred, truth, unsure, only) {
    const bits = pred.map((_, group) => {
      let found = 0;
      for (let bit = 0; bit < 24; bit += 1) {
        const index = 24 * group + bit;
        if (index < classes.length && (only < 0 || index === only)) found |= 1 << bit;
      }
      return found;
    });
    const colour = (planes) => (pixel) => {
      let red = 0, green = 0, blue = 0, times = 0;
      for (let group = 0; group < bits.length; group += 1)
        for (let left = planes[group][pixel] & bits[group]; left; left &= left - 1) {
          const own = rgb[24 * group + 31 - Math.clz32(left & -left)];
          red += own[0]; green += own[1]; blue += own[2]; times += 1;
        }
      return times ? [red / times, green / times, blue / times] : null;
    };
    const ignored = (pixel) => (truth[Math.floor(classes.length / 24)][pixel] >> (classes.length % 24)) & 1;
    const error = (pixel) => {
      let missed = 0, more = 0;
      for (let group = 0; group < bits.length; group += 1) {
        const known = bits[group] & (unsure ? ~unsure[group][pixel] : -1), is = truth[group][pixel], was = pred[group][pixel];
        missed |= is & ~was & known;
        more |= was & ~is & known;
      }
      return missed && more ? ERRORS.wrong : missed ? ERRORS.missed : more ? ERRORS.false : null;
    };
    const own = truth && colour(truth);
    return {
      truth: (pixel) => (ignored(pixel) ? rgb[classes.length] : own(pixel)),
      prediction: colour(pred),
      errors: (pixel) => (ignored(pixel) ? rgb[classes.length] : error(pixel)),
    };
  }

  for (const control of get("filters").elements) control.addEventListener(control.id === "blend" ? "input" : "change", control.id === "blend" ? redraw : refresh);
  get("find").addEventListener("input", refresh);
  get("filters").addEventListener("reset", () => setTimeout(refresh));
  get("filters").addEventListener("submit", (event) => event.preventDefault());
  document.addEventListener("keydown", (event) => {
    if (/^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName) && event.target.type !== "range") return;
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const items = [...list.children], now = items.indexOf(document.activeElement), blend = get("blend");
    const go = (index) => { const item = items[Math.min(items.length - 1, Math.max(0, index))]; if (item) { item.focus(); item.scrollIntoView({ block: "center" }); } };
    const keys = {
      j: () => go(now + 1),
      k: () => go(now < 0 ? 0 : now - 1),
      ArrowRight: () => go(now + 1),
      ArrowLeft: () => go(now - 1),
      b: () => { if (Number(blend.value)) { blend.dataset.before = blend.value; blend.value = 0; } else blend.value = blend.dataset.before ?? 55; redraw(); },
      "[": () => { blend.value = Number(blend.value) - 10; redraw(); },
      "]": () => { blend.value = Number(blend.value) + 10; redraw(); },
      Enter: () => { if (now >= 0) items[now].classList.toggle("large"); },
    };
    if (now < 0 && /^(Enter|Arrow.*)$/.test(event.key)) return;
    if (keys[event.key]) { keys[event.key](); event.preventDefault(); }
  });
  // A name in the table of scores leads to its image.
  const known = new Set(cards.map((card) => card.id));
  for (const cell of document.querySelectorAll("#images tbody td:first-child")) {
    const id = cell.textContent;
    if (!known.has(id)) continue;
    const link = Object.assign(document.createElement("a"), { href: "#gallery-section", textContent: id });
    link.addEventListener("click", () => { get("filters").reset(); setTimeout(() => { get("find").value = id; refresh(); }); });
    cell.replaceChildren(link);
  }
  refresh();
}
