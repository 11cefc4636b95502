// "Only photos …": which photos of the map may be answers, by what is known about where, when and in which direction.
import { again } from "./asking.js";
import { h } from "./dom.js";
import { middle } from "./place_map.js";
import { state } from "./state.js";

const DIRECTIONS = ["north", "north-east", "east", "south-east", "south", "south-west", "west", "north-west"];
/** What stands in the fields; the block is drawn anew with it. */
const typed = { where: "", metres: "500", after: "", before: "", heading: "" };
let open = false;

function filters() {
  const only = {};
  if (typed.where.trim()) only.near = `${typed.where.trim()},${typed.metres.trim()}`;
  if (typed.after) only.after = typed.after;
  if (typed.before) only.before = `${typed.before}T23:59:59`;
  if (typed.heading) only.heading = `${typed.heading}+-45`;
  return only;
}

const summaryText = () => {
  const count = Object.keys(state.only).length;
  return count ? `Only photos … (${count} set)` : "Only photos …";
};

/** A folded block of fields; empty ones leave nothing out. */
export function onlyBlock() {
  const near = state.map.with_position > 0 && state.map.degrees !== false;
  if (!near) typed.where = "";
  state.only = filters();
  const summary = h("summary", { id: "only-title" }, summaryText());
  const fields = [];
  function changed() {
    state.only = filters();
    summary.textContent = summaryText();
    retry.disabled = !state.current;
  }
  const field = (name, tag, attributes, ...children) => {
    const element = h(tag, { id: `only-${name}`, ...attributes, on: { input: () => { typed[name] = element.value; changed(); } } }, ...children);
    element.value = typed[name];
    fields.push([name, element]);
    return element;
  };
  const fresh = () => fields.forEach(([name, element]) => (element.value = typed[name]));
  const here = () => {
    const at = middle();
    if (at) typed.where = `${at.lat}, ${at.lon}`;
    fresh();
    changed();
  };
  const clear = () => {
    Object.assign(typed, { where: "", metres: "500", after: "", before: "", heading: "" });
    fresh();
    changed();
  };
  const retry = h("button", { type: "button", id: "only-again", disabled: !state.current, on: { click: () => again(state.current) } }, "Ask again with these");
  const block = h(
    "details",
    { class: "only", open, on: { toggle: () => (open = block.open) } },
    summary,
    h("p", { class: "soft" }, "What you know already. Photos of the map of which it is not known are left out."),
    near &&
      h(
        "fieldset",
        {},
        h("legend", {}, "Taken near"),
        field("where", "input", { placeholder: "Latitude, longitude", "aria-label": "Latitude, longitude" }),
        h("div", { class: "row" }, h("label", {}, "within", field("metres", "input", { inputmode: "numeric", size: "6" }), "metres"), h("button", { type: "button", id: "only-here", on: { click: here } }, "Middle of the map")),
      ),
    h(
      "fieldset",
      {},
      h("legend", {}, "Taken"),
      h("div", { class: "row" }, h("label", {}, "from", field("after", "input", { type: "date" })), h("label", {}, "to", field("before", "input", { type: "date" }))),
    ),
    h(
      "label",
      {},
      "Looking ",
      field("heading", "select", {}, h("option", { value: "" }, "anywhere"), DIRECTIONS.map((name, i) => h("option", { value: String(45 * i) }, name))),
    ),
    h("div", { class: "row" }, retry, h("button", { type: "button", id: "only-clear", on: { click: clear } }, "Clear")),
  );
  return block;
}
