// Where the photos of the map were taken, and where the answer lies: Leaflet, with or without tiles.
/* global L */
import { $, h } from "./dom.js";
import { PointsLayer } from "./points_layer.js";
import { hasDegrees, place } from "./words.js";

const CLICK = 14;
const NEAREST = 44;
/** Leaflet empties a tile that it drops by a data: picture, which the content policy refuses. */
const Tiles = L.TileLayer.extend({
  _abortLoading() {
    for (const [key, tile] of Object.entries(this._tiles)) {
      if (tile.coords.z === this._tileZoom || tile.el.complete) continue;
      tile.el.onload = tile.el.onerror = null;
      tile.el.remove();
      delete this._tiles[key];
    }
  },
  _removeTile(key) {
    if (this._tiles[key]) L.GridLayer.prototype._removeTile.call(this, key);
  },
});
let view = null;
let drawing = null;
let marks = null;
let shown = null;
let handlers = {};

const degrees = () => shown.points.degrees;
/** A position on the map that is shown, null where it has none there. */
export function latlng(position) {
  if (!position || !shown) return null;
  if (degrees()) return hasDegrees(position) ? [position.lat, position.lon] : null;
  return [position.north, position.east];
}

/** Show a map's photos; `tiles` is {url, attribution} or null. */
export function show(points, tiles, given) {
  close();
  handlers = given;
  shown = { points };
  const box = $("place-map");
  view = L.map(box, {
    crs: points.degrees ? L.CRS.EPSG3857 : L.CRS.Simple,
    minZoom: points.degrees ? 1 : -12,
    maxZoom: points.degrees ? 22 : 6,
    zoomSnap: 0.5,
    zoomAnimation: false,
    fadeAnimation: false,
    markerZoomAnimation: false,
  });
  view.attributionControl.setPrefix(false);
  const street = tiles && points.degrees;
  shown.street = Boolean(street);
  if (street) {
    // The host's name is all that a tile server needs to know of this page.
    const text = h("span", {}, tiles.attribution ?? "");
    new Tiles(tiles.url, { attribution: text.innerHTML, maxZoom: 22, maxNativeZoom: 19, referrerPolicy: "origin" }).addTo(view);
  } else view.attributionControl.remove();
  L.control.scale({ imperial: false, maxWidth: 140 }).addTo(view);
  legend().addTo(view);
  view.setView([0, 0], 1);
  showAll();
  drawing = new PointsLayer(points, !street).addTo(view);
  marks = L.layerGroup().addTo(view);
  box.setAttribute("role", "application");
  box.setAttribute(
    "aria-label",
    "Where the photos of the map were taken. Arrow keys move, plus and minus zoom, Enter lists the photos in the middle.",
  );
  view.on("click", ({ latlng: at, containerPoint }) => clicked(at, containerPoint));
  box.onkeydown = (event) => {
    if (event.key === "Enter" && event.target === box) clicked(view.getCenter(), view.getSize().divideBy(2));
  };
}

export function close() {
  view?.remove();
  view = shown = null;
}

function legend() {
  const control = L.control({ position: "bottomright" });
  control.onAdd = () =>
    h(
      "ul",
      { class: "legend", "aria-label": "Legend" },
      h("li", {}, h("i"), "photo of the map"),
      h("li", {}, h("i", { class: "l-candidate" }), "most alike"),
      h("li", {}, h("i", { class: "l-place" }), "taken here"),
    );
  return control;
}

function clicked(at, pixel) {
  if (handlers.onPlace?.(at)) return;
  let [centre, best] = [pixel, NEAREST];
  shown.points.x.forEach((x, i) => {
    const point = view.latLngToContainerPoint([shown.points.y[i], x]);
    const away = point.distanceTo(pixel);
    if (away < best) [centre, best] = [point, away];
  });
  const one = view.containerPointToLatLng(centre.subtract([CLICK, -CLICK]));
  const other = view.containerPointToLatLng(centre.add([CLICK, -CLICK]));
  handlers.onClick?.([one.lng, one.lat, other.lng, other.lat]);
}

/** As near as a place is looked at: about 10 m across a hand, and as streets are drawn where there are tiles. */
const closest = () => (shown.street ? 19 : degrees() ? 21 : 4);

/** The middle of what is shown, {lat, lon}; null without a map of degrees. */
export function middle() {
  if (!view || !degrees()) return null;
  const { lat, lng } = view.getCenter();
  return { lat: Number(lat.toFixed(6)), lon: Number(lng.toFixed(6)) };
}

/** All photos of the map. */
export function showAll() {
  if (!view) return;
  const { x, y } = shown.points;
  if (!x.length) return;
  const bounds = L.latLngBounds([]);
  x.forEach((_, i) => bounds.extend([y[i], x[i]]));
  view.fitBounds(bounds, { padding: [60, 60], maxZoom: closest(), animate: false });
}

/** The photos of one place. */
export function showPlace(position) {
  const at = latlng(position);
  if (view && at) view.setView(at, degrees() ? 19 : 3, { animate: false });
}

/** An answer's place and candidates; none clears them. */
export function showAnswer(answer, current, onCandidate) {
  if (!view) return;
  marks.clearLayers();
  if (!answer || answer.failed) return;
  const bounds = L.latLngBounds([]);
  answer.matches.forEach((match, i) => {
    const at = latlng(match.position);
    if (!at) return;
    const icon = L.divIcon({ className: "marker", html: h("div", { class: i === current ? "rank-dot current" : "rank-dot" }, `${i + 1}`), iconSize: [22, 22] });
    const title = `Candidate ${i + 1}: ${match.name}`;
    L.marker(at, { icon, title, zIndexOffset: i === current ? 900 : 100 - i })
      .on("click", () => onCandidate(i))
      .addTo(marks)
      .getElement()
      .setAttribute("aria-label", title);
    bounds.extend(at);
  });
  const at = latlng(answer.position);
  if (at) {
    const radius = answer.uncertainty_m ?? 0;
    if (radius) L.circle(at, { radius, interactive: false, weight: 1.5, color: "#3b76f0", fillOpacity: 0.12 }).addTo(marks);
    const icon = L.divIcon({ className: "marker", html: h("div", { class: "pin" }), iconSize: [34, 34], iconAnchor: [17, 41] });
    const pin = L.marker(at, { icon, interactive: false, keyboard: false, zIndexOffset: 2000 }).addTo(marks).getElement();
    pin.setAttribute("role", "img");
    pin.setAttribute("aria-label", `Taken at ${place(answer.position)}`);
    const room = Math.max(60, 3 * radius) / (degrees() ? 111_320 : 1);
    const wide = degrees() ? room / Math.cos((at[0] * Math.PI) / 180) : room;
    const near = L.latLngBounds([at[0] - room, at[1] - wide], [at[0] + room, at[1] + wide]);
    return view.fitBounds(near, { padding: [20, 20], animate: false });
  }
  if (bounds.isValid()) view.fitBounds(bounds.pad(0.2), { padding: [60, 60], maxZoom: closest(), animate: false });
}

/** Where added photos were taken. */
export function showChosen(where) {
  if (!view) return;
  marks.clearLayers();
  if (where) L.circleMarker([where.lat, where.lon], { radius: 9, weight: 3, interactive: false }).addTo(marks);
}

export const redraw = () => drawing?.draw();
export const resized = () => view?.invalidateSize({ animate: false });
