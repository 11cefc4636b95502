// Where photos come in: dropped, pasted, chosen or photographed.
import { $, fill, h, s, say } from "./dom.js";
import { photograph } from "./dialogs.js";
import { onlyBlock } from "./only.js";
import { emit, on, state } from "./state.js";
import { counted, place } from "./words.js";

const coarse = matchMedia("(pointer: coarse)");
const sign = () =>
  s(
    "svg",
    { class: "big", viewBox: "0 0 24 24", fill: "none", stroke: "currentColor", "stroke-width": "1.5", "aria-hidden": "true" },
    s("path", { d: "M4 8h3l2-3h6l2 3h3a1 1 0 0 1 1 1v9a1 1 0 0 1-1 1H4a1 1 0 0 1-1-1V9a1 1 0 0 1 1-1z", "stroke-linejoin": "round" }),
    s("circle", { cx: 12, cy: 13, r: 3.6 }),
  );

function given(files) {
  if (!files.length) return;
  const most = 2000;
  if (files.length > most) say(`Only the first ${most} photos are taken.`);
  emit(state.mode === "add" ? "add" : "ask", [...files].slice(0, most));
}

function input(options) {
  const element = h("input", { type: "file", accept: "image/*,.heic,.heif,.avif", hidden: true, tabindex: "-1", ...options });
  element.addEventListener("change", () => {
    given(element.files);
    element.value = "";
  });
  return element;
}

const many = input({ multiple: true, id: "files", "aria-label": "Photos" });
const phone = input({ capture: "environment", id: "camera", "aria-label": "Camera" });

async function camera() {
  if (coarse.matches || !navigator.mediaDevices) return phone.click();
  try {
    const file = await photograph();
    if (file) given([file]);
  } catch (problem) {
    say("No camera");
    emit("notice", problem.name === "NotAllowedError" ? "The browser does not let this page use the camera." : "No camera was found.");
  }
}

function mode(name, text) {
  const click = () => {
    state.mode = name;
    emit("mode");
  };
  return h("button", { type: "button", id: `mode-${name}`, "aria-pressed": String(state.mode === name), on: { click } }, text);
}

/** What stands in the fields while it is no position yet. */
let typed = { lat: null, lon: null };

function whereFields() {
  if (!state.map?.with_position || state.map.degrees === false) return null;
  const field = (name, text) =>
    h("input", {
      id: `where-${name}`, inputmode: "decimal", placeholder: text, "aria-label": text, value: state.where?.[name] ?? typed[name],
      on: { change: changed },
    });
  const noteText = () =>
    state.where ? `All at ${place(state.where)}` : "Where were they taken? As the EXIF of each tells, unless you click on the map or type it:";
  const note = h("span", { class: "soft", role: "status" }, noteText());
  const [lat, lon] = [field("lat", "Latitude"), field("lon", "Longitude")];
  function changed() {
    const numbers = [lat, lon].map((each) => (each.value.trim() === "" ? NaN : Number(each.value.replace(",", "."))));
    typed = { lat: lat.value, lon: lon.value };
    const valid = numbers[0] >= -80 && numbers[0] <= 84 && Math.abs(numbers[1]) <= 180;
    state.where = valid ? { lat: numbers[0], lon: numbers[1] } : null;
    note.textContent = noteText();
    emit("where", "typed");
  }
  return h(
    "div",
    { class: "where" },
    note,
    h("div", { class: "row" }, lat, lon),
  );
}

export function draw() {
  const box = $("drop");
  const focused = document.activeElement?.id;
  const adding = state.mode === "add";
  box.classList.toggle("compact", state.asks.length > 0 && !adding);
  const map = state.map?.name ?? "";
  fill(
    box,
    state.map?.writable && h("div", { class: "switch", role: "group", "aria-label": "What happens with photos" }, mode("ask", "Ask where"), mode("add", "Add to the map")),
    sign(),
    h("h2", { id: "drop-title" }, adding ? "Add photos to this map" : state.asks.length ? "Another photo?" : "Where was this taken?"),
    h("p", { class: "soft more name" }, adding ? `What you drop here becomes part of “${map}”.` : "Drop photos anywhere on this page, or paste one. They are compared on the machine that runs dejavlad, and " + (state.service?.keep ? "kept there." : "not kept.")),
    h(
      "div",
      { class: "row" },
      h("button", { type: "button", class: "main", id: "choose", on: { click: () => many.click() } }, adding ? "Choose photos to add" : "Choose photos"),
      h("button", { type: "button", id: "take", on: { click: camera } }, "Take a photo"),
    ),
    adding ? whereFields() : state.map && onlyBlock(),
    many,
    phone,
  );
  if (focused && box.querySelector(`#${CSS.escape(focused)}`)) $(focused).focus();
}

/** Listen to the whole page. */
export function start() {
  let depth = 0;
  const over = (inside) => $("drop").classList.toggle("over", inside);
  const files = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");
  addEventListener("dragenter", (event) => files(event) && over(++depth > 0));
  addEventListener("dragleave", (event) => files(event) && over(--depth > 0));
  addEventListener("dragover", (event) => files(event) && event.preventDefault());
  addEventListener("drop", (event) => {
    if (!files(event)) return;
    event.preventDefault();
    over((depth = 0) > 0);
    given(event.dataTransfer.files);
  });
  addEventListener("paste", (event) => given(event.clipboardData?.files ?? []));
  for (const type of ["map", "mode", "asks"]) on(type, draw);
  on("where", (how) => how === "typed" || draw());
  on("ask", (photos) => say(`Asking about ${counted(photos.length, "photo")}`));
}
