// Answers as GeoJSON, GPX and CSV.
import { hasDegrees } from "./words.js";

const placed = (asks) => asks.filter((ask) => ask.answer?.known && hasDegrees(ask.answer.position));

/** RFC 7946: one point for each photo whose place is known. */
export function geojson(asks) {
  const features = placed(asks).map(({ name, map, answer }) => ({
    type: "Feature",
    geometry: { type: "Point", coordinates: [answer.position.lon, answer.position.lat] },
    properties: {
      name,
      map,
      confidence: answer.confidence,
      uncertainty_m: answer.uncertainty_m,
      match: answer.matches[0]?.name ?? null,
      reason: answer.reason,
    },
  }));
  return JSON.stringify({ type: "FeatureCollection", features }, null, 1) + "\n";
}

const NOT_XML = /[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\u{10000}-\u{10ffff}]/gu;
const SIGNS = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" };
const xml = (text) => String(text).replace(NOT_XML, "\ufffd").replace(/[&<>"]/g, (sign) => SIGNS[sign]);

/** GPX 1.1: one waypoint for each photo whose place is known. */
export function gpx(asks) {
  const points = placed(asks).map(
    ({ name, answer }) =>
      `  <wpt lat="${answer.position.lat}" lon="${answer.position.lon}">\n    <name>${xml(name)}</name>\n` +
      `    <desc>${xml(`confidence ${answer.confidence.toFixed(3)}; ${answer.reason}`)}</desc>\n  </wpt>`,
  );
  return (
    '<?xml version="1.0" encoding="UTF-8"?>\n' +
    '<gpx version="1.1" creator="dejavlad" xmlns="http://www.topografix.com/GPX/1/1">\n' +
    `${points.join("\n")}\n</gpx>\n`
  );
}

/** A cell; text that a spreadsheet would run as a formula gets an apostrophe before it. */
function cell(value) {
  if (value === null || value === undefined) return "";
  if (typeof value === "number" || typeof value === "boolean") return String(value);
  const text = /^[=+\-@\t\r]/.test(value) ? `'${value}` : value;
  return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

const COLUMNS = ["name", "map", "known", "confidence", "lat", "lon", "east", "north", "zone", "uncertainty_m", "match", "reason"];

/** RFC 4180, one row for each photo that was answered, known or not. */
export function csv(asks) {
  const rows = asks
    .filter((ask) => ask.answer)
    .map(({ name, map, answer }) => {
      const { lat, lon, east, north, zone } = answer.position ?? {};
      const reason = answer.failed ?? answer.reason;
      return [
        ...[name, map, answer.known, answer.confidence, lat, lon, east, north, zone, answer.uncertainty_m],
        ...[answer.matches[0]?.name, reason],
      ];
    });
  return [COLUMNS, ...rows].map((row) => row.map(cell).join(",")).join("\r\n") + "\r\n";
}
