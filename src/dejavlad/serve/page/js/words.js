// Numbers and places in words.

const number = new Intl.NumberFormat("en");

export const counted = (n, noun) => `${number.format(n)} ${noun}${n === 1 ? "" : "s"}`;

/** A share in per cent, never 100 % or 0 % where it is not. */
export function percent(share) {
  if (share > 0.995 && share < 1) return "> 99 %";
  if (share > 0 && share < 0.01) return "< 1 %";
  return `${Math.round(share * 100)} %`;
}

/** From here on an unknown place is worth a look at the matches. */
const DOUBTFUL = 0.25;
export const doubtful = (answer) => !answer.known && answer.confidence >= DOUBTFUL;

/** How sure an answer is. */
export function sureness({ confidence }) {
  if (confidence >= 0.97) return "Almost certain";
  if (confidence >= 0.85) return "Very likely";
  return "Likely, but look at the matches";
}

/** What the answer says, in one line. */
export function verdict(answer) {
  if (answer.blank) return "This photo shows nothing";
  if (answer.failed) return "This photo cannot be used";
  if (answer.searched?.photos === 0) return "No photo of this map to compare with";
  if (answer.known) return "A place of this map";
  return answer.confidence >= DOUBTFUL ? "Probably not a place of this map" : "Not a place of this map";
}

export const stateOf = (answer) => (answer.failed ? "failed" : answer.known ? "known" : "unknown");

export const hasDegrees = (position) => position !== null && position?.lat !== undefined && position.lat !== null;

/** A position: degrees where they are known, else metres. */
export function place(position) {
  if (hasDegrees(position)) return `${position.lat.toFixed(6)}, ${position.lon.toFixed(6)}`;
  return `${position.east.toFixed(1)} m east, ${position.north.toFixed(1)} m north`;
}

export function metres(length) {
  return length >= 1000 ? `${(length / 1000).toFixed(1)} km` : `${Math.round(length)} m`;
}
