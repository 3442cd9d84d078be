// Sound as numbers: 16-bit samples and base64 for the wire, loudness for the eye, wav for the disk. No browser needed.

export const RATE = 24000; // samples a second, of everything that goes over the wire or onto the disk

/** Float samples in [-1, 1] -> 16 bits. */
export function toPcm(samples) {
  const pcm = new Int16Array(samples.length);
  for (let i = 0; i < samples.length; i++) {
    pcm[i] = Math.round(Math.max(-1, Math.min(1, samples[i])) * 32767);
  }
  return pcm;
}

/** 16 bits -> float samples. */
export function fromPcm(pcm) {
  const samples = new Float32Array(pcm.length);
  for (let i = 0; i < pcm.length; i++) samples[i] = pcm[i] / 32768;
  return samples;
}

/** 16-bit samples -> base64 of their little-endian bytes. */
export function toBase64(pcm) {
  const bytes = new Uint8Array(pcm.buffer, pcm.byteOffset, pcm.byteLength);
  let text = "";
  // In pieces: a function takes only so many arguments.
  for (let i = 0; i < bytes.length; i += 8192) text += String.fromCharCode(...bytes.subarray(i, i + 8192));
  return btoa(text);
}

/** The reverse. An odd last byte is left out. */
export function fromBase64(text) {
  const raw = atob(text);
  const bytes = new Uint8Array(raw.length - (raw.length % 2));
  for (let i = 0; i < bytes.length; i++) bytes[i] = raw.charCodeAt(i);
  return new Int16Array(bytes.buffer);
}

/** Loudness of 16-bit samples in decibels of full scale, -100 for silence. */
export function level(pcm) {
  let sum = 0;
  for (let i = 0; i < pcm.length; i++) sum += pcm[i] * pcm[i];
  return Math.max(-100, 10 * Math.log10(sum / Math.max(1, pcm.length) / 32768 ** 2 + 1e-10));
}

const BANDS = [140, 220, 350, 550, 870, 1380, 2180, 3450]; // hertz: from a deep voice's pitch to an "s"

/**
 * How much of each band there is in 16-bit samples, 0 to 1: the outline of a sound, for the eye.
 * One frequency stands for a band (Goertzel's filter), on a window without edges.
 */
export function bands(pcm) {
  const { length } = pcm;
  return BANDS.map((hertz) => {
    const turn = 2 * Math.cos((2 * Math.PI * hertz) / RATE);
    let [last, before] = [0, 0];
    for (let i = 0; i < length; i++) {
      const now = (pcm[i] / 32768) * Math.sin((Math.PI * i) / length) ** 2 + turn * last - before;
      [before, last] = [last, now];
    }
    const power = (last * last + before * before - turn * last * before) / (length / 4) ** 2;
    return Math.max(0, Math.min(1, (10 * Math.log10(power + 1e-12) + 66) / 54));
  });
}

/**
 * Tells loud blocks from quiet ones, over a floor that follows the noise: quickly down, slowly up.
 * Only for showing and timing things on the page: whose turn it is, the server decides.
 */
export class Loudness {
  constructor() {
    this.floor = -60;
  }

  /** Takes the level of a block; says whether it is loud. */
  step(decibels) {
    this.floor = Math.min(decibels, this.floor + 0.12); // 3 dB a second, in blocks of 40 ms
    this.floor = Math.max(this.floor, -80);
    return decibels > Math.max(-48, this.floor + 10);
  }
}

/** The 44 bytes before the samples of a 16-bit wav. */
export function wavHeader(samples, channels, rate = RATE) {
  const header = new DataView(new ArrayBuffer(44));
  const put = (at, text) => [...text].forEach((letter, i) => header.setUint8(at + i, letter.charCodeAt(0)));
  const bytes = samples * channels * 2;
  put(0, "RIFF");
  header.setUint32(4, 36 + bytes, true);
  put(8, "WAVEfmt ");
  header.setUint32(16, 16, true);
  header.setUint16(20, 1, true); // PCM
  header.setUint16(22, channels, true);
  header.setUint32(24, rate, true);
  header.setUint32(28, rate * channels * 2, true);
  header.setUint16(32, channels * 2, true);
  header.setUint16(34, 16, true);
  put(36, "data");
  header.setUint32(40, bytes, true);
  return header.buffer;
}
