// The table of hosts: searched, sorted and cut into pages by the server, so that thousands of them
// cost the browser nothing.

import { ask, byId, bytes, element, replace, setText, short, whole, age } from "/words.js";

const COLUMNS = [
  { by: "host", text: "Host" },
  { by: "health", text: "Health" },
  { by: "repos", text: "Repos", isNumber: true },
  { by: "loaded", text: "Loaded", isNumber: true },
  { by: "pending", text: "Pending", isNumber: true },
  { by: "failed", text: "Failed", isNumber: true },
  { by: "records", text: "Records", isNumber: true },
  { by: "bytes", text: "Bytes", isNumber: true },
  { by: "pace", text: "Repos per second", isNumber: true },
  { by: "rate", text: "Limit per second", isNumber: true },
  { by: "concurrency", text: "At once", isNumber: true },
];
const HEALTH = { done: "good", working: "good", waiting: "plain", "some failed": "warn", failing: "bad", unreachable: "bad" };

const order = { by: "repos", isDescending: true, search: "", offset: 0 };
let showFailures = () => {};
let number = 0;

function heads() {
  return COLUMNS.map((column) => {
    const isSorted = order.by === column.by;
    const direction = order.isDescending ? "descending" : "ascending";
    const sign = isSorted ? (order.isDescending ? " ↓" : " ↑") : "";
    return element("th", { scope: "col", class: column.isNumber ? "number" : null, "aria-sort": isSorted ? direction : null },
      element("button", {
        type: "button", class: "sort", "data-key": `sort-${column.by}`,
        onclick: () => sortBy(column),
      }, element("span", { text: column.text }), element("span", { "aria-hidden": "true", text: sign })));
  });
}

function sortBy(column) {
  order.isDescending = order.by === column.by ? !order.isDescending : Boolean(column.isNumber);
  order.by = column.by;
  order.offset = 0;
  refresh();
}

function row(host) {
  const failed = host.failed > 0
    ? element("button", {
        type: "button", class: "link", "data-key": `failed-${host.host}`, text: whole(host.failed),
        "aria-label": `${whole(host.failed)} failed repos of ${host.host}`,
        onclick: () => showFailures({ host: host.host }),
      })
    : element("span", { text: whole(host.failed) });
  const limit = host.rate === null ? "none seen" : `${short(host.rate)}${host.is_announced ? "" : " (learned)"}`;
  return element("tr", {},
    element("th", { scope: "row", class: "name", text: host.host || "no host known" }),
    element("td", {},
      element("span", { class: `badge ${HEALTH[host.health] ?? "plain"}`, text: host.health }),
      host.trouble ? element("div", { class: "aside wrap", text: host.trouble }) : null),
    element("td", { class: "number", text: whole(host.repos) }),
    element("td", { class: "number", text: whole(host.loaded) }),
    element("td", { class: "number", text: whole(host.pending) }),
    element("td", { class: "number" }, failed),
    element("td", { class: "number", text: whole(host.records) }),
    element("td", { class: "number", text: bytes(host.bytes) }),
    element("td", { class: "number", text: host.pace > 0 ? short(host.pace) : "–" }),
    element("td", { class: "number", text: limit }),
    element("td", { class: "number", text: host.concurrency === null ? "–" : short(host.concurrency) }));
}

export async function refresh() {
  number += 1;
  const asked = number;
  const query = new URLSearchParams({
    sort: order.by, order: order.isDescending ? "desc" : "asc", offset: order.offset, q: order.search,
  });
  let page;
  try {
    page = await ask(`/api/hosts?${query}`);
  } catch (error) {
    setText(byId("host-count"), `hosts are not available: ${error.message}`);
    return;
  }
  // Somebody typed meanwhile: a later answer is on its way.
  if (asked !== number) return;
  if (order.offset > 0 && page.hosts.length === 0) {
    order.offset = 0;
    refresh();
    return;
  }
  replace(byId("host-head"), heads());
  const rows = page.hosts.map(row);
  if (rows.length === 0) rows.push(element("tr", {}, element("td", { colspan: COLUMNS.length, class: "empty", text: page.all ? "no host fits" : "no hosts yet" })));
  replace(byId("host-rows"), rows);
  const found = page.found === page.all ? `${whole(page.all)} hosts` : `${whole(page.found)} of ${whole(page.all)} hosts`;
  setText(byId("host-count"), `${found}, as of ${age(page.at)}`);
  const last = Math.min(page.found, page.offset + page.page);
  setText(byId("host-place"), page.found ? `${whole(page.offset + 1)} to ${whole(last)} of ${whole(page.found)}` : "");
  byId("host-back").disabled = page.offset === 0;
  byId("host-next").disabled = last >= page.found;
  order.page = page.page;
}

export function start(onFailures) {
  showFailures = onFailures;
  let typing = null;
  byId("host-search").addEventListener("input", (event) => {
    clearTimeout(typing);
    typing = setTimeout(() => {
      order.search = event.target.value.trim();
      order.offset = 0;
      refresh();
    }, 150);
  });
  byId("host-back").addEventListener("click", () => {
    order.offset = Math.max(0, order.offset - (order.page ?? 50));
    refresh();
  });
  byId("host-next").addEventListener("click", () => {
    order.offset += order.page ?? 50;
    refresh();
  });
}
