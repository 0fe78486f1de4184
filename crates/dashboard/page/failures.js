// Failures: reasons, the failed repos of a reason or host, and an account with what happened to it.

import { ask, byId, element, moment, replace, setText, whole } from "/words.js";

const wanted = { code: null, host: null, after: null };
let opener = null;

// `state` is what /api/state says of the database.
export function showReasons(failures) {
  if (!failures) {
    replace(byId("reasons"), [element("tr", {}, element("td", { colspan: 5, class: "empty", text: "not read yet" }))]);
    return;
  }
  const rows = failures.list.map((reason) => element("tr", {},
    element("th", { scope: "row" },
      element("button", {
        type: "button", class: "link", "data-key": `reason-${reason.code}`, text: reason.code,
        onclick: () => showFailed({ code: reason.code }),
      })),
    element("td", { class: "number", text: whole(reason.repos) }),
    element("td", { class: "number", text: whole(reason.hosts) }),
    element("td", { class: "number", text: whole(reason.due) }),
    element("td", { class: "wrap", text: reason.error || "–" })));
  if (rows.length === 0) rows.push(element("tr", {}, element("td", { colspan: 5, class: "empty", text: "no repo has failed" })));
  replace(byId("reasons"), rows);
}

export async function showFailed({ code = null, host = null }) {
  Object.assign(wanted, { code, host, after: null });
  byId("failed-panel").hidden = false;
  const what = code === null ? `of ${host}` : `with ${code}`;
  setText(byId("failed-title"), `Failed repos ${what}`);
  await page();
  byId("failed-title").focus();
  byId("failed-panel").scrollIntoView({ block: "start", behavior: "auto" });
}

async function page() {
  const query = new URLSearchParams();
  if (wanted.code !== null) query.set("code", wanted.code);
  if (wanted.host !== null) query.set("host", wanted.host);
  if (wanted.after) {
    query.set("time", wanted.after.time);
    query.set("did", wanted.after.did);
  }
  try {
    const answer = await ask(`/api/failed?${query}`);
    const rows = answer.repos.map((repo) => element("tr", {},
      element("th", { scope: "row" }, element("button", {
        type: "button", class: "link name", "data-key": repo.did, text: repo.did,
        onclick: (event) => showAccount(repo.did, event.currentTarget),
      })),
      element("td", { text: repo.host || "no host known" }),
      element("td", { class: "number", text: whole(repo.attempts) }),
      element("td", { text: repo.next_attempt ? moment(repo.next_attempt) : "–" }),
      element("td", { class: "wrap", text: repo.error || repo.code })));
    if (rows.length === 0) rows.push(element("tr", {}, element("td", { colspan: 5, class: "empty", text: "none" })));
    replace(byId("failed"), rows);
    setText(byId("failed-place"), `${whole(answer.repos.length)} repos shown${answer.next ? ", there are more" : ""}`);
    byId("failed-next").disabled = !answer.next;
    byId("failed-first").disabled = !wanted.after;
    wanted.next = answer.next;
  } catch (error) {
    setText(byId("failed-place"), `not available: ${error.message}`);
  }
}

export async function showAccount(did, from) {
  opener = from ?? null;
  setText(byId("did-note"), "");
  let account;
  try {
    account = await ask(`/api/account?${new URLSearchParams({ did })}`);
  } catch (error) {
    setText(byId("did-note"), error.message);
    return;
  }
  setText(byId("account-title"), account.did);
  const facts = account.facts.flatMap(([name, value]) => [element("dt", { text: name }), element("dd", { text: value })]);
  const events = account.events.map(([time, what]) => element("li", {}, element("time", { datetime: time, text: moment(time) }), element("span", { text: ` ${what}` })));
  byId("account-body").replaceChildren(
    element("dl", { class: "facts" }, ...facts),
    element("h3", { text: "What happened" }),
    events.length ? element("ol", { class: "events" }, ...events) : element("p", { class: "empty", text: "nothing with a time" }));
  byId("account").showModal();
  byId("account-title").focus();
}

export function start() {
  byId("failed-next").addEventListener("click", () => {
    wanted.after = wanted.next;
    page();
  });
  byId("failed-first").addEventListener("click", () => {
    wanted.after = null;
    page();
  });
  byId("account-close").addEventListener("click", () => byId("account").close());
  byId("account").addEventListener("close", () => opener?.focus());
  byId("did-form").addEventListener("submit", (event) => {
    event.preventDefault();
    const did = byId("did").value.trim();
    if (did) showAccount(did, byId("did"));
  });
}
