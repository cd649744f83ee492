// The beginning of a DICOM file (PS3.10 7.1), as far as the page has to know it.

/** So many bytes hold the preamble and the meta information. */
export const HEAD_BYTES = 4096;

const PREAMBLE = 128;
const LONG = new Set(["OB", "OW", "OF", "OD", "OL", "OV", "SQ", "SV", "UC", "UN", "UR", "UT", "UV"]);
const INSTANCE = 0x0003;

/**
 * What a file is by its first bytes: `kind` is "part10", "bare" (a data set without preamble, which the gateway takes
 * too) or "other", and `uid` its SOP Instance UID as the meta information has it, "" where that does not say it.
 */
export function looked(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (bytes.length < PREAMBLE + 4 || text(bytes, PREAMBLE, 4) !== "DICM") {
    const groups = bytes.length < 8 ? [] : [view.getUint16(0, true), view.getUint16(0)];
    return { kind: groups.includes(0x0008) ? "bare" : "other", uid: "" };
  }
  return { kind: "part10", uid: mediaStorageUid(bytes, view) };
}

/** Media Storage SOP Instance UID (0002,0003), in Explicit VR Little Endian as all meta information is. */
function mediaStorageUid(bytes, view) {
  let place = PREAMBLE + 4;
  while (place + 12 <= bytes.length && view.getUint16(place, true) === 0x0002) {
    const long = LONG.has(text(bytes, place + 4, 2));
    const length = long ? view.getUint32(place + 8, true) : view.getUint16(place + 6, true);
    const start = place + (long ? 12 : 8);
    if (start + length > bytes.length) break;
    if (view.getUint16(place + 2, true) === INSTANCE) return text(bytes, start, length).replace(/[\0 ]+$/, "");
    place = start + length;
  }
  return "";
}

function text(bytes, start, length) {
  return String.fromCharCode(...bytes.subarray(start, start + length));
}
