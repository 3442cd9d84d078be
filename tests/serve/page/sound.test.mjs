// The arithmetic of the page's sound. Run by tests/serve/test_page.py, beside a copy of the page's modules.

import assert from "node:assert/strict";
import { test } from "node:test";

import { JitterBuffer } from "./jitter.js";
import { Resampler } from "./resample.js";
import { bands, fromBase64, fromPcm, level, Loudness, toBase64, toPcm, wavHeader } from "./sound.js";
import { Tape, wavOf } from "./tape.js";
import { asSubtitles, asText, clockText } from "./writing.js";

const sine = (hertz, rate, count) =>
  Float32Array.from({ length: count }, (_, i) => Math.sin((2 * Math.PI * hertz * i) / rate));
const ones = (count, value = 1) => new Float32Array(count).fill(value);

function pull(buffer, count) {
  const out = new Float32Array(count);
  buffer.pull(out);
  return out;
}

test("16 bits and base64 there and back, and too loud is as loud as can be", () => {
  const pcm = toPcm(Float32Array.of(0, 0.5, -0.5, 2, -2));
  assert.deepEqual([...pcm], [0, 16384, -16383, 32767, -32767]);
  assert.deepEqual([...fromBase64(toBase64(pcm))], [...pcm]);
  assert.ok(Math.abs(fromPcm(pcm)[1] - 0.5) < 1e-4);
  const long = toPcm(sine(440, 24000, 30000));
  assert.deepEqual(fromBase64(toBase64(long)), long);
  assert.equal(fromBase64(btoa("abc")).length, 1); // an odd byte is left out
});

test("loudness: speech over noise is loud, the noise alone isn't, not even when it has grown", () => {
  assert.equal(level(new Int16Array(960)), -100);
  assert.ok(Math.abs(level(toPcm(sine(1000, 24000, 24000))) + 3.01) < 0.01);
  const ears = new Loudness();
  assert.equal(ears.step(-55), false);
  assert.equal(ears.step(-25), true);
  let loud = 0;
  for (let i = 0; i < 600; i++) loud = ears.step(-40);
  assert.equal(loud, false);
  assert.equal(ears.step(-20), true);
});

for (const [from, to] of [
  [48000, 24000],
  [44100, 24000],
  [24000, 48000],
  [24000, 44100],
  [16000, 24000],
]) {
  test(`${from} -> ${to}: in pieces as whole, and a tone stays that tone`, () => {
    const input = sine(1000, from, from);
    const whole = new Resampler(from, to).step(input);
    const pieces = [];
    const resampler = new Resampler(from, to);
    for (let i = 0, size = 1; i < input.length; i += size, size = (size * 7) % 401) {
      pieces.push(...resampler.step(input.subarray(i, i + size)));
    }
    assert.ok(whole.length > to - 100 && whole.length <= to);
    assert.deepEqual(Float32Array.from(pieces), whole);
    // The best sine of that frequency, by its two projections; what is left is distortion.
    const middle = whole.subarray(1000, whole.length - 1000);
    let [a, b, power] = [0, 0, 0];
    middle.forEach((y, i) => {
      a += (2 / middle.length) * y * Math.sin((2 * Math.PI * 1000 * i) / to);
      b += (2 / middle.length) * y * Math.cos((2 * Math.PI * 1000 * i) / to);
      power += y * y;
    });
    const left = middle.reduce((sum, y, i) => {
      const x = (2 * Math.PI * 1000 * i) / to;
      return sum + (y - a * Math.sin(x) - b * Math.cos(x)) ** 2;
    }, 0);
    assert.ok(10 * Math.log10(power / left) > 45, `${10 * Math.log10(power / left)} dB`);
    assert.ok(Math.abs(Math.hypot(a, b) - 1) < 0.02);
  });
}

test("48000 -> 24000 takes out what 24000 can't hold", () => {
  const out = new Resampler(48000, 24000).step(sine(15000, 48000, 48000)).subarray(100);
  assert.ok(Math.max(...out) < 0.01);
});

test("playing starts with a lead, or with the end of a short item", () => {
  const buffer = new JitterBuffer();
  buffer.push("a", ones(2000));
  assert.equal(Math.max(...pull(buffer, 128)), 0);
  buffer.push("a", ones(1000));
  assert.equal(Math.min(...pull(buffer, 128)), 1);
  assert.deepEqual(buffer.began, ["a"]);
  const short = new JitterBuffer();
  short.push("b", ones(200));
  short.end("b");
  assert.equal(
    pull(short, 256).reduce((a, b) => a + b),
    200,
  );
  assert.deepEqual(short.finished, ["b"]);
  assert.equal(short.playing, false);
});

test("items follow each other without a seam", () => {
  const buffer = new JitterBuffer();
  buffer.push("a", ones(3000));
  buffer.end("a");
  buffer.push("b", ones(3000, 0.5));
  buffer.end("b");
  const out = pull(buffer, 6000);
  assert.equal(out[2999], 1);
  assert.equal(out[3000], 0.5);
  assert.deepEqual(buffer.finished, ["a", "b"]);
  assert.equal(buffer.gaps, 0);
});

test("running dry is a gap, and asks for more of a lead the next time; the end of an item is none", () => {
  const buffer = new JitterBuffer();
  buffer.push("a", ones(2880));
  pull(buffer, 3000);
  buffer.push("a", ones(2880)); // enough for the first lead, not for the next
  assert.equal(Math.max(...pull(buffer, 128)), 0);
  assert.equal(buffer.gaps, 1);
  buffer.push("a", ones(2880));
  assert.equal(Math.max(...pull(buffer, 5760)), 1);
  buffer.end("a");
  assert.equal(buffer.gaps, 1);
  assert.deepEqual(buffer.finished, ["a"]);
});

test("cut off: silence within 5 ms, and it is known how much was played", () => {
  const buffer = new JitterBuffer();
  buffer.push("a", ones(4800));
  buffer.push("b", ones(4800));
  pull(buffer, 1000);
  assert.deepEqual(
    [...buffer.clear()],
    [
      ["a", 1000],
      ["b", 0],
    ],
  );
  const after = pull(buffer, 1000);
  assert.ok(after[0] < 1 && after[60] < after[0] && after[119] > 0 && after[120] === 0 && after[999] === 0);
  assert.deepEqual([...buffer.clear()], []);
  buffer.push("c", ones(4800)); // and the next answer is played as ever
  assert.equal(pull(buffer, 128)[0], 1);
});

test("what was played to its end isn't cut any more", () => {
  const buffer = new JitterBuffer();
  buffer.push("a", ones(500));
  buffer.end("a");
  pull(buffer, 600);
  assert.deepEqual([...buffer.clear()], []);
});

test("a wav of two channels, the model left and the user right", async () => {
  const tape = new Tape();
  for (let i = 0; i < 300; i++) tape.push(new Int16Array(960).fill(7), new Int16Array(960).fill(-9));
  assert.equal(tape.seconds, 12);
  const bytes = await tape.wav().arrayBuffer();
  assert.equal(bytes.byteLength, 44 + 12 * 24000 * 4);
  const header = new DataView(bytes);
  assert.equal(String.fromCharCode(...new Uint8Array(bytes, 0, 4)), "RIFF");
  assert.deepEqual(
    [header.getUint16(22, true), header.getUint32(24, true), header.getUint32(40, true)],
    [2, 24000, 12 * 24000 * 4],
  );
  const samples = new Int16Array(bytes.slice(44));
  assert.ok(samples.every((sample, i) => sample === (i % 2 ? -9 : 7)));
  assert.equal(wavHeader(0, 1).byteLength, 44);
});

test("the words as text", () => {
  assert.equal(clockText(65.9), "1:05");
  const called = { name: "dice", given: '{"count":2}', result: "3, 5" };
  const turns = [
    { who: "you", text: "What?", at: 1, note: "", heard: [] },
    { who: "model", text: "That is", at: 2.5, note: "interrupted", heard: [] },
    { who: "you", text: "", at: 3, note: "", heard: [] },
    { who: "tool", text: "", at: 4, note: "", heard: [], called },
  ];
  assert.equal(
    asText(turns, "mini", "today"),
    "Conversation with mini, today\n\n[0:01] You: What?\n[0:02] Model: That is ... (interrupted)\n" +
      '[0:04] Model: dice({"count":2}) → 3, 5\n',
  );
});

test("the words as subtitles of the sound: short ones, in order, each while it is to be heard", () => {
  const long = "One two three four five six seven eight nine ten. Eleven twelve thirteen fourteen fifteen.";
  const marks = [
    [0.5, 0],
    [4, long.indexOf(" Eleven")],
    [9, long.length],
  ];
  const turns = [
    { who: "model", text: long, at: 10, until: 18.5, marks },
    { who: "you", text: "Count.", at: 8, until: 9.75, marks: [] },
    { who: "you", text: "typed", at: 9, until: null, marks: [] },
  ];
  assert.equal(
    asSubtitles(turns),
    "1\n00:00:08,000 --> 00:00:09,750\nYou: Count.\n\n" +
      "2\n00:00:10,000 --> 00:00:14,000\nModel: One two three four five six seven eight nine ten.\n\n" +
      "3\n00:00:14,000 --> 00:00:18,500\nModel: Eleven twelve thirteen fourteen fifteen.\n",
  );
  const even = asSubtitles([{ who: "model", text: "x. y. z", at: 3600, until: 3607, marks: [] }]).split("\n");
  assert.deepEqual([even[1], even[5]], ["01:00:00,000 --> 01:00:02,000", "01:00:02,000 --> 01:00:05,000"]);
});

test("one turn of one side, from the middle of what was recorded", async () => {
  const tape = new Tape();
  for (let i = 0; i < 300; i++) tape.push(new Int16Array(960).fill(i), new Int16Array(960).fill(-i));
  const samples = await tape.slice("you", 10.04, 10.12); // across the end of what was put away
  assert.deepEqual([samples.length, samples[0], samples[959], samples[960]], [1920, -251, -251, -252]);
  assert.equal((await tape.slice("model", 11.9, 30)).length, 2400);
  assert.equal((await wavOf(samples).arrayBuffer()).byteLength, 44 + 2 * 1920);
});

test("bands: a tone is in its own, silence in none", () => {
  assert.deepEqual(bands(new Int16Array(960)), Array(8).fill(0));
  const low = bands(toPcm(sine(220, 24000, 960).map((x) => x * 0.5)));
  assert.equal(low.indexOf(Math.max(...low)), 1);
  assert.ok(low[1] > 0.9 && low[6] < 0.35, String(low));
  const high = bands(toPcm(sine(2180, 24000, 960).map((x) => x * 0.5)));
  assert.equal(high.indexOf(Math.max(...high)), 6);
});

test("what sounds, and how much of it was heard", () => {
  const buffer = new JitterBuffer();
  assert.equal(buffer.sounding, null);
  buffer.push("a", ones(4800));
  pull(buffer, 1000);
  assert.deepEqual(buffer.sounding, { item: "a", samples: 1000 });
  buffer.clear();
  assert.equal(buffer.sounding, null);
});
