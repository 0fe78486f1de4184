// Numbers, times and texts as the page shows them, and the only way in which it makes elements.
// Text is set as text, never as HTML: much of it comes from hosts.

// Characters that do something instead of standing there: controls, and what is not seen or changes
// the direction of writing. They are written as \u{1b}.
const ACTS = /[\u0000-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\u{e0000}-\u{e0fff}]/gu;

export function plain(text) {
  return String(text).replace(ACTS, (c) => `\\u{${c.codePointAt(0).toString(16)}}`);
}

// An element with properties (`class`, `text`, attributes, `on...` handlers) and children.
export function element(tag, properties = {}, ...children) {
  const made = tag.startsWith("svg:")
    ? document.createElementNS("http://www.w3.org/2000/svg", tag.slice(4))
    : document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "text") made.textContent = plain(value);
    else if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

export const byId = (id) => document.getElementById(id);

// Puts new children in the place of old ones; whatever had the focus has it again, by its data-key.
export function replace(parent, children) {
  const focused = document.activeElement;
  const key = focused && parent.contains(focused) ? focused.dataset.key : null;
  parent.replaceChildren(...children);
  if (key) {
    for (const candidate of parent.querySelectorAll("[data-key]")) {
      if (candidate.dataset.key === key) candidate.focus({ preventScroll: true });
    }
  }
}

export function setText(target, text) {
  const shown = plain(text);
  if (target.textContent !== shown) target.textContent = shown;
}

const WHOLE = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });
const TENTHS = new Intl.NumberFormat("en-US", { maximumFractionDigits: 1 });
const HUNDREDTHS = new Intl.NumberFormat("en-US", { maximumFractionDigits: 2 });

export function whole(value) {
  return value === null || value === undefined ? "–" : WHOLE.format(value);
}

// 12.3 K, 4.56 M: for axes and tiles.
export function short(value) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  const units = [[1e12, " T"], [1e9, " G"], [1e6, " M"], [1e4, " K"]];
  for (const [size, unit] of units) {
    if (Math.abs(value) >= size) {
      const scaled = value / (unit === " K" ? 1e3 : size);
      return (Math.abs(scaled) < 10 ? HUNDREDTHS : TENTHS).format(scaled) + unit;
    }
  }
  return (Math.abs(value) < 10 ? HUNDREDTHS : Math.abs(value) < 100 ? TENTHS : WHOLE).format(value);
}

export function bytes(value) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  const units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
  let at = 0;
  let scaled = value;
  while (Math.abs(scaled) >= 1024 && at < units.length - 1) {
    scaled /= 1024;
    at += 1;
  }
  return `${at === 0 ? WHOLE.format(scaled) : TENTHS.format(scaled)} ${units[at]}`;
}

export function duration(seconds) {
  if (seconds === null || seconds === undefined || !Number.isFinite(seconds)) return "–";
  const total = Math.max(0, Math.round(seconds));
  const [days, hours, minutes] = [Math.floor(total / 86400), Math.floor(total / 3600) % 24, Math.floor(total / 60) % 60];
  if (days > 0) return `${days} d ${hours} h`;
  if (hours > 0) return `${hours} h ${minutes} min`;
  if (minutes > 0) return `${minutes} min ${total % 60} s`;
  return `${total} s`;
}

const pad = (number) => String(number).padStart(2, "0");

export function clock(millis, withSeconds = true) {
  const date = new Date(millis);
  const text = `${pad(date.getHours())}:${pad(date.getMinutes())}`;
  return withSeconds ? `${text}:${pad(date.getSeconds())}` : text;
}

export function moment(time) {
  const date = new Date(time);
  if (Number.isNaN(date.getTime())) return plain(time);
  return `${date.getFullYear()}-${pad(date.getMonth() + 1)}-${pad(date.getDate())} ${clock(date.getTime())}`;
}

export function age(millis) {
  return millis ? `${duration((Date.now() - millis) / 1000)} ago` : "not yet";
}

// The answer of a path as JSON. Without a key the page to sign in with is shown instead.
export async function ask(path) {
  const answer = await fetch(path, { headers: { Accept: "application/json" } });
  if (answer.status === 401) {
    location.assign("/");
    throw new Error("the session has ended");
  }
  if (!answer.ok) throw new Error((await answer.text()).trim() || `status ${answer.status}`);
  return answer.json();
}
