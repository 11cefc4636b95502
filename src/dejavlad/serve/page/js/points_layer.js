// The map's own drawing: graticule, tracks and a dot for each photo, on one canvas over (or instead of) tiles.
/* global L */

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

/** 1, 2 or 5 times a power of ten, at least `least`. */
export function roundStep(least) {
  const power = 10 ** Math.floor(Math.log10(least));
  return [1, 2, 5, 10].map((factor) => factor * power).find((step) => step >= least * 0.999);
}

/** Pairs of photos that follow each other closely enough to be of one track. */
export function tracks(x, y, degrees) {
  const lengths = [];
  for (let i = 1; i < x.length; i++) {
    const narrow = degrees ? Math.cos((y[i] * Math.PI) / 180) : 1;
    lengths.push(Math.hypot((x[i] - x[i - 1]) * narrow, y[i] - y[i - 1]) * (degrees ? 111_320 : 1));
  }
  const moving = lengths.filter((length) => length > 0.01).sort((a, b) => a - b);
  if (!moving.length) return [];
  const most = Math.min(200, 4 * moving[moving.length >> 1]);
  return lengths.flatMap((length, i) => (length > 0.01 && length <= most ? [i] : []));
}

export const PointsLayer = L.Layer.extend({
  initialize(points, graticule) {
    this._points = points;
    this._graticule = graticule;
    this._tracks = tracks(points.x, points.y, points.degrees);
  },
  onAdd(map) {
    this._canvas = L.DomUtil.create("canvas", "drawing", map.getPane("overlayPane"));
    this._canvas.setAttribute("aria-hidden", "true");
    map.on("moveend zoomend resize viewreset", this.draw, this);
    this.draw();
  },
  onRemove(map) {
    map.off("moveend zoomend resize viewreset", this.draw, this);
    this._canvas.remove();
  },
  draw() {
    const map = this._map;
    if (!map) return;
    const { x: width, y: height } = map.getSize();
    const ratio = window.devicePixelRatio || 1;
    // A margin all round, so that nothing is missing while the map is dragged.
    const margin = 200;
    const canvas = this._canvas;
    canvas.width = (width + 2 * margin) * ratio;
    canvas.height = (height + 2 * margin) * ratio;
    canvas.style.width = `${width + 2 * margin}px`;
    canvas.style.height = `${height + 2 * margin}px`;
    L.DomUtil.setPosition(canvas, map.containerPointToLayerPoint([-margin, -margin]));
    const pen = canvas.getContext("2d");
    pen.scale(ratio, ratio);
    pen.translate(margin, margin);
    if (this._graticule) this._drawGraticule(pen, width, height, margin);
    this._drawPhotos(pen, width, height, margin);
  },
  _drawPhotos(pen, width, height, margin) {
    const { x, y } = this._points;
    const at = x.map((_, i) => this._map.latLngToContainerPoint([y[i], x[i]]));
    pen.strokeStyle = pen.fillStyle = colour("--dot");
    pen.lineCap = pen.lineJoin = "round";
    pen.globalAlpha = 0.28;
    pen.lineWidth = 6;
    pen.beginPath();
    for (const i of this._tracks) {
      pen.moveTo(at[i].x, at[i].y);
      pen.lineTo(at[i + 1].x, at[i + 1].y);
    }
    pen.stroke();
    pen.globalAlpha = 0.9;
    const radius = x.length > 5000 ? 2 : x.length > 800 ? 3 : 4.5;
    pen.beginPath();
    for (const point of at) {
      if (point.x < -margin || point.y < -margin || point.x > width + margin || point.y > height + margin) continue;
      pen.moveTo(point.x + radius, point.y);
      pen.arc(point.x, point.y, radius, 0, 7);
    }
    pen.fill();
  },
  _drawGraticule(pen, width, height, margin) {
    const map = this._map;
    const southWest = map.containerPointToLatLng([-margin, height + margin]);
    const northEast = map.containerPointToLatLng([width + margin, -margin]);
    const degrees = this._points.degrees;
    const step = roundStep(((northEast.lng - southWest.lng) * 130) / (width + 2 * margin));
    if (!Number.isFinite(step) || step <= 0) return;
    const digits = Math.max(0, -Math.floor(Math.log10(step) + 1e-9));
    const unit = degrees ? "°" : " m";
    pen.lineWidth = 1;
    pen.strokeStyle = colour("--land-line");
    pen.fillStyle = colour("--soft");
    pen.font = "11.5px system-ui, sans-serif";
    pen.beginPath();
    const labels = [];
    for (let lon = Math.ceil(southWest.lng / step); lon * step < northEast.lng; lon++) {
      const { x } = map.latLngToContainerPoint([southWest.lat, lon * step]);
      pen.moveTo(x, -margin);
      pen.lineTo(x, height + margin);
      if (x > 70) labels.push([(lon * step).toFixed(digits) + unit, x + 4, 14]);
    }
    for (let lat = Math.ceil(southWest.lat / step); lat * step < northEast.lat; lat++) {
      const { y } = map.latLngToContainerPoint([lat * step, southWest.lng]);
      pen.moveTo(-margin, y);
      pen.lineTo(width + margin, y);
      if (y > 100 && y < height - 50) labels.push([(lat * step).toFixed(digits) + unit, 6, y - 4]);
    }
    pen.stroke();
    for (const [text, x, y] of labels) pen.fillText(text, x, y);
  },
});
