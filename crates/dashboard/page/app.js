// Polls the process and draws what it says. All of it comes from this address.

import { age, ask, byId, bytes, duration, element, replace, setText, short, whole } from "/words.js";
import { LineChart, Timeline, heldRates, rates } from "/chart.js";
import * as hosts from "/hosts.js";
import * as failures from "/failures.js";

const STATE_EVERY = 2000;
const HOSTS_EVERY = 5000;

const perSecond = (value) => `${short(value)}/s`;
const bytesPerSecond = (value) => (value === null || value === undefined ? "–" : `${bytes(value)}/s`);

// Series of a chart are the first four of these that have values.
const RATES = [
  { title: "Repos", about: "per second", keys: ["past/repos", "load/repos_done", "producer/repos_done", "discover/repos_listed", "verify/repos_compared", "identities/accounts_done"], format: perSecond },
  { title: "Records", about: "per second", keys: ["past/records", "load/records", "producer/records", "consumer/records_committed", "verify/records"], format: perSecond },
  { title: "Bytes fetched", about: "per second", keys: ["past/bytes", "load/bytes", "producer/bytes", "consumer/bytes"], format: bytesPerSecond, isBytes: true },
  { title: "Rows written", about: "per second, whole database", keys: ["past/rows", "server/rows"], format: perSecond },
];
const SERVER = [
  { title: "WAL written", about: "per second, whole server", keys: ["server/wal_bytes"], format: bytesPerSecond, isBytes: true },
  { title: "Sessions", about: "of this database", keys: ["server/sessions", "server/waiting"], format: whole, isWhole: true },
];
const STAGES = { load: "fetch and load", discover: "discover", verify: "verify", identities: "identities", producer: "send", consumer: "store", finalize: "finalize", server: "", past: "" };

let charts = [];
let timeline = null;
let spans = [];
let lastAnnounced = "";
let missed = 0;

function build(container, list) {
  return list.map((options) => {
    const figure = element("figure", { class: "chart panel" });
    byId(container).append(figure);
    return { ...options, chart: new LineChart(figure, options) };
  });
}

function tiles(target, list) {
  replace(target, list.filter(Boolean).map(([name, value, more, kind]) => element("div", { class: kind ? `tile ${kind}` : "tile" },
    element("dt", { text: name }),
    element("dd", {}, element("span", { class: "big", text: value }), more ? element("span", { class: "aside", text: more }) : null))));
}

// What the registry of the process says, else what the ledger does.
function showOverview(state) {
  const { database, stages } = state;
  const load = stages.find((stage) => stage.name === "load" || stage.name === "producer" || stage.name === "consumer") ?? stages[0];
  const counter = (name) => load?.counters.find((one) => one.name === name);
  const stored = database.repos;
  const count = (...words) => stored?.states.filter((one) => words.includes(one.state)).reduce((sum, one) => sum + one.repos, 0);
  const number = state.phases.findIndex((phase) => phase.state === "open");
  const left = stages.map((stage) => stage.seconds_left).filter((seconds) => seconds !== null);
  const run = database.runs?.[0];
  const failed = count("failed");
  tiles(byId("tiles"), [
    state.origin === "process" ? ["Elapsed", duration(state.seconds)] : run ? [`Run ${run.id}`, run.phase, run.mode] : ["Run", "none yet"],
    number >= 0 ? ["Phase", `${number + 1} of ${state.phases.length}`, state.phases[number].label] : null,
    left.length ? ["Left in this phase", duration(Math.max(...left)), "by the rate so far"] : null,
    stored ? ["Loaded", whole(count("loaded")), `of ${whole(stored.states.reduce((sum, one) => sum + one.repos, 0))} repos`] : counter("repos_done") ? ["Repos done", whole(counter("repos_done").value)] : null,
    stored ? ["Records stored", short(stored.records), bytes(stored.bytes)] : null,
    failed ? ["Failed", whole(failed), "repos", "warn"] : stored ? ["Failed", "0", "repos"] : null,
    database.totals ? ["Database", bytes(database.totals.database_bytes)] : null,
  ]);
}

function showNow(state) {
  byId("now-panel").hidden = state.phases.length === 0 && state.stages.length === 0;
  replace(byId("phase-line"), state.phases.map((phase) => element("li", { class: phase.state, "aria-current": phase.state === "open" ? "step" : null },
    element("span", { text: phase.name }),
    element("span", { class: "unseen", text: ` (${phase.state})` }),
    phase.seconds > 0 ? element("span", { class: "aside", text: duration(phase.seconds) }) : null)));
  replace(byId("stages"), state.stages.map(showStage));
  setText(byId("limit"), state.limit ? `Limited by ${state.limit.label}: ${state.limit.why}` : "");
}

function showStage(stage) {
  const first = stage.counters[0];
  const value = first?.value ?? 0;
  const share = stage.total ? Math.min(1, value / stage.total) : null;
  const name = STAGES[stage.name] || stage.name;
  const shown = (one) => (one.bytes ? bytes(one.value) : whole(one.value));
  const rate = (one) => (one.rate === null ? "" : ` (${one.bytes ? bytesPerSecond(one.rate) : perSecond(one.rate)})`);
  const counters = stage.counters.filter((one, at) => at === 0 || one.value > 0)
    .map((one) => element("li", {}, element("b", { text: shown(one) }), element("span", { text: ` ${one.label}${rate(one)}` })));
  const parts = stage.parts.map((part) => element("li", {},
    element("span", { class: "wrap", text: `${part.label}: ${part.doing}` }),
    part.share === null ? null : element("progress", { max: 1, value: part.share, "aria-label": part.label })));
  const waits = stage.waiting > 0
    ? `waiting for ${whole(stage.waiting)}: ${stage.awaited.map((one) => (one.trouble ? `${one.name} (${one.trouble})` : one.name)).join(", ")}`
    : "";
  const slow = stage.hosts.map((host) => `${host.name} ${duration(host.seconds_left)} at ${perSecond(host.rate)}`).join("; ");
  const reasons = stage.failures.slice(0, 8).map(([reason, times]) => `${whole(times)} × ${reason}`).join("; ");
  const line = (label, text) => (text ? element("p", { class: "detail wrap" }, element("span", { class: "aside", text: `${label} ` }), element("span", { text })) : null);
  return element("div", { class: "stage" },
    element("div", { class: "stage-head" },
      element("h3", { text: name }),
      element("span", { text: share === null ? "" : `${short(share * 100)} %` }),
      element("span", { class: "aside", text: stage.seconds_left === null ? duration(stage.seconds) : `${duration(stage.seconds_left)} left` })),
    share === null ? null : element("progress", { max: 1, value: share, "aria-label": `${name}: ${short(share * 100)} percent` }),
    element("ul", { class: "counters" }, ...counters),
    parts.length ? element("ul", { class: "parts" }, ...parts) : null,
    line("now", stage.doing), line("", waits), line("slowest hosts", slow), line("failures", reasons));
}

const KINDS = { loaded: "good", open: "plain", coming: "plain", unresolved: "plain", failed: "warn" };

function showStates(repos) {
  setText(byId("states-age"), repos ? `as of ${age(repos.at)}` : "not read yet");
  const total = repos?.states.reduce((sum, one) => sum + one.repos, 0) ?? 0;
  replace(byId("states"), (repos?.states ?? []).map((one) => element("div", { class: `state ${KINDS[one.state] ?? "gone"}` },
    element("span", { text: one.term }),
    element("b", { text: whole(one.repos) }),
    element("progress", { max: Math.max(1, total), value: one.repos, "aria-label": `${one.term}: ${whole(one.repos)} of ${whole(total)}` }))));
}

function showServer(database) {
  const { totals, tables, sessions } = database;
  tiles(byId("server-tiles"), totals ? [
    ["PostgreSQL", totals.version.split(" ")[0], `shared_buffers ${totals.shared_buffers}`],
    ["Database", bytes(totals.database_bytes)],
    ["Checkpoints", whole(totals.checkpoints_timed + totals.checkpoints_requested), `${whole(totals.checkpoints_requested)} requested; max_wal_size ${totals.max_wal_size}`],
    ["Read from memory", totals.hit_share === null ? "–" : `${short(totals.hit_share * 100)} %`, "of pages"],
    ["Temporary files", bytes(totals.temp_bytes)],
    ["Commits", short(totals.commits), `${whole(totals.rollbacks)} rollbacks`],
  ] : []);
  replace(byId("tables"), (tables ?? []).map((table) => element("tr", {},
    element("th", { scope: "row", class: "name", text: `${table.schema}.${table.name}` }),
    element("td", { class: "number", text: short(table.rows) }),
    element("td", { class: "number", text: bytes(table.table_bytes) }),
    element("td", { class: "number", text: bytes(table.index_bytes) }))));
  const rows = (sessions ?? []).map((session) => element("tr", {},
    element("th", { scope: "row", text: session.name }),
    element("td", { text: session.state }),
    element("td", { text: session.wait || "–" }),
    element("td", { class: "number", text: duration(session.seconds) })));
  if (rows.length === 0) rows.push(element("tr", {}, element("td", { colspan: 4, class: "empty", text: "no session but the dashboard's own" })));
  replace(byId("sessions"), rows);
}

function pill(text, kind) {
  const target = byId("pill");
  setText(target, text);
  target.className = `pill ${kind}`;
}

function announce(state) {
  const open = state.phases.find((phase) => phase.state === "open");
  const text = [open ? `Phase: ${open.label}.` : "", state.limit ? `Limited by ${state.limit.label}.` : ""].join(" ").trim();
  if (text !== lastAnnounced) setText(byId("announce"), text);
  lastAnnounced = text;
}

function trouble(text) {
  byId("trouble").hidden = !text;
  setText(byId("trouble"), text ?? "");
}

async function state() {
  try {
    const now = await ask("/api/state");
    missed = 0;
    spans = now.spans;
    setText(byId("command"), now.command || (now.database.schema ?? ""));
    document.title = now.command ? `skyfill ${now.command}` : "skyfill";
    setText(byId("version"), `skyfill ${now.version}`);
    const isIdle = now.origin === "process" && !now.is_open && now.stages.length === 0;
    const worker = now.database.worker;
    if (now.origin === "ledger") pill(worker?.is_alive ? `running on ${worker.machine}` : worker ? "not running" : "from the ledger", worker?.is_alive ? "good" : "plain");
    else pill(isIdle ? "between phases" : "running", isIdle ? "plain" : "good");
    trouble(now.database.trouble ? `The database does not answer: ${now.database.trouble}` : null);
    showOverview(now);
    showNow(now);
    showStates(now.database.repos);
    failures.showReasons(now.database.failures);
    showServer(now.database);
    timeline.update(now.spans, now.now);
    announce(now);
  } catch (error) {
    missed += 1;
    if (missed > 1) {
      pill("no answer", "bad");
      trouble(`The process does not answer any more (${error.message}). What is shown is the last that it said. skyfill dashboard shows a run that has ended.`);
    }
  }
}

// A series as it is drawn: totals as rates. What other processes did is in the ledger, sampled less
// often.
function drawn(key, { times, series }, step) {
  const { label, total, values } = series[key];
  const origin = key.split("/")[0];
  const stage = STAGES[origin] ?? origin;
  const shown = () => {
    if (!total) return values;
    if (origin === "server") return heldRates(times, values, Math.max(12000, step * 2000));
    return rates(times, values, Math.max(5000, step * 1000));
  };
  return { label: stage ? `${stage}: ${label}` : label, values: shown() };
}

async function history() {
  let step = 1;
  try {
    const told = await ask("/api/history");
    step = told.step;
    const marks = spans.map((span) => (typeof span.began === "string" ? Date.parse(span.began) : span.began));
    for (const { chart, keys } of charts) {
      const past = keys.filter((key) => told.past?.series[key]);
      const from = past.length ? told.past : told;
      const series = (past.length ? past : keys).filter((key) => from.series[key]).map((key) => drawn(key, from, step));
      const known = series.filter((one) => one.values.some((value) => value !== null));
      chart.update(from.times, known, marks);
    }
  } catch (error) {
    // The state says what is wrong.
  }
  setTimeout(history, Math.max(STATE_EVERY, step * 1000));
}

function repeat(work, every) {
  const round = async () => {
    // A page that nobody sees asks for nothing.
    if (!document.hidden) await work();
    setTimeout(round, every);
  };
  round();
}

function themeSwitch() {
  const button = byId("theme");
  const show = () => {
    const isDark = window.skyfillTheme.isDark();
    button.setAttribute("aria-pressed", String(isDark));
  };
  button.addEventListener("click", () => {
    window.skyfillTheme.toggle();
    show();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", show);
  show();
}

themeSwitch();
charts = [...build("rate-charts", RATES), ...build("server-charts", SERVER)];
timeline = new Timeline(byId("timeline"), { title: "Phases", about: "when each was open" });
failures.start();
hosts.start(failures.showFailed);
repeat(state, STATE_EVERY);
repeat(hosts.refresh, HOSTS_EVERY);
history();
