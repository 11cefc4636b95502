// Two photos side by side, with a line between each pair of points that agree.
import * as api from "./api.js";
import { selectCandidate } from "./asking.js";
import { show } from "./dialogs.js";
import { $, fill, h, s } from "./dom.js";
import { preview } from "./preview.js";
import { state } from "./state.js";
import { counted, percent, place, verdict } from "./words.js";

const MOST_LINES = 150;
let turn = 0;

/** Open the viewer at the candidate that is looked at. */
export function openMatches() {
  if (!state.current?.answer?.matches.length) return;
  const dialog = $("viewer");
  dialog.className = "";
  dialog.onkeydown = (event) => {
    if (event.key === "ArrowLeft") page(-1);
    if (event.key === "ArrowRight") page(1);
  };
  draw();
  show(dialog);
}

function page(step) {
  const next = state.candidate + step;
  if (next < 0 || next >= state.current.answer.matches.length) return;
  selectCandidate(next);
  draw();
}

const loaded = (image) => new Promise((resolve) => (image.complete ? resolve() : (image.onload = image.onerror = resolve)));

/** Lines over both photos; `pairs` in pixels of photos whose (height, width) are `sizes`. */
function lines(overlay, elements, { pairs, sizes }) {
  const frame = overlay.getBoundingClientRect();
  const boxes = elements.map((element) => element.getBoundingClientRect());
  const step = Math.max(1, pairs.length / MOST_LINES);
  const drawn = [];
  for (let i = 0; i < pairs.length; i += step) {
    const pair = pairs[Math.floor(i)];
    const [from, to] = [0, 1].map((side) => {
      const [height, width] = sizes[side];
      const box = boxes[side];
      const [x, y] = pair.slice(2 * side, 2 * side + 2);
      return [box.left - frame.left + ((x + 0.5) / width) * box.width, box.top - frame.top + ((y + 0.5) / height) * box.height];
    });
    const colour = `hsl(${Math.round((pair[0] / sizes[0][1]) * 300)} 95% 60%)`;
    drawn.push(s("line", { x1: from[0], y1: from[1], x2: to[0], y2: to[1], stroke: colour }));
    for (const [x, y] of [from, to]) drawn.push(s("circle", { cx: x, cy: y, r: 3, fill: colour }));
  }
  overlay.replaceChildren(...drawn);
}

async function draw() {
  const mine = ++turn;
  const one = state.current;
  const { matches, map, known } = one.answer;
  const match = matches[state.candidate];
  const dialog = $("viewer");
  const note = h("p", { class: "soft", id: "match-note", role: "status" }, "Comparing the two photos …");
  const overlay = s("svg", { "aria-hidden": "true" });
  const query = await preview(one.file, 1280, `The photo asked about: ${one.name}`);
  if (mine !== turn) return;
  query.classList.add("shown");
  const picture = h("img", { class: "shown", src: api.image(map, match.id, 1280), alt: `Photo of the map: ${match.name}` });
  const where = match.position ? ` · ${place(match.position)}` : "";
  const button = (text, step, id) =>
    h("button", { type: "button", id, disabled: matches[state.candidate + step] === undefined, on: { click: () => page(step) } }, text);
  const focused = document.activeElement?.id;
  fill(
    dialog,
    h(
      "div",
      { class: "head" },
      h("div", {}, h("h2", { id: "viewer-title" }, `${known ? "What matches" : verdict(one.answer)}: candidate ${state.candidate + 1} of ${matches.length}`), note),
      h("button", { type: "button", id: "close-viewer", on: { click: () => dialog.close() } }, "Close"),
    ),
    h(
      "div",
      { class: "pair" },
      h("figure", {}, query, h("figcaption", {}, `Your photo: ${one.name}`)),
      h("figure", {}, picture, h("figcaption", {}, `${match.name}${where}`)),
      overlay,
    ),
    h("div", { class: "pager" }, button("← Previous", -1, "previous"), button("Next →", 1, "next"), h("span", { class: "soft" }, `Descriptor similarity ${match.score.toFixed(3)}`)),
  );
  if (focused && dialog.querySelector(`#${CSS.escape(focused)}:enabled`)) $(focused).focus();
  else if (dialog.open) $("close-viewer").focus();
  try {
    const [pair] = await Promise.all([api.match(map, match.id, one.file), loaded(picture)]);
    if (mine !== turn) return;
    const same = pair.same_place ? "these two show the same place" : "these two do not show the same place, as far as can be seen";
    note.textContent = `${counted(pair.inliers, "point")} of ${pair.tried} agree: ${same} (probability ${percent(pair.confidence)}).` + (pair.pairs.length > MOST_LINES ? ` ${MOST_LINES} of the lines are drawn.` : "");
    const again = () => lines(overlay, [query, picture], pair);
    again();
    new ResizeObserver(() => mine === turn && again()).observe(overlay.parentElement);
  } catch (problem) {
    if (mine === turn) note.textContent = `No lines: ${problem.message}`;
  }
}
