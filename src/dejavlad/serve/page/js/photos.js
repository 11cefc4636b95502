// The map's photos as pictures: all of them, those of one place, and one by itself.
import * as api from "./api.js";
import { confirmed, show } from "./dialogs.js";
import { $, fill, h, say } from "./dom.js";
import { showPlace } from "./place_map.js";
import { emit, state } from "./state.js";
import { counted, place } from "./words.js";

const PAGE = 60;

function tile(photo, extra = "") {
  return h(
    "li",
    { class: extra },
    h(
      "button",
      { type: "button", title: photo.name, on: { click: () => openPhoto(photo.id) } },
      h("img", { src: api.image(state.map.name, photo.id, 320), alt: "", loading: "lazy" }),
      h("span", { class: "name" }, photo.name),
    ),
  );
}

/** All photos of the map, a page at a time; before them those that the current answer names. */
export async function drawGrid() {
  const pane = $("grid-pane");
  const map = state.map.name;
  const list = h("ul", { class: "photos", "aria-label": "Photos of the map" });
  const more = h("button", { type: "button", class: "more", hidden: true }, "Show more");
  const matched = h("div", { id: "matched" });
  fill(pane, matched, h("h3", {}, "All photos of the map"), list, more);
  drawMatched();
  let cursor = null;
  const next = async () => {
    more.disabled = true;
    const shown = list.children.length;
    try {
      const page = await api.photos(map, { limit: PAGE, cursor });
      if (map !== state.map.name) return;
      list.append(...page.photos.map((photo) => tile(photo)));
      cursor = page.cursor;
      more.hidden = !cursor;
      if (shown) list.children[shown]?.querySelector("button").focus();
      if (!list.children.length) list.append(h("li", { class: "soft" }, "The map is empty."));
    } catch (problem) {
      emit("notice", problem.message);
    }
    more.disabled = false;
  };
  more.addEventListener("click", next);
  await next();
}

/** What the current answer names, before the other photos. */
export function drawMatched() {
  const box = $("matched");
  const one = state.current;
  if (!box) return;
  if (!one?.answer?.matches.length || one.map !== state.map.name) return fill(box);
  const known = one.answer.known;
  fill(
    box,
    h("div", { class: "matched" }, h("h3", { class: "name" }, `Most alike to ${one.name}${known ? "" : ", but not the same place"}`), h("ul", { class: "photos" }, one.answer.matches.map((match, i) => tile(match, known && i === 0 ? "best" : "")))),
  );
}

/** The photos within a box of the map. */
export async function showHere(bbox) {
  const box = $("here");
  try {
    const page = await api.photos(state.map.name, { bbox: bbox.join(","), limit: 40 });
    const hide = h("button", { type: "button", class: "quiet", id: "close-here", on: { click: () => (box.hidden = true) } }, "Close");
    fill(
      box,
      h("div", { class: "head" }, h("h2", { id: "here-title" }, page.total ? `${counted(page.total, "photo")} here` : "No photos here"), hide),
      page.total ? h("ul", { class: "photos" }, page.photos.map((photo) => tile(photo))) : h("p", { class: "soft" }, "Click nearer to a dot."),
    );
    box.hidden = false;
    box.focus({ preventScroll: true });
    say(page.total ? `${counted(page.total, "photo")} here` : "No photos here");
  } catch (problem) {
    emit("notice", problem.message);
  }
}

/** One photo of the map, large, with what is known of it. */
async function openPhoto(id) {
  const map = state.map.name;
  let photo;
  try {
    photo = await api.photo(map, id);
  } catch (problem) {
    return emit("notice", problem.message);
  }
  const dialog = $("viewer");
  dialog.className = "";
  dialog.onkeydown = null;
  const fact = (term, value) => (value === null || value === undefined || value === "" ? [] : [h("dt", {}, term), h("dd", {}, String(value))]);
  const time = typeof photo.time === "number" ? new Date(photo.time * 1000).toISOString().slice(0, 19).replace("T", " ") + " UTC" : photo.time;
  const onMap = () => {
    dialog.close();
    emit("pane", "map");
    showPlace(photo.position);
  };
  fill(
    dialog,
    h("div", { class: "head" }, h("h2", { id: "viewer-title" }, photo.name), h("button", { type: "button", id: "close-viewer", on: { click: () => dialog.close() } }, "Close")),
    h("img", { class: "large", src: api.image(map, id, 1280), alt: `Photo of the map: ${photo.name}` }),
    h("dl", { class: "facts" }, fact("Position", photo.position && place(photo.position)), fact("Looks towards", typeof photo.heading === "number" ? `${photo.heading.toFixed(0)}°` : null), fact("Taken", time), fact("Group", photo.group)),
    h(
      "div",
      { class: "row end" },
      photo.position && h("button", { type: "button", on: { click: onMap } }, "Show on the map"),
      state.map.writable && h("button", { type: "button", class: "danger", id: "remove", on: { click: () => remove(photo, dialog) } }, "Remove from the map"),
    ),
  );
  show(dialog);
}

async function remove(photo, dialog) {
  if (!(await confirmed("Remove this photo?", `“${photo.name}” is taken out of the map “${state.map.name}”. This cannot be undone.`, "Remove it"))) return;
  try {
    await api.remove(state.map.name, photo.id);
    dialog.close();
    $("here").hidden = true;
    say(`${photo.name} was removed`);
    emit("changed");
  } catch (problem) {
    emit("notice", problem.message);
  }
}
