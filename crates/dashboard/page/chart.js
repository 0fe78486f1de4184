// Charts as SVG: lines over time, and stretches of time. Each has a legend that shows the values at
// the pointer (or at the arrow keys), and a table behind it with the same numbers.

import { element, clock, moment, duration, plain } from "/words.js";

const MARGIN = { top: 10, right: 12, bottom: 26, left: 78 };
const HEIGHT = 190;
const TABLE_ROWS = 40;

// Ticks of an axis from 0 to at least `most`: 3 to 5 round steps, of things whole ones.
export function ticks(most, isBytes, isWhole) {
  if (!(most > 0) || (isWhole && most < 3)) return isWhole ? [0, 1, 2, 3].slice(0, Math.max(1, most) + 1) : [0, 1];
  const base = isBytes ? 1024 : 10;
  const power = base ** Math.floor(Math.log(most / 4) / Math.log(base));
  const steps = isBytes ? [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024] : [1, 2, 2.5, 5, 10];
  const step = steps.map((factor) => factor * power).find((size) => most / size <= 5) ?? power * base;
  const list = [];
  for (let at = 0; at < most + step * 0.999; at += step) list.push(at);
  return list;
}

const TIME_STEPS = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 21600, 43200, 86400, 172800, 604800];

function timeTicks(from, to, width) {
  const wanted = Math.max(2, Math.floor(width / 90));
  const seconds = (to - from) / 1000;
  const step = (TIME_STEPS.find((size) => seconds / size <= wanted) ?? 604800) * 1000;
  const offset = new Date(from).getTimezoneOffset() * 60000;
  const list = [];
  for (let at = Math.ceil((from - offset) / step) * step + offset; at <= to; at += step) list.push(at);
  const isCoarse = step >= 86400000;
  // A label at the very edge would be cut off.
  const isWithin = (at) => ((at - from) / Math.max(1, to - from)) * (width - MARGIN.right) < width - MARGIN.right - 20;
  return list.filter(isWithin).map((at) => ({ at, text: isCoarse ? moment(at).slice(5, 10) : clock(at, step < 60000) }));
}

// Rates of a total, over `window` milliseconds where there is so much, so that a chart is calm.
export function rates(times, totals, window) {
  return totals.map((value, at) => {
    if (value === null) return null;
    let from = at;
    while (from > 0 && totals[from - 1] !== null && times[at] - times[from] < window) from -= 1;
    return from === at ? null : Math.max(0, ((value - totals[from]) / (times[at] - times[from])) * 1000);
  });
}

// Rates of a total that is read less often than samples are taken: from one reading to the next.
export function heldRates(times, totals, longest) {
  const found = totals.map(() => null);
  let last = null;
  totals.forEach((value, at) => {
    if (value === null) {
      last = null;
      return;
    }
    if (last === null) {
      last = at;
      return;
    }
    const took = times[at] - times[last];
    if (value === totals[at - 1] && took < longest && at < totals.length - 1) return;
    if (value === totals[at - 1] && at === totals.length - 1 && took < longest) {
      // Not read again yet: the last known rate goes on.
      for (let between = last + 1; between <= at; between += 1) found[between] = found[last];
      return;
    }
    const rate = Math.max(0, ((value - totals[last]) / took) * 1000);
    for (let between = last + 1; between <= at; between += 1) found[between] = rate;
    last = at;
  });
  return found;
}

class Chart {
  constructor(figure, title, about) {
    this.figure = figure;
    this.title = title;
    this.caption = element("figcaption", {}, element("span", { class: "chart-title", text: title }), element("span", { class: "aside", text: about ?? "" }));
    this.legend = element("div", { class: "legend" });
    this.svg = element("svg:svg", { class: "plot", role: "img", tabindex: "0", "aria-label": title });
    this.empty = element("p", { class: "empty", text: "nothing yet" });
    this.body = element("tbody");
    this.head = element("tr");
    this.table = element("details", { class: "behind" },
      element("summary", { text: "Table" }),
      element("div", { class: "scroll tall", tabindex: "0", role: "region", "aria-label": `Table of ${title}` },
        element("table", {}, element("caption", { class: "unseen", text: title }), element("thead", {}, this.head), this.body)));
    this.table.addEventListener("toggle", () => this.fillTable());
    figure.replaceChildren(this.caption, this.legend, this.svg, this.empty, this.table);
    this.width = 0;
    new ResizeObserver(() => {
      const width = this.svg.parentElement.clientWidth - this.padding();
      if (Math.abs(width - this.width) > 1) this.draw();
    }).observe(figure);
  }

  padding() {
    const style = getComputedStyle(this.figure);
    return parseFloat(style.paddingLeft) + parseFloat(style.paddingRight);
  }

  measure(height) {
    this.width = Math.max(220, this.figure.clientWidth - this.padding());
    this.svg.setAttribute("viewBox", `0 0 ${this.width} ${height}`);
    this.svg.setAttribute("width", this.width);
    this.svg.setAttribute("height", height);
  }

  show(isEmpty) {
    this.svg.toggleAttribute("hidden", isEmpty);
    this.legend.hidden = isEmpty;
    this.table.hidden = isEmpty;
    this.empty.hidden = !isEmpty;
  }

  timeAxis(from, to, bottom) {
    const scale = (at) => MARGIN.left + ((at - from) / Math.max(1, to - from)) * (this.width - MARGIN.left - MARGIN.right);
    const parts = timeTicks(from, to, this.width - MARGIN.left).flatMap(({ at, text }) => [
      element("svg:line", { class: "grid", x1: scale(at), x2: scale(at), y1: MARGIN.top, y2: bottom }),
      element("svg:text", { class: "tick", x: scale(at), y: bottom + 17, "text-anchor": "middle", text }),
    ]);
    return { scale, parts };
  }

  fillTable() {}
  draw() {}
}

// Lines over time, of up to four series.
export class LineChart extends Chart {
  constructor(figure, { title, about, format, isBytes = false, isWhole = false }) {
    super(figure, title, about);
    this.format = format;
    this.isBytes = isBytes;
    this.isWhole = isWhole;
    this.times = [];
    this.series = [];
    this.marks = [];
    this.cursor = null;
    this.svg.addEventListener("pointermove", (event) => this.point(event));
    this.svg.addEventListener("pointerleave", () => this.moveTo(null));
    this.svg.addEventListener("blur", () => this.moveTo(null));
    this.svg.addEventListener("keydown", (event) => this.onKey(event));
  }

  update(times, series, marks = []) {
    this.times = times;
    this.series = series.slice(0, 4);
    this.marks = marks;
    if (this.cursor !== null) this.cursor = Math.min(this.cursor, times.length - 1);
    this.draw();
    if (this.table.open) this.fillTable();
  }

  draw() {
    const isEmpty = this.times.length < 2 || !this.series.some((one) => one.values.some((value) => value !== null));
    this.show(isEmpty);
    if (isEmpty) return;
    this.measure(HEIGHT);
    const bottom = HEIGHT - MARGIN.bottom;
    const [from, to] = [this.times[0], this.times[this.times.length - 1]];
    const { scale, parts } = this.timeAxis(from, to, bottom);
    const most = Math.max(...this.series.map((one) => one.values.reduce((a, b) => Math.max(a, b ?? 0), 0)));
    const levels = ticks(most, this.isBytes, this.isWhole);
    const top = levels[levels.length - 1];
    const rise = (value) => bottom - (value / top) * (bottom - MARGIN.top);
    for (const level of levels) {
      parts.push(
        element("svg:line", { class: level === 0 ? "axis" : "grid", x1: MARGIN.left, x2: this.width - MARGIN.right, y1: rise(level), y2: rise(level) }),
        element("svg:text", { class: "tick", x: MARGIN.left - 8, y: rise(level) + 4, "text-anchor": "end", text: this.format(level) }));
    }
    for (const mark of this.marks) {
      if (mark > from && mark < to) parts.push(element("svg:line", { class: "mark", x1: scale(mark), x2: scale(mark), y1: MARGIN.top, y2: bottom }));
    }
    this.series.forEach((one, number) => parts.push(...this.line(one, number, scale, rise, bottom)));
    this.scale = scale;
    this.rise = rise;
    this.cross = element("svg:g", { class: "cross" });
    this.svg.replaceChildren(...parts, this.cross);
    this.svg.setAttribute("aria-label", this.summary(most));
    this.drawCursor();
  }

  line(one, number, scale, rise, bottom) {
    let [path, area, begun] = ["", "", null];
    const close = (at) => {
      if (begun !== null && at > begun) area += `L${scale(this.times[at]).toFixed(1)} ${bottom}L${scale(this.times[begun]).toFixed(1)} ${bottom}Z`;
      begun = null;
    };
    one.values.forEach((value, at) => {
      if (value === null) return close(at - 1);
      const place = `${scale(this.times[at]).toFixed(1)} ${rise(value).toFixed(1)}`;
      path += `${begun === null ? "M" : "L"}${place}`;
      area += `${begun === null ? "M" : "L"}${place}`;
      if (begun === null) begun = at;
      return undefined;
    });
    close(one.values.length - 1);
    const lines = [element("svg:path", { class: `line series-${number}`, d: path })];
    if (number === 0) lines.unshift(element("svg:path", { class: "area series-0", d: area }));
    return lines;
  }

  summary(most) {
    const parts = this.series.map((one) => {
      const known = one.values.filter((value) => value !== null);
      return known.length ? `${one.label}: now ${this.format(known[known.length - 1])}` : null;
    });
    return `${plain(this.title)}, from ${clock(this.times[0])} to ${clock(this.times[this.times.length - 1])}. `
      + `Highest ${this.format(most)}. ${parts.filter(Boolean).map(plain).join("; ")}. Arrow keys read single values.`;
  }

  point(event) {
    const box = this.svg.getBoundingClientRect();
    const x = ((event.clientX - box.left) / box.width) * this.width;
    let nearest = 0;
    this.times.forEach((time, at) => {
      if (Math.abs(this.scale(time) - x) < Math.abs(this.scale(this.times[nearest]) - x)) nearest = at;
    });
    this.moveTo(nearest);
  }

  onKey(event) {
    const last = this.times.length - 1;
    const at = this.cursor ?? last;
    const pace = Math.max(1, Math.round(last / 60));
    const places = { ArrowLeft: at - pace, ArrowRight: at + pace, Home: 0, End: last };
    if (event.key === "Escape") return this.moveTo(null);
    if (!(event.key in places)) return undefined;
    event.preventDefault();
    this.legend.setAttribute("aria-live", "polite");
    return this.moveTo(Math.max(0, Math.min(last, places[event.key])));
  }

  moveTo(cursor) {
    this.cursor = cursor;
    if (this.cross) this.drawCursor();
  }

  drawCursor() {
    const at = this.cursor;
    const parts = [];
    if (at !== null && this.times[at] !== undefined) {
      const x = this.scale(this.times[at]);
      parts.push(element("svg:line", { class: "cursor", x1: x, x2: x, y1: MARGIN.top, y2: HEIGHT - MARGIN.bottom }));
      this.series.forEach((one, number) => {
        if (one.values[at] !== null) parts.push(element("svg:circle", { class: `dot series-${number}`, cx: x, cy: this.rise(one.values[at]), r: 4 }));
      });
    }
    this.cross.replaceChildren(...parts);
    this.drawLegend(at);
  }

  drawLegend(at) {
    const last = (values) => values.findLast((value) => value !== null) ?? null;
    const labels = this.series.map((one, number) =>
      element("span", { class: "key" },
        element("span", { class: `swatch series-${number}`, "aria-hidden": "true" }),
        element("span", { text: one.label }),
        element("b", { text: this.format(at === null ? last(one.values) : one.values[at]) })));
    const time = element("span", { class: "aside", text: at === null ? "now" : clock(this.times[at]) });
    this.legend.replaceChildren(...labels, time);
  }

  fillTable() {
    if (!this.table.open) return;
    const pace = Math.max(1, Math.ceil(this.times.length / TABLE_ROWS));
    this.head.replaceChildren(element("th", { scope: "col", text: "Time" }), ...this.series.map((one) => element("th", { scope: "col", class: "number", text: one.label })));
    const rows = [];
    for (let at = this.times.length - 1; at >= 0; at -= pace) {
      rows.push(element("tr", {},
        element("th", { scope: "row", text: moment(this.times[at]) }),
        ...this.series.map((one) => element("td", { class: "number", text: this.format(one.values[at]) }))));
    }
    this.body.replaceChildren(...rows);
  }
}

const ROW = 30;

// Stretches of time, a line per name.
export class Timeline extends Chart {
  constructor(figure, { title, about }) {
    super(figure, title, about);
    this.spans = [];
  }

  // `now` ends what is still open.
  update(spans, now) {
    const millis = (time) => (typeof time === "string" ? Date.parse(time) : time);
    this.spans = spans.map((span) => ({
      ...span,
      began: millis(span.began),
      end: span.ended === null ? now : millis(span.ended),
      isOpen: span.ended === null,
    }));
    this.draw();
    if (this.table.open) this.fillTable();
  }

  draw() {
    this.show(this.spans.length === 0);
    if (this.spans.length === 0) return;
    const names = [...new Set(this.spans.map((span) => span.name))];
    const height = MARGIN.top + names.length * ROW + MARGIN.bottom;
    this.measure(height);
    const bottom = height - MARGIN.bottom;
    const from = Math.min(...this.spans.map((span) => span.began));
    const to = Math.max(from + 1000, ...this.spans.map((span) => span.end));
    const { scale, parts } = this.timeAxis(from, to, bottom);
    names.forEach((name, row) => {
      const y = MARGIN.top + row * ROW;
      const own = this.spans.filter((span) => span.name === name);
      parts.push(element("svg:line", { class: "grid", x1: MARGIN.left, x2: this.width - MARGIN.right, y1: y + ROW, y2: y + ROW }));
      for (const span of own) {
        const x = scale(span.began);
        const width = Math.max(3, scale(span.end) - x);
        parts.push(element("svg:rect", { class: span.isOpen ? "span open" : "span", x, y: y + 6, width, height: ROW - 12, rx: 3 },
          element("svg:title", { text: `${span.label}: ${clock(span.began)}, ${duration((span.end - span.began) / 1000)}` })));
      }
      const total = own.reduce((sum, span) => sum + span.end - span.began, 0) / 1000;
      const last = own[own.length - 1];
      const right = scale(last.end);
      const isRoomRight = right < this.width - 150;
      parts.push(
        element("svg:text", { class: "tick", x: MARGIN.left - 8, y: y + ROW / 2 + 4, "text-anchor": "end", text: name.slice(0, 10) }),
        element("svg:text", {
          class: "span-text", x: isRoomRight ? right + 6 : Math.max(MARGIN.left + 4, scale(own[0].began) - 6), y: y + ROW / 2 + 4,
          "text-anchor": isRoomRight || scale(own[0].began) < MARGIN.left + 150 ? "start" : "end",
          text: isRoomRight || scale(own[0].began) >= MARGIN.left + 150 ? `${last.label}, ${duration(total)}` : "",
        }));
    });
    this.svg.replaceChildren(...parts);
    const open = this.spans.find((span) => span.isOpen);
    this.svg.setAttribute("aria-label", `${plain(this.title)}. ${names.map(plain).join(", ")}. ${open ? `Open: ${plain(open.label)}.` : "None is open."} The table has the times.`);
    this.legend.hidden = true;
  }

  fillTable() {
    if (!this.table.open) return;
    this.head.replaceChildren(...["Phase", "Began", "Ended", "Took"].map((text) => element("th", { scope: "col", text })));
    this.body.replaceChildren(...this.spans.map((span) => element("tr", {},
      element("th", { scope: "row", text: span.label }),
      element("td", { text: moment(span.began) }),
      element("td", { text: span.isOpen ? "still open" : moment(span.end) }),
      element("td", { text: duration((span.end - span.began) / 1000) }))));
  }
}
