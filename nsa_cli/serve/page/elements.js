// Small helpers for elements of the page.

export const byId = id => document.getElementById(id);

/** Make an element with properties, attributes that begin with `aria-` or `role`, and children. */
export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name === "role" || name.startsWith("aria-")) element.setAttribute(name, value);
    else element[name] = value;
  }
  element.append(...children);
  return element;
}

/** Tell screen readers what has happened. */
export function announce(text) {
  byId("announced").textContent = text;
}

export const counted = (count, noun) =>
  `${count.toLocaleString("en")} ${noun}${count === 1 ? "" : "s"}`;

export function warningList(warnings) {
  return make("details", {className: "warnings", open: warnings.length <= 3},
    make("summary", {textContent: counted(warnings.length, "warning")}),
    make("ul", {}, ...warnings.map(warning => make("li", {textContent: warning}))));
}

/** The progress of one task in the words of the server's event. */
export function progressText({task, done, total, unit}) {
  const scale = unit === "bytes" ? 1e6 : 1;
  const shown = value => (value / scale).toLocaleString("en", {maximumFractionDigits: 0});
  return `${task}: ${shown(done)} of ${shown(total)} ${unit === "bytes" ? "MB" : unit}`;
}
