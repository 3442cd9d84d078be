// What the model may call in this page: things that need nobody else.

const at = (properties, required = []) => ({ type: "object", properties, required, additionalProperties: false });

const TOOLS = {
  clock: {
    description: "The time and date where the user is.",
    parameters: at({}),
    run: () => new Date().toLocaleString("en-GB", { dateStyle: "full", timeStyle: "short" }),
  },
  calculator: {
    description: "The value of an arithmetic expression of numbers, + - * / ^ and parentheses.",
    parameters: at({ expression: { type: "string", description: "for example (3 + 4) * 2.5" } }, ["expression"]),
    run: ({ expression }) => String(calculate(String(expression))),
  },
};

export const TOOL_NAMES = Object.keys(TOOLS);

export class Tools {
  /** @param chosen a function: the names of those that may be called. */
  constructor(chosen) {
    this.chosen = chosen;
  }

  /** As the server is told them. */
  get definitions() {
    return this.chosen().map((name) => {
      const { description, parameters } = TOOLS[name];
      return { type: "function", name, description, parameters };
    });
  }

  /** What a call gives, as text; a failure is told to the model, too. `given` is JSON. */
  run(name, given) {
    try {
      if (!this.chosen().includes(name)) throw new Error(`there is no ${name}`);
      return TOOLS[name].run(JSON.parse(given || "{}"));
    } catch (error) {
      return `failed: ${error.message}`;
    }
  }
}

/** An expression of numbers, + - * / ^ and parentheses. @throws Error for anything else */
export function calculate(expression) {
  const parts = expression.replaceAll("×", "*").replaceAll("÷", "/").replaceAll("−", "-").replaceAll("**", "^");
  const tokens = parts.match(/\d+\.?\d*(?:e[+-]?\d+)?|\.\d+|[-+*/^()]|\S/gi) ?? [];
  let next = 0;
  const take = (...wanted) => (wanted.includes(tokens[next]) ? tokens[next++] : null);
  function sum() {
    let value = product();
    for (let sign; (sign = take("+", "-")); ) value = sign === "+" ? value + product() : value - product();
    return value;
  }
  function product() {
    let value = signed();
    for (let sign; (sign = take("*", "/")); ) value = sign === "*" ? value * signed() : value / signed();
    return value;
  }
  function signed() {
    const sign = take("-", "+");
    return sign ? (sign === "-" ? -signed() : signed()) : power();
  }
  function power() {
    const base = single();
    return take("^") ? base ** signed() : base;
  }
  function single() {
    if (take("(")) {
      const value = sum();
      if (!take(")")) throw new Error("a parenthesis isn't closed");
      return value;
    }
    const token = tokens[next++];
    if (token === undefined || !/^[\d.]/.test(token)) throw new Error(`'${token ?? ""}' where a number should be`);
    return Number(token);
  }
  const value = sum();
  if (next < tokens.length) throw new Error(`'${tokens[next]}' can't be read`);
  return Number(value.toPrecision(12));
}
