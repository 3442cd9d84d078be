// What the page says, and what it lets the model call. Run by tests/serve/test_page.py.

import assert from "node:assert/strict";
import { test } from "node:test";

import { calculate, Tools } from "./tools.js";
import { chosen, languageName, say } from "./words.js";
import english from "./words-en.js";
import russian from "./words-ru.js";

const places = (text) => (JSON.stringify(text).match(/\{(\w+)\}/g) ?? []).sort();

test("every text is there in both languages, with the same values", () => {
  assert.deepEqual(Object.keys(russian).sort(), Object.keys(english).sort());
  for (const [name, text] of Object.entries(english)) {
    assert.deepEqual([...new Set(places(russian[name]))], [...new Set(places(text))], name);
    assert.match(JSON.stringify(russian[name]), /[а-яё]/i, name);
  }
});

test("the browser's first language that the page speaks", () => {
  assert.equal(chosen(["de-DE", "ru-RU", "en"]), "ru");
  assert.equal(chosen(["fr"]), "en");
  assert.equal(chosen([]), "en");
});

test("values and numbers in texts", () => {
  assert.equal(say("ofCapacity", { live: 1, capacity: 4 }), "1 of 4");
  assert.equal(say("cuts", { n: 1 }), "1 answer was interrupted.");
  assert.equal(say("cuts", { n: 5 }), "5 answers were interrupted.");
  assert.equal(languageName("ru"), "Russian");
  assert.equal(languageName("not a code"), "not a code");
});

test("a calculator that reads arithmetic and nothing else", () => {
  const sums = { "1 + 2 * 3": 7, "(1+2)*3": 9, "2^3^2": 512, "-2^2": -4, "7 / 2 - -1": 4.5, "0.1+0.2": 0.3, "6×7": 42, "1e3": 1000 };
  for (const [expression, value] of Object.entries(sums)) assert.equal(calculate(expression), value, expression);
  for (const wrong of ["", "1 +", "(1", "alert(1)", "1 2", "a", "1..2"]) assert.throws(() => calculate(wrong), Error, wrong);
});

test("tools are those that were chosen, and fail in words", () => {
  let names = ["calculator"];
  const tools = new Tools(() => names);
  assert.deepEqual(tools.definitions.map(({ type, name }) => [type, name]), [["function", "calculator"]]);
  assert.equal(tools.run("calculator", '{"expression": "6*7"}'), "42");
  assert.match(tools.run("calculator", "{"), /^failed: /);
  assert.match(tools.run("calculator", '{"expression": "six"}'), /^failed: /);
  assert.match(tools.run("clock", "{}"), /^failed: there is no clock/);
  names = ["clock"];
  assert.match(tools.run("clock", ""), /20\d\d/);
});
