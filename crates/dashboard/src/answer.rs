//! What each path answers.
//!
//! | path | answer | needs a key |
//! |---|---|---|
//! | `/` | the page, or the one to sign in with | no |
//! | files of the page | themselves | no |
//! | `/health`, `/ready` | one word | no |
//! | `/sign-in` | a cookie, for the key of the link or the token | its own |
//! | `/metrics` | text for Prometheus | yes |
//! | `/api/state`, `/api/history`, `/api/hosts`, `/api/failed`, `/api/account` | JSON | yes |

use crate::guard::Refusal;
use crate::metrics;
use crate::page::{self, File};
use crate::shared::Served;
use crate::stored::{NoAnswer, Order, Question, hosts_page};
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{
    ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, HeaderValue, LOCATION,
    REFERRER_POLICY, RETRY_AFTER, SET_COOKIE, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS,
    X_FRAME_OPTIONS,
};
use hyper::http::request::Parts;
use hyper::{Request, Response, StatusCode};
use ledger::overview::FailedPage;
use serde_json::json;
use std::borrow::Cow;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Instant;

type Answer = Response<Full<Bytes>>;

/// Longest value of a parameter, in bytes: a DID has at most 2,048.
const LONGEST_VALUE: usize = 2048;

const JSON: &str = "application/json";
const TEXT: &str = "text/plain; charset=utf-8";
/// As Prometheus has it.
const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What browsers are told with each answer: nothing from elsewhere, no inline script or style, no
/// frame, no guess at what a file is, nothing kept.
const HEADERS: [(HeaderName, &str); 7] = [
    (
        CONTENT_SECURITY_POLICY,
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (X_FRAME_OPTIONS, "DENY"),
    (REFERRER_POLICY, "no-referrer"),
    (CACHE_CONTROL, "no-store"),
    (
        HeaderName::from_static("cross-origin-resource-policy"),
        "same-origin",
    ),
    (
        HeaderName::from_static("cross-origin-opener-policy"),
        "same-origin",
    ),
];

/// Answers a request.
pub(crate) async fn answer(
    shared: Arc<Served>,
    request: Request<Incoming>,
) -> Result<Answer, Infallible> {
    let (head, _) = request.into_parts();
    let mut answer = match shared.guard.admits(&head) {
        Ok(()) => answer_to(&shared, &head).await,
        Err(refusal) => refused(refusal),
    };
    for (name, value) in HEADERS {
        let value = HeaderValue::from_static(value);
        answer.headers_mut().insert(name, value);
    }
    Ok(answer)
}

async fn answer_to(shared: &Served, head: &Parts) -> Answer {
    let path = head.uri.path();
    match path {
        "/health" => return text(StatusCode::OK, "ok\n"),
        "/ready" => return ready(shared),
        "/sign-in" => return sign_in(shared, head),
        _ => {}
    }
    if let Some(file) = page::file(path) {
        return file_answer(StatusCode::OK, &file);
    }
    let is_known = matches!(
        path,
        "/" | "/metrics"
            | "/api/state"
            | "/api/history"
            | "/api/hosts"
            | "/api/failed"
            | "/api/account"
    );
    if !is_known {
        return text(StatusCode::NOT_FOUND, "there is nothing here\n");
    }
    if let Err(refusal) = shared.guard.knows(head) {
        return match path {
            "/" => file_answer(StatusCode::UNAUTHORIZED, &page::SIGN_IN),
            _ => refused(refusal),
        };
    }
    shared.stored.on_viewed();
    let query = Query::of(head);
    match path {
        "/" => file_answer(StatusCode::OK, &page::INDEX),
        "/metrics" => {
            let body = shared.made.get(path, || metrics::text(shared));
            with_type(StatusCode::OK, METRICS, body)
        }
        "/api/state" => from_made(shared, path, || {
            let known = shared.stored.known();
            shared.live().json(&known).to_string()
        }),
        "/api/history" => from_made(shared, path, || {
            let mut history = shared.live().history.json();
            let past = shared.stored.known().past;
            history["past"] = json!(past.map(|past| past.value.series()));
            history.to_string()
        }),
        "/api/hosts" => hosts(shared, &query),
        "/api/failed" => look_up(shared, query.failed()).await,
        _ => match query.get("did") {
            Some(did) => look_up(shared, Some(Question::Account(did.to_owned()))).await,
            None => look_up(shared, None).await,
        },
    }
}

fn from_made(shared: &Served, name: &str, make: impl FnOnce() -> String) -> Answer {
    with_type(StatusCode::OK, JSON, shared.made.get(name, make))
}

fn hosts(shared: &Served, query: &Query<'_>) -> Answer {
    let order = Order {
        search: query.get("q").unwrap_or_default().to_owned(),
        by: query.get("sort").unwrap_or_default().to_owned(),
        is_descending: query.get("order") == Some("desc"),
        offset: query
            .get("offset")
            .and_then(|offset| offset.parse().ok())
            .unwrap_or(0),
    };
    let known = shared.stored.known();
    from_made(shared, &format!("{order:?}"), || {
        let rows = known.hosts.as_ref().map(|hosts| hosts.value.as_slice());
        let mut page = hosts_page(rows.unwrap_or_default(), &order);
        page["at"] = json!(known.hosts.as_ref().map(|hosts| hosts.at));
        page.to_string()
    })
}

async fn look_up(shared: &Served, question: Option<Question>) -> Answer {
    let Some(question) = question else {
        return text(
            StatusCode::BAD_REQUEST,
            "a parameter is missing or too long\n",
        );
    };
    match shared.stored.ask(question).await {
        Ok(body) => with_type(StatusCode::OK, JSON, body),
        Err(NoAnswer::Unknown) => text(StatusCode::NOT_FOUND, "the ledger does not know it\n"),
        Err(NoAnswer::Unavailable(why)) => {
            let mut answer = text(StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n"));
            let soon = HeaderValue::from_static("5");
            answer.headers_mut().insert(RETRY_AFTER, soon);
            answer
        }
    }
}

/// Whether what the page shows is there.
fn ready(shared: &Served) -> Answer {
    let known = shared.stored.known();
    match known.is_ready() {
        true => text(StatusCode::OK, "ready\n"),
        // What is wrong is for those who have a key: the page says it.
        false => text(
            StatusCode::SERVICE_UNAVAILABLE,
            "the database has not answered yet\n",
        ),
    }
}

/// A cookie for the key of the link, or for the token.
fn sign_in(shared: &Served, head: &Parts) -> Answer {
    let keys = &shared.guard.keys;
    let query = Query::of(head);
    let by_link = query.get("key");
    let cookie = match by_link {
        Some(key) => keys.take_link(key, Instant::now()),
        None if shared.guard.shows_token(head) => keys.make_cookie(),
        None => None,
    };
    let Some(cookie) = cookie else {
        return match by_link {
            Some(_) => file_answer(StatusCode::UNAUTHORIZED, &page::SIGN_IN),
            None => refused(Refusal::Key),
        };
    };
    let mut answer = text(StatusCode::SEE_OTHER, "signed in\n");
    let headers = answer.headers_mut();
    headers.insert(LOCATION, HeaderValue::from_static("/"));
    let cookie = format!(
        "{}={cookie}; HttpOnly; SameSite=Strict; Path=/",
        shared.guard.cookie
    );
    if let Ok(cookie) = HeaderValue::from_str(&cookie) {
        headers.insert(SET_COOKIE, cookie);
    }
    answer
}

fn refused(refusal: Refusal) -> Answer {
    let (status, why) = refusal.answer();
    let mut answer = text(status, why);
    match refusal {
        Refusal::Method => {
            let methods = HeaderValue::from_static("GET, HEAD");
            answer.headers_mut().insert(ALLOW, methods);
        }
        Refusal::Key => {
            let scheme = HeaderValue::from_static("Bearer");
            answer.headers_mut().insert(WWW_AUTHENTICATE, scheme);
        }
        Refusal::Host => {}
    }
    answer
}

fn text(status: StatusCode, text: impl Into<Bytes>) -> Answer {
    with_type(status, TEXT, text.into())
}

fn file_answer(status: StatusCode, file: &File) -> Answer {
    with_type(status, file.kind, Bytes::from_static(file.text.as_bytes()))
}

fn with_type(status: StatusCode, kind: &'static str, body: Bytes) -> Answer {
    let mut answer = Response::new(Full::new(body));
    *answer.status_mut() = status;
    let kind = HeaderValue::from_static(kind);
    answer.headers_mut().insert(CONTENT_TYPE, kind);
    answer
}

/// The parameters of a request; of one that comes twice the first counts.
struct Query<'q>(Vec<(Cow<'q, str>, Cow<'q, str>)>);

impl<'q> Query<'q> {
    fn of(head: &'q Parts) -> Self {
        let query = head.uri.query().unwrap_or_default();
        let pairs = url::form_urlencoded::parse(query.as_bytes());
        Self(pairs.take(16).collect())
    }

    /// A parameter that is not empty and not too long.
    fn get(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(known, _)| known == name);
        let value = found.map(|(_, value)| value.as_ref());
        value.filter(|value| {
            !value.is_empty() && value.len() <= LONGEST_VALUE && !value.contains('\0')
        })
    }

    fn failed(&self) -> Option<Question> {
        let owned = |name: &str| self.get(name).map(str::to_owned);
        let time = owned("time");
        // What the server would have to read as a time is one that it wrote.
        let is_time = |time: &String| {
            time.len() <= 40
                && time
                    .bytes()
                    .all(|b| b.is_ascii_digit() || b"-: .+".contains(&b))
                || time == "infinity"
        };
        if !time.as_ref().is_none_or(is_time) {
            return None;
        }
        Some(Question::Failed(FailedPage {
            code: owned("code"),
            host: owned("host"),
            after: time.zip(owned("did")),
        }))
    }
}
