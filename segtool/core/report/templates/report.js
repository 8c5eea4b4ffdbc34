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
  for (const id of ["size", "missed", "low", "high"]) get(id).closest("label").hidden = !truths;

  const legend = classes.map((name, index) => [name, colours[index]]);
  const hex = (colour) => `rgb(${colour})`;
  if (truths) legend.push(["error: missed", hex(ERRORS.missed)], ["error: false", hex(ERRORS.false)], ["error: another class", hex(ERRORS.wrong)]);
  for (const [name, colour] of legend) {
    const item = document.createElement("li"), square = document.createElement("i");
    square.style.background = colour;
    item.append(square, name);
    get("legend").append(item);
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
    shown.textContent = `${kept.length} of ${cards.length} images shown` + (data.of > cards.length ? `, the worst of ${data.of}.` : ".");
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
      else { near.delete(target); target.pixels = null; for (const canvas of target.querySelectorAll("canvas")) canvas.width = canvas.height = 1; }
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

  // Of each pixel whether a class is there: ids as grey values, or bits of red, green and blue, 24 classes below each other.
  function has(mask, pixel, index, count) {
    if (!multi) return mask[4 * pixel] === index;
    const group = Math.floor(index / 24), bit = index % 24;
    return (mask[4 * (pixel + group * count) + (bit >> 3)] >> (bit & 7)) & 1;
  }

  async function draw(item) {
    const card = item.card;
    if (!item.pixels) item.pixels = Promise.all([read(card.image), read(card.pred), card.truth ? read(card.truth) : null]);
    const [photo, pred, truth] = await item.pixels;
    if (!near.has(item)) return;
    const count = photo.width * photo.height, blend = get("blend").value / 100;
    const only = chosen() === "" ? classes.map((_, index) => index) : [Number(chosen())];
    // Without a chosen class, what is wrong is told from the background, which is class 0 unless classes overlap.
    const ignored = (pixel) => truth && (multi ? has(truth.data, pixel, classes.length, count) : truth.data[4 * pixel] === 255);
    const layers = {
      image: () => null,
      truth: (pixel) => (ignored(pixel) ? rgb[classes.length] : colour(truth.data, pixel)),
      prediction: (pixel) => colour(pred.data, pixel),
      errors: (pixel) => (ignored(pixel) ? rgb[classes.length] : error(pixel)),
    };
    function colour(mask, pixel) {
      if (!multi) return only.includes(mask[4 * pixel]) ? rgb[mask[4 * pixel]] : null;
      let found = null, times = 0;
      for (const index of only) if (has(mask, pixel, index, count)) {
        found = found ? found.map((value, at) => value + rgb[index][at]) : rgb[index];
        times += 1;
      }
      return found && found.map((value) => value / times);
    }
    function error(pixel) {
      if (multi || chosen() !== "") {
        const there = only.some((index) => has(truth.data, pixel, index, count) && !has(pred.data, pixel, index, count));
        const more = only.some((index) => !has(truth.data, pixel, index, count) && has(pred.data, pixel, index, count));
        return there && more ? ERRORS.wrong : there ? ERRORS.missed : more ? ERRORS.false : null;
      }
      const one = truth.data[4 * pixel], other = pred.data[4 * pixel];
      return one === other ? null : other === 0 ? ERRORS.missed : one === 0 ? ERRORS.false : ERRORS.wrong;
    }
    for (const canvas of item.querySelectorAll("canvas")) {
      const layer = layers[canvas.dataset.panel], picture = new ImageData(photo.width, photo.height);
      const faint = canvas.dataset.panel === "errors" ? 0.35 : 1, strength = canvas.dataset.panel === "errors" ? Math.max(blend, 0.8) : blend;
      for (let pixel = 0, at = 0; pixel < count; pixel += 1, at += 4) {
        const over = blend > 0 ? layer(pixel) : null, part = over ? strength : 0;
        for (let channel = 0; channel < 3; channel += 1) {
          const own = photo.data[at + channel];
          picture.data[at + channel] = (1 - part) * (255 - faint * (255 - own)) + (over ? part * over[channel] : 0);
        }
        picture.data[at + 3] = 255;
      }
      canvas.width = photo.width;
      canvas.height = photo.height;
      canvas.getContext("2d").putImageData(picture, 0, 0);
    }
  }

  for (const control of get("filters").elements) control.addEventListener(control.id === "blend" ? "input" : "change", control.id === "blend" ? redraw : refresh);
  get("find").addEventListener("input", refresh);
  get("filters").addEventListener("submit", (event) => event.preventDefault());
  document.addEventListener("keydown", (event) => {
    if (/^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName) && event.target.type !== "range") return;
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const items = [...list.children], now = items.indexOf(document.activeElement), blend = get("blend");
    const go = (index) => { const item = items[Math.min(items.length - 1, Math.max(0, index))]; if (item) { item.focus(); item.scrollIntoView({ block: "center" }); } };
    const keys = {
      j: () => go(now + 1),
      k: () => go(now < 0 ? 0 : now - 1),
      b: () => { if (Number(blend.value)) { blend.dataset.before = blend.value; blend.value = 0; } else blend.value = blend.dataset.before ?? 55; redraw(); },
      "[": () => { blend.value = Number(blend.value) - 10; redraw(); },
      "]": () => { blend.value = Number(blend.value) + 10; redraw(); },
      Enter: () => { if (now >= 0) items[now].classList.toggle("large"); },
    };
    if (event.key === "Enter" && now < 0) return;
    if (keys[event.key]) { keys[event.key](); event.preventDefault(); }
  });
  refresh();
}
