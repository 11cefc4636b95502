// Photos that were chosen, drawn on canvases: no address is made of them, and none leaves the machine.
import { h } from "./dom.js";

/** A canvas with the file's picture, its longer side at most `longest`; a note where the browser cannot read it. */
export async function preview(file, longest, label) {
  const named = label ? { role: "img", "aria-label": label } : { "aria-hidden": "true" };
  let bitmap;
  try {
    bitmap = await createImageBitmap(file);
  } catch {
    return h("div", { class: "blank", ...named }, label ? "No preview in this browser" : "?");
  }
  const scale = Math.min(1, longest / Math.max(bitmap.width, bitmap.height));
  const canvas = h("canvas", named);
  canvas.width = Math.max(1, Math.round(bitmap.width * scale));
  canvas.height = Math.max(1, Math.round(bitmap.height * scale));
  const pen = canvas.getContext("2d");
  pen.imageSmoothingQuality = "high";
  pen.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  bitmap.close();
  return canvas;
}
