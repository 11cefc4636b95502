// Small dialogs: a yes or no, the token, the camera.
import { $, fill, h } from "./dom.js";

let leaving = false;
const opened = () => document.querySelectorAll("dialog[open]");

/** Show a dialog, which the browser's Back closes: without this, it would leave the page, and all answers with it. */
export function show(dialog) {
  if (dialog.open) return;
  if (!history.state?.dialog) history.pushState({ dialog: true }, "");
  dialog.showModal();
  dialog.addEventListener("close", left, { once: true });
}

function left() {
  if (opened().length || leaving || !history.state?.dialog) return;
  leaving = true;
  history.back();
}

addEventListener("popstate", () => {
  const byPage = leaving;
  leaving = false;
  if (!byPage) return opened().forEach((dialog) => dialog.close());
  if (opened().length) history.pushState({ dialog: true }, ""); // one was opened meanwhile
});

const head = (title) => h("div", { class: "head" }, h("h2", { id: "small-title" }, title));

/** Show the small dialog and wait for what it is closed with ("" where it was left). */
export function ask(title, ...content) {
  const dialog = $("small");
  dialog.className = "narrow";
  fill(dialog, head(title), content);
  dialog.returnValue = "";
  show(dialog);
  return new Promise((resolve) => dialog.addEventListener("close", () => resolve(dialog.returnValue), { once: true }));
}

const closing = (value) => () => $("small").close(value);
const cancel = () => h("button", { type: "button", on: { click: closing("") } }, "Cancel");

/** Whether somebody insists. */
export async function confirmed(title, text, verb) {
  const yes = h("button", { type: "button", class: "danger", on: { click: closing("yes") } }, verb);
  return (await ask(title, h("p", { class: "name" }, text), h("div", { class: "row end" }, cancel(), yes))) === "yes";
}

/** The service's token, as typed in. */
export async function token() {
  const input = h("input", { type: "password", autocomplete: "off", required: true });
  const form = h(
    "form",
    { method: "dialog", on: { submit: () => ($("small").returnValue = input.value) } },
    h("label", {}, "The token that the service was started with", input),
    h("div", { class: "row end" }, cancel(), h("button", { class: "main", value: "given" }, "Go on")),
  );
  const answer = await ask("This service wants a token", form);
  return answer ? input.value : null;
}

/** A photo from the computer's camera, null where there is none or it was left. */
export async function photograph() {
  const stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment", width: { ideal: 1920 } } });
  const video = h("video", { autoplay: true, playsinline: true, "aria-label": "What the camera sees" });
  video.muted = true;
  video.srcObject = stream;
  const take = h("button", { type: "button", class: "main", on: { click: closing("take") } }, "Take the photo");
  const answer = await ask("Take a photo", video, h("div", { class: "row end" }, cancel(), take));
  let file = null;
  if (answer === "take" && video.videoWidth) {
    const canvas = h("canvas");
    [canvas.width, canvas.height] = [video.videoWidth, video.videoHeight];
    canvas.getContext("2d").drawImage(video, 0, 0);
    const blob = await new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", 0.92));
    const time = new Date().toISOString().slice(0, 19).replaceAll(":", "-");
    file = new File([blob], `camera-${time}.jpg`, { type: "image/jpeg" });
  }
  for (const track of stream.getTracks()) track.stop();
  return file;
}
