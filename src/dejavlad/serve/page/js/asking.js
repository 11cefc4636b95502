// Photos asked about, a few at once: each gets its own answer or its own problem.
import * as api from "./api.js";
import { say } from "./dom.js";
import { preview } from "./preview.js";
import { emit, state } from "./state.js";
import { percent, verdict } from "./words.js";

const AT_ONCE = 3;
const waiting = [];
let running = 0;

/** Ask about files; the first becomes the current photo. */
export function ask(files) {
  const asks = [...files].map((file) => ({ file, name: file.name || "pasted photo", map: state.map.name, only: state.only, waiting: true, answer: null, problem: null }));
  state.asks.unshift(...asks);
  waiting.push(...asks);
  select(asks[0]);
  emit("asks");
  for (let i = running; i < AT_ONCE; i++) work();
}

/** Ask again, in the map that is looked at. */
export function again(one) {
  Object.assign(one, { map: state.map.name, only: state.only, waiting: true, answer: null, problem: null });
  waiting.push(one);
  if (running < AT_ONCE) work();
  select(one);
}

export function select(one, candidate = 0) {
  state.current = one;
  state.candidate = candidate;
  emit("current");
}

export function selectCandidate(candidate) {
  state.candidate = candidate;
  emit("candidate");
}

async function work() {
  running += 1;
  for (let one = waiting.shift(); one; one = waiting.shift()) {
    one.thumbnail ??= await preview(one.file, 112, "");
    emit("asked", one);
    const limits = state.service.limits;
    try {
      if (one.file.size > limits.photo_bytes) {
        const most = Math.floor(limits.photo_bytes / 2 ** 20);
        throw new api.Problem(413, `Too large: a photo may have ${most} MB, this one has ${Math.ceil(one.file.size / 2 ** 20)} MB.`);
      }
      one.answer = await api.locate(one.map, one.file, one.only);
    } catch (problem) {
      one.problem = problem;
    }
    one.waiting = false;
    emit("asked", one);
    if (one === state.current) {
      state.candidate = 0;
      emit("current");
    }
    const what = one.answer ? `${verdict(one.answer)}, confidence ${percent(one.answer.confidence)}` : one.problem.message;
    say(`${one.name}: ${what}`);
  }
  running -= 1;
}
