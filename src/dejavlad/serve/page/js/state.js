// What the page knows; everything is forgotten when it is closed.

export const state = {
  service: null,
  maps: [],
  /** The map that is looked at: an entry of `maps`. */
  map: null,
  /** "ask" or "add": what happens with photos that are dropped. */
  mode: "ask",
  /** Photos asked about, latest first: {file, name, map, only, thumbnail, waiting, answer, problem}. */
  asks: [],
  current: null,
  /** The candidate that is looked at: a place in the current answer's matches. */
  candidate: 0,
  /** Which photos of the map may be answers, as `v1/locate` takes it: {near, after, before, heading}. */
  only: {},
  /** Where added photos were taken, as chosen on the map: {lat, lon} or null. */
  where: null,
};

const events = new EventTarget();
export const on = (type, listener) => events.addEventListener(type, (event) => listener(event.detail));
export const emit = (type, detail) => events.dispatchEvent(new CustomEvent(type, { detail }));
