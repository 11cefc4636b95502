// The page: which map, which pane, what is live.
import { add } from "./adding.js";
import * as answer from "./answer.js";
import * as api from "./api.js";
import { ask, selectCandidate } from "./asking.js";
import { token } from "./dialogs.js";
import { $, fill, h, say } from "./dom.js";
import * as drop from "./drop.js";
import { drawGrid, drawMatched, showHere } from "./photos.js";
import * as places from "./place_map.js";
import { emit, on, state } from "./state.js";
import { counted } from "./words.js";

const EVERY = 8000;
const POINTS = 20_000;
let hint = "";

function banner(text, closable = true) {
  const box = $("banner");
  box.hidden = !text;
  box.dataset.kind = closable ? "notice" : "stopped";
  fill(box, text && h("span", { class: "name" }, text), text && closable && h("button", { type: "button", on: { click: () => banner("") } }, "Close"));
}

function alive(answers) {
  const stopped = $("banner").dataset.kind === "stopped" && !$("banner").hidden;
  if (!answers && !stopped) banner(`${api.STOPPED} Start it again, and this page goes on by itself.`, false);
  if (answers && stopped) banner("");
}

const THEMES = { auto: "Theme: as the system", light: "Theme: light", dark: "Theme: dark" };

function theme(next = false) {
  const root = document.documentElement;
  const names = Object.keys(THEMES);
  let name = root.dataset.theme ?? "auto";
  if (next) {
    name = names[(names.indexOf(name) + 1) % names.length];
    if (name === "auto") delete root.dataset.theme;
    else root.dataset.theme = name;
    try {
      localStorage.setItem("theme", name);
    } catch {
      // Storage is switched off: the theme holds until the page is closed.
    }
    places.redraw();
  }
  $("theme").textContent = THEMES[name];
}

function which() {
  const { map, maps } = state;
  const option = (one) => h("option", { value: one.name, selected: one.name === map.name }, one.name);
  const switcher = h("select", { id: "switcher", "aria-label": "Map", on: { change: (event) => openMap(event.target.value) } }, maps.map(option));
  fill($("which"), maps.length > 1 ? switcher : h("b", {}, map?.name ?? "no map"), map && h("span", { class: "soft", id: "count" }, counted(map.photos, "photo")));
}

/** What a click on the map does, or nothing to say where photos are shown. */
function note() {
  const choosing = state.mode === "add" && state.map.degrees !== false;
  $("places-note").textContent = !state.map.with_position ? hint : !$("grid-pane").hidden ? "" : choosing ? "Click on the map where the photos were taken" : hint;
}

function pane(name) {
  const grid = name === "grid";
  $("grid-pane").hidden = !grid;
  $("place-map").hidden = grid;
  $("here").hidden = true;
  $("show-map").setAttribute("aria-pressed", String(!grid));
  $("show-grid").setAttribute("aria-pressed", String(grid));
  $("show-all").hidden = grid;
  note();
  if (grid) drawGrid();
  else places.resized();
}

async function openMap(name, quiet = false) {
  state.map = state.maps.find((map) => map.name === name) ?? state.maps[0];
  const { map } = state;
  if (!quiet) state.where = null;
  if (!map.writable) state.mode = "ask";
  which();
  emit("map");
  const located = map.with_position > 0;
  document.querySelector(".tools .switch").hidden = !located;
  if (located) {
    const points = await api.points(map.name, POINTS);
    if (map !== state.map) return;
    $("place-map").hidden = false;
    places.show(points, state.service.tiles, { onClick: showHere, onPlace: chosenPlace });
    const without = map.photos - map.with_position;
    hint = [
      points.total > points.ids.length ? `${points.ids.length} of ${counted(points.total, "photo")} drawn` : "Click on the map to see the photos of a place",
      without ? `${counted(without, "photo")} without a position` : "",
    ].filter(Boolean).join(" · ");
    note();
    drawAnswer();
  } else {
    places.close();
    hint = "This map does not know where its photos were taken";
    note();
  }
  if (!quiet) pane(located ? "map" : "grid");
  else if (!$("grid-pane").hidden || !located) pane("grid");
}

/** In adding, a click on the map says where the photos were taken. */
function chosenPlace(at) {
  if (state.mode !== "add" || state.map.degrees === false) return false;
  state.where = { lat: Number(at.lat.toFixed(6)), lon: Number(at.lng.toFixed(6)) };
  emit("where");
  say("This place is taken for the photos that are added");
  return true;
}

function drawAnswer() {
  const one = state.current;
  if (state.mode === "add") return places.showChosen(state.where);
  places.showAnswer(one?.map === state.map.name ? one?.answer : null, state.candidate, selectCandidate);
  drawMatched();
}

async function poll() {
  if (document.hidden) return;
  const { map } = state;
  try {
    state.maps = await api.maps();
  } catch {
    return;
  }
  const now = state.maps.find((one) => one.name === map?.name) ?? state.maps[0];
  if (!now) return;
  if (now.name !== map?.name || now.change !== map.change || now.photos !== map.photos) await openMap(now.name, now.name === map?.name);
}

function pages() {
  const { pages: listed } = state.service;
  $("pages").hidden = !listed.length;
  fill($("pages"), listed.map((page) => h("a", { href: page.address }, `${page.kind === "run" ? "Training" : "Results"}: ${page.name}`)));
}

async function start() {
  theme();
  $("theme").addEventListener("click", () => theme(true));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => places.redraw());
  api.listen({ alive, token });
  $("show-map").addEventListener("click", () => pane("map"));
  $("show-grid").addEventListener("click", () => pane("grid"));
  $("show-all").addEventListener("click", () => places.showAll());
  on("notice", (text) => banner(text));
  on("pane", pane);
  on("ask", (files) => (state.map ? ask(files) : banner("There is no map to ask.")));
  on("add", add);
  on("changed", poll);
  on("mode", () => {
    note();
    drawAnswer();
  });
  on("to-map", (position) => {
    pane("map");
    places.showPlace(position);
    $("place-map").scrollIntoView({ block: "center" });
    $("place-map").focus({ preventScroll: true });
  });
  on("where", () => places.showChosen(state.where));
  on("current", () => {
    if (state.current && state.current.map !== state.map.name) openMap(state.current.map);
    else drawAnswer();
  });
  on("candidate", drawAnswer);
  drop.start();
  answer.start();
  addEventListener("keydown", (event) => {
    if (event.key === "Escape" && !document.querySelector("dialog[open]")) $("here").hidden = true;
  });
  for (;;) {
    try {
      state.service = await api.service();
      state.maps = await api.maps();
      break;
    } catch (problem) {
      if (problem.status) banner(problem.message);
      await new Promise((resolve) => setTimeout(resolve, 3000));
    }
  }
  pages();
  if (state.maps.length) await openMap(state.maps[0].name).catch((problem) => banner(problem.message));
  else {
    which();
    drop.draw();
    $("places").hidden = true;
    banner("This service has no map, only the pages above.");
  }
  document.documentElement.dataset.ready = "yes";
  setInterval(poll, EVERY);
}

start();
