// The answer about one photo, and the photos asked about before.
import * as api from "./api.js";
import { again, select, selectCandidate } from "./asking.js";
import { $, fill, h, save, say } from "./dom.js";
import { csv, geojson, gpx } from "./exports.js";
import { openMatches } from "./matches.js";
import { preview } from "./preview.js";
import { emit, on, state } from "./state.js";
import { counted, doubtful, hasDegrees, metres, percent, place, stateOf, sureness, verdict } from "./words.js";

const SIGN = { known: "✓", unknown: "✕", failed: "!" };

async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const area = h("textarea", { class: "hidden" });
    area.value = text;
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
  say(`Copied ${text}`);
}

function position(one) {
  const { position: where, uncertainty_m: off } = one.answer;
  if (!where) return h("p", { class: "soft" }, "The map does not know where its photos were taken.");
  const text = place(where);
  const button = h("button", { type: "button", id: "copy" }, "Copy");
  button.addEventListener("click", async () => {
    await copy(text);
    button.textContent = "Copied";
    setTimeout(() => (button.textContent = "Copy"), 1500);
  });
  return h("div", { class: "position" }, h("div", {}, h("b", { id: "position" }, text), off && h("span", { class: "soft" }, `within about ${metres(off)}`)), button);
}

async function saveWithPosition(one) {
  const { position: where, uncertainty_m } = one.answer;
  try {
    const blob = await api.withPosition(one.file, where, uncertainty_m);
    save(one.name.replace(/(\.[^.]*)?$/, "-placed.jpg"), blob);
    say("The copy with the position was made");
  } catch (problem) {
    emit("notice", `No copy with the position: ${problem.message}`);
  }
}

function candidates(answer) {
  return h(
    "ol",
    { class: "candidates", "aria-label": "Most alike photos of the map" },
    answer.matches.map((match, i) =>
      h(
        "li",
        {},
        h(
          "button",
          { type: "button", id: `candidate-${i}`, "aria-current": String(i === state.candidate), title: match.name, on: { click: () => (i === state.candidate ? openMatches() : selectCandidate(i)) } },
          h("img", { src: api.image(answer.map, match.id, 160), alt: `Candidate ${i + 1}: ${match.name}`, loading: "lazy" }),
          h("span", { class: "rank", "aria-hidden": "true" }, `${i + 1}`),
        ),
        h("span", { class: "count" }, match.inliers === null || match.inliers === undefined ? "not compared" : counted(match.inliers, "point")),
      ),
    ),
  );
}

function details(one) {
  const { answer } = one;
  const { known, matches } = answer;
  return [
    h(
      "div",
      { class: "sure" },
      h("span", {}, known ? h("b", {}, `${sureness(answer)} · confidence ${percent(answer.confidence)}`) : h("b", {}, `Confidence ${percent(answer.confidence)} that it is here`)),
      (() => {
        const bar = h("i");
        bar.style.width = `${answer.confidence * 100}%`;
        return h("div", { class: "meter", "aria-hidden": "true" }, bar);
      })(),
      h("span", { class: "soft name" }, answer.reason),
      answer.searched?.photos > 0 && h("span", { class: "soft", id: "searched" }, `Among the ${counted(answer.searched.photos, "photo")} that “Only photos …” lets through`),
    ),
    known && position(one),
    matches.length > 0 &&
      h("div", {}, h("h3", {}, known ? "Most alike photos of the map" : doubtful(answer) ? "Most alike photos: look before you decide" : "Only the most alike, not the same place"), candidates(answer)),
    h(
      "div",
      { class: "row" },
      matches.length > 0 && h("button", { type: "button", class: known || doubtful(answer) ? "main" : null, id: "see-matches", on: { click: () => openMatches() } }, "See what matches"),
      known && answer.position && h("button", { type: "button", id: "to-map", on: { click: () => emit("to-map", answer.position) } }, "Show on the map"),
      known && hasDegrees(answer.position) && h("button", { type: "button", id: "save-placed", on: { click: () => saveWithPosition(one) } }, "Save photo with position"),
    ),
  ];
}

let large = { file: null, canvas: null };

async function drawAnswer() {
  const one = state.current;
  const box = $("answer");
  box.hidden = !one;
  if (!one) return;
  if (large.file !== one.file) {
    large = { file: one.file, canvas: null };
    const canvas = await preview(one.file, 1000, `The photo asked about: ${one.name}`);
    if (large.file !== one.file) return;
    large.canvas = canvas;
  }
  if (!large.canvas) return;
  const focused = document.activeElement?.id;
  const kind = one.waiting ? "waiting" : one.problem ? "failed" : stateOf(one.answer);
  const title = one.waiting ? "Looking …" : one.problem ? "No answer" : verdict(one.answer);
  const retry = () => h("div", { class: "row" }, h("button", { type: "button", id: "again", on: { click: () => again(one) } }, "Ask again"));
  fill(
    box,
    h(
      "article",
      { class: `card answer ${kind}` },
      h("div", { class: "asked" }, large.canvas),
      h(
        "div",
        { class: "inside" },
        h("div", { class: "verdict" }, !one.waiting && h("span", { class: "sign", "aria-hidden": "true" }, SIGN[kind]), h("div", {}, h("h2", { id: "verdict" }, title), h("p", { class: "soft name" }, `${one.name} in the map “${one.map}”`))),
        one.problem && [h("p", { class: "name", id: "problem" }, one.problem.message), retry()],
        one.answer?.failed && h("p", { class: "name" }, one.answer.failed),
        one.answer && !one.answer.failed && details(one),
      ),
    ),
  );
  if (focused && box.querySelector(`#${CSS.escape(focused)}`)) $(focused).focus();
}

function chip(one) {
  if (one.waiting) return h("span", { class: "chip" }, "waiting");
  if (one.problem || one.answer.failed) return h("span", { class: "chip failed" }, "no answer");
  return h("span", { class: `chip ${stateOf(one.answer)}` }, one.answer.known ? `found ${percent(one.answer.confidence)}` : "not here");
}

const rows = new Map();

function fillRow(one) {
  const row = rows.get(one);
  if (!row) return;
  fill(row, one.thumbnail ?? h("span", { class: "blank" }), h("span", { class: "name" }, one.name), chip(one));
  row.setAttribute("aria-current", String(one === state.current));
}

function exportRow() {
  const known = state.asks.filter((one) => one.answer?.known);
  const mapped = known.filter((one) => hasDegrees(one.answer.position)).length;
  const button = (text, name, type, made, disabled) =>
    h("button", { type: "button", id: `export-${text.toLowerCase()}`, disabled, on: { click: () => save(name, new Blob([made(state.asks)], { type })) } }, text);
  return h(
    "div",
    { class: "exports" },
    h("p", { class: "soft" }, mapped || !known.length ? "Save all answers as" : "Save all answers as (GeoJSON and GPX need latitude and longitude)"),
    h(
      "div",
      { class: "row" },
      button("GeoJSON", "places.geojson", "application/geo+json", geojson, !mapped),
      button("GPX", "places.gpx", "application/gpx+xml", gpx, !mapped),
      button("CSV", "places.csv", "text/csv", csv, !state.asks.some((one) => one.answer)),
    ),
  );
}

function drawHistory() {
  const box = $("history");
  box.hidden = !state.asks.length;
  rows.clear();
  const list = h("ul", { class: "asks" });
  for (const one of state.asks) {
    const row = h("button", { type: "button", on: { click: () => select(one) } });
    rows.set(one, row);
    fillRow(one);
    list.append(h("li", {}, row));
  }
  fill(box, h("h2", { id: "history-title" }, "Photos asked about"), list, h("div", { id: "exports" }, exportRow()));
}

export function start() {
  on("asks", drawHistory);
  on("asked", (one) => {
    fillRow(one);
    if (!one.waiting) fill($("exports"), exportRow());
    if (one === state.current) drawAnswer();
  });
  on("current", () => {
    for (const [one, row] of rows) row.setAttribute("aria-current", String(one === state.current));
    drawAnswer();
  });
  on("candidate", drawAnswer);
}
