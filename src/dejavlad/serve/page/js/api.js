// The service over HTTP, and its refusals in plain words.

/** Something was refused, or the service does not answer; `message` is for people. */
export class Problem extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

export const STOPPED = "The service does not answer. Is `dejavlad serve` still running?";
const listeners = { alive: () => {}, token: async () => null };

/** What happens when the service stops or comes back, and who is asked for a token. */
export const listen = (given) => Object.assign(listeners, given);

function words(status, reason) {
  if (status === 413) return `Too large: ${reason || "the photo has more bytes or pixels than are accepted"}`;
  if (status === 415) return `Not a photo: ${reason || "the file is of no kind that can be read"}`;
  if (status === 422) return `The photo cannot be used: ${reason || "it is damaged"}`;
  if (status === 409) return `Somebody else is changing the map just now: ${reason || "try again in a moment"}`;
  if (status === 429 || status === 503) return `The service is busy; try again in a moment. ${reason}`.trim();
  if (status >= 500) return `The service failed: ${reason || "no reason was given"}`;
  return reason || `The service refused (${status})`;
}

/** Asked again after a moment where no answer came, unless that would change something twice. */
async function answered(path, { once = false, ...options } = {}) {
  let response;
  try {
    try {
      response = await fetch(path, options);
    } catch (problem) {
      if (once) throw problem;
      await new Promise((resolve) => setTimeout(resolve, 700));
      response = await fetch(path, options);
    }
  } catch {
    listeners.alive(false);
    throw new Problem(0, STOPPED);
  }
  listeners.alive(true);
  return response;
}

async function checked(path, options) {
  let response = await answered(path, options);
  while (response.status === 401) {
    const token = await listeners.token();
    if (!token) throw new Problem(401, "This service wants a token.");
    await answered("v1/session", { method: "POST", headers: { Authorization: `Bearer ${token}` } });
    response = await answered(path, options);
  }
  if (!response.ok) {
    const body = await response.json().catch(() => ({}));
    throw new Problem(response.status, words(response.status, body?.error?.reason ?? ""));
  }
  return response;
}

const json = async (path, options) => (await checked(path, options)).json();
const query = (values) => {
  const given = Object.entries(values).filter(([, value]) => value !== null && value !== undefined);
  return given.length ? `?${new URLSearchParams(given)}` : "";
};
const form = (files) => {
  const body = new FormData();
  for (const file of files) body.append("photos", file, file.name || "photo.jpg");
  return body;
};
const at = (map) => `v1/maps/${encodeURIComponent(map)}`;

export const service = () => json("v1/service");
export const maps = async () => (await json("v1/maps")).maps;
export const points = (map, limit) => json(`${at(map)}/points${query({ limit })}`);
export const photos = (map, options = {}) => json(`${at(map)}/photos${query(options)}`);
export const photo = (map, id) => json(`${at(map)}/photos/${encodeURIComponent(id)}`);
export const locate = async (map, file, only = {}, k = 5) => {
  const { answers } = await json(`v1/locate${query({ map, k, ...only })}`, { method: "POST", body: form([file]) });
  return answers[0];
};
export const match = (map, photo, file) =>
  json(`v1/match${query({ map, photo })}`, { method: "POST", body: form([file]) });
export const withPosition = async (file, { lat, lon }, uncertainty_m) =>
  (await checked(`v1/exif${query({ lat, lon, uncertainty_m })}`, { method: "POST", body: form([file]) })).blob();
export const add = (map, files, where) =>
  json(`${at(map)}/photos${query(where ?? {})}`, { method: "POST", once: true, body: form(files) });
export const job = (id) => json(`v1/jobs/${encodeURIComponent(id)}`);
export const remove = (map, id) => json(`${at(map)}/photos/${encodeURIComponent(id)}`, { method: "DELETE", once: true });
/** Address of a photo of the map, its longer side at most `size` pixels. */
export const image = (map, id, size) => `${at(map)}/photos/${encodeURIComponent(id)}/image?size=${size}`;
