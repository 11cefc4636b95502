// Photos added to the map: sent a few at a time, each batch a job of the service that is watched.
import * as api from "./api.js";
import { $, fill, h, say } from "./dom.js";
import { emit, state } from "./state.js";
import { counted } from "./words.js";

const BATCH = 16;
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
let busy = Promise.resolve();

function draw({ done, total, failed, stopped, finished, added }) {
  const box = $("progress");
  box.hidden = false;
  const bar = h("i");
  bar.style.width = `${(100 * done) / total}%`;
  const text = finished ? `${counted(added, "photo")} added${failed.length ? `, ${failed.length} not` : ""}` : `Adding: ${done} of ${counted(total, "photo")}`;
  fill(
    box,
    h("b", { id: "progress-text" }, stopped ? `Stopped: ${stopped}` : text),
    h("div", { class: "track", role: "progressbar", "aria-label": "Photos added", "aria-valuemin": "0", "aria-valuemax": String(total), "aria-valuenow": String(done) }, bar),
    failed.length > 0 && h("ul", { tabindex: "0", "aria-label": "Photos that were not added" }, failed.map(([name, reason]) => h("li", {}, `${name}: ${reason}`))),
    (finished || stopped) && h("div", { class: "row" }, h("button", { type: "button", id: "close-progress", on: { click: () => (box.hidden = true) } }, "Done")),
  );
}

function batches(files) {
  const { photos, body_bytes } = state.service.limits;
  const made = [];
  let [batch, bytes] = [[], 0];
  for (const file of files) {
    if (batch.length && (batch.length >= Math.min(BATCH, photos) || bytes + file.size > 0.9 * body_bytes)) {
      made.push(batch);
      [batch, bytes] = [[], 0];
    }
    batch.push(file);
    bytes += file.size;
  }
  if (batch.length) made.push(batch);
  return made;
}

async function watched(job) {
  while (job.state === "queued" || job.state === "running") {
    await pause(300);
    job = await api.job(job.id);
  }
  return job;
}

async function sent(batch, map, where) {
  for (let attempt = 0; ; attempt++) {
    try {
      return await watched(await api.add(map, batch, where));
    } catch (problem) {
      if (![409, 429, 503].includes(problem.status) || attempt > 20) throw problem;
      await pause(1000);
    }
  }
}

async function run(files, map, where) {
  const progress = { done: 0, total: files.length, failed: [], added: 0 };
  draw(progress);
  say(`Adding ${counted(files.length, "photo")}`);
  for (const batch of batches(files)) {
    try {
      const job = await sent(batch, map, where);
      progress.failed.push(...Object.entries(job.failed));
      progress.added += job.added.length;
      if (job.state === "failed") throw new api.Problem(job.error?.status ?? 500, job.error?.reason ?? "no reason was given");
    } catch (problem) {
      if (problem.status === 0 || problem.status === 401 || problem.status === 403) {
        draw({ ...progress, stopped: problem.message });
        return say(`Stopped: ${problem.message}`);
      }
      const reported = new Set(progress.failed.map(([name]) => name));
      progress.failed.push(...batch.filter((file) => !reported.has(file.name)).map((file) => [file.name, problem.message]));
    }
    progress.done += batch.length;
    draw(progress);
  }
  draw({ ...progress, finished: true });
  say(`${counted(progress.added, "photo")} added`);
  emit("changed");
}

/** Add files to the map that is looked at, after those that are being added. */
export function add(files) {
  const [map, where] = [state.map.name, state.where];
  busy = busy.then(() => run([...files], map, where));
}
