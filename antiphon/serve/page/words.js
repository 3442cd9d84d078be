// What the page says, in the language of the browser as far as it is known.

const LANGUAGES = ["en", "ru"];

/** The first of these languages ("ru-RU", "de", ...) that the page speaks. */
export function chosen(wanted) {
  return wanted.map((tag) => tag.slice(0, 2).toLowerCase()).find((code) => LANGUAGES.includes(code)) ?? "en";
}

// Outside of a page, in tests, it is English.
export const language = typeof document === "undefined" ? "en" : chosen([...navigator.languages]);
const { default: texts } = await import(`./words-${language}.js`); // the other ones aren't fetched

/** A text by its name, with values in its {places}; one that depends on a number takes it as `n`. */
export function say(name, values = {}) {
  const found = texts[name];
  const text = typeof found === "string" ? found : (found[new Intl.PluralRules(language).select(values.n)] ?? found.other);
  return text.replace(/\{(\w+)\}/g, (_, place) => values[place]);
}

/** Puts the texts into a document that has their names: data-say, data-say-label, data-say-placeholder. */
export function translate(page) {
  page.documentElement.lang = language;
  if (language === "en") return; // that is how the file has it
  for (const each of page.querySelectorAll("[data-say]")) each.textContent = say(each.dataset.say);
  for (const each of page.querySelectorAll("[data-say-label]")) each.ariaLabel = say(each.dataset.sayLabel);
  for (const each of page.querySelectorAll("[data-say-placeholder]")) each.placeholder = say(each.dataset.sayPlaceholder);
}

/** Names of languages, by their codes, in the page's. */
export function languageName(code) {
  try {
    return new Intl.DisplayNames([language], { type: "language" }).of(code);
  } catch {
    return code; // no code that the browser knows
  }
}
