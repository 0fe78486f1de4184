//! The dashboard in a real browser: charts of a real run, keyboard, accessibility, and names of
//! hosts that mean harm. `SKYFILL_SCREENSHOTS=FOLDER` keeps pictures of what it saw.

use crate::dashboard::{Served, filled};
use simnet::{Network, NetworkSettings};
use testbed::*;

const DESKTOP: (u32, u32) = (1280, 900);
const PHONE: (u32, u32) = (390, 844);

/// Whether nothing stands out beyond the right edge of the window.
const FITS: &str = "document.documentElement.scrollWidth <= innerWidth";

fn is_sound(browser: &mut Browser, origin: &str, about: &str) {
    let errors = browser.errors();
    assert!(errors.is_empty(), "{about}: {errors:#?}");
    let requests = browser.requests();
    let elsewhere: Vec<&String> = requests
        .iter()
        .filter(|url| !url.starts_with(origin))
        .collect();
    assert!(
        requests.len() > 5 && elsewhere.is_empty(),
        "{about}: {elsewhere:?}"
    );
    let faults = browser.accessibility_faults();
    assert!(faults.is_empty(), "{about}: {faults:#?}");
}

#[test]
fn charts_draw_what_a_run_does() {
    let network = Network::start(NetworkSettings {
        seed: 5,
        repos: 120,
        records: 4000,
        hosts: 6,
        ..NetworkSettings::default()
    });
    let dns = simnet::Dns::start(std::collections::HashMap::new());
    let db = TestDb::migrated();
    let mut command = skyfill();
    command.args(["run", "--discover", "--relay", &network.relay_url()]);
    command.args([
        "--listen",
        "127.0.0.1:0",
        "--now",
        NOW,
        "--allow-private-hosts",
    ]);
    command.args(["--plc-url", &network.plc_url(), "--plc-rate", "30"]);
    command.args(["--well-known-server", &network.well_known_url()]);
    command.args(["--did-web-server", &network.well_known_url()]);
    command.args(["--dns-server", &dns.address().to_string()]);
    command.args(["--host-rate", "3", "--handles", "verified"]);
    command.env("BSKY_DB_POSTGRES_URL", &db.url);
    let mut served = Served::start(&mut command);
    let origin = format!("http://{}/", served.address);
    let mut browser = Browser::start();
    browser.set_screen(DESKTOP, false);
    browser.goto(&origin);
    // Lines of real rates: repos and records of the load, WAL of the server.
    for chart in [1, 2] {
        browser.wait_for(&format!(
            "document.querySelectorAll('#rate-charts .chart')[{}].querySelector('path.line').getAttribute('d').split('L').length > 3",
            chart - 1
        ));
    }
    browser.wait_for("document.querySelector('#phase-line li.open')");
    browser.wait_for("document.querySelectorAll('#timeline rect').length >= 2");
    browser.wait_for("document.querySelector('#stages progress').value > 0");
    browser.wait_for("document.querySelectorAll('#host-rows tr').length === 6");
    browser.wait_for("document.querySelector('#tables tr')");
    // What a chart draws is in its table, too; single values by the arrow keys.
    browser.eval("document.querySelector('#rate-charts details').open = true");
    browser.wait_for("document.querySelectorAll('#rate-charts details tbody tr').length > 2");
    browser.eval("document.querySelector('#rate-charts details').open = false");
    browser.eval("document.querySelector('#rate-charts svg').focus()");
    browser.press("ArrowLeft");
    browser.wait_for("document.querySelector('#rate-charts .cross line') && !/now/.test(document.querySelector('#rate-charts .legend .aside').textContent)");
    browser.press("Escape");
    browser.screenshot("run-light");
    is_sound(&mut browser, &origin, "a run");
    browser.set_screen(PHONE, true);
    browser.wait_for(FITS);
    browser.screenshot("run-phone-dark");
    // The run does not wait for the browser, and the page says when it is over.
    assert_eq!(
        served.process.wait_for_end(),
        Some(0),
        "{}",
        served.process.printed()
    );
    browser.wait_for("document.querySelector('#pill').textContent === 'no answer'");
    browser.wait_for("!document.querySelector('#trouble').hidden");
}

#[test]
fn a_stopped_run_is_searched_sorted_and_read_by_keyboard() {
    let served = Served::over(filled());
    let origin = format!("http://{}/", served.address);
    let mut browser = Browser::start();
    browser.set_screen(DESKTOP, true);
    browser.goto(&origin);
    browser.wait_for("document.querySelectorAll('#host-rows tr').length === 3");
    browser.wait_for("document.querySelectorAll('#states .state').length >= 2");
    browser.wait_for("document.querySelectorAll('#reasons tr').length === 2");
    browser.wait_for("document.querySelector('#tables tr')");
    // What the process that has ended wrote down.
    browser.wait_for("/load/.test(document.querySelector('#timeline').textContent)");
    browser
        .wait_for("document.querySelector('#rate-charts path.line')?.getAttribute('d').length > 5");
    browser.wait_for("document.querySelector('#pill').textContent === 'not running'");

    // Names that mean harm are text, and the title is the page's own.
    let text = browser.eval("document.querySelector('#host-rows').textContent");
    let text = text.as_str().unwrap();
    assert!(text.contains("<script>document.title"), "{text}");
    assert!(text.contains("\\u{1b}[31m\\u{202e}gnp.exe"), "{text}");
    assert_eq!(
        browser.eval("document.querySelectorAll('main script, main img').length"),
        0
    );
    assert_eq!(browser.eval("document.title"), "skyfill");

    // Sorted by name with the keyboard, once up and once down; the focus stays.
    let first = "document.querySelector('#host-rows tr th').textContent";
    browser.eval("document.querySelector('[data-key=\"sort-host\"]').focus()");
    browser.press("Enter");
    browser.wait_for("document.querySelector('#host-head th').ariaSort === 'ascending'");
    let ascending = browser.eval(first);
    browser.press("Enter");
    browser.wait_for("document.querySelector('#host-head th').ariaSort === 'descending'");
    browser.wait_for("document.activeElement.dataset.key === 'sort-host'");
    assert_ne!(browser.eval(first), ascending);
    browser.wait_for("document.querySelector('#host-rows tr th').textContent === 'slow.example'");

    // Searched.
    browser.eval("document.querySelector('#host-search').focus()");
    browser.type_text("slow");
    browser.wait_for("document.querySelectorAll('#host-rows tr').length === 1");
    browser.wait_for("/1 of 3 hosts/.test(document.querySelector('#host-count').textContent)");
    browser.screenshot("stopped-dark");
    is_sound(&mut browser, &origin, "a stopped run");

    // From a reason to its repos, page by page, to an account, and back.
    browser.eval("[...document.querySelectorAll('#reasons button')].find((b) => b.textContent === 'timeout').focus()");
    browser.press("Enter");
    browser.wait_for("document.querySelectorAll('#failed tr').length === 50");
    browser.wait_for("document.activeElement.id === 'failed-title'");
    let before = browser.eval("document.querySelector('#failed th').textContent");
    browser.eval("document.querySelector('#failed-next').focus()");
    browser.press("Enter");
    let changed = format!("document.querySelector('#failed th').textContent !== {before}");
    browser.wait_for(&changed);
    browser.eval("document.querySelector('#failed button').focus()");
    browser.press("Enter");
    browser.wait_for("document.querySelector('#account').open");
    browser.wait_for(
        "/nothing came for 60 s/.test(document.querySelector('#account-body').textContent)",
    );
    browser.screenshot("account-dark");
    is_sound(&mut browser, &origin, "an account");
    browser.press("Escape");
    browser.wait_for(
        "!document.querySelector('#account').open && document.activeElement.closest('#failed')",
    );

    // The switch turns to light, and is kept; on a phone everything fits.
    let ground = "getComputedStyle(document.body).backgroundColor";
    let dark = browser.eval(ground);
    browser.eval("document.querySelector('#theme').click()");
    let light = browser.eval(ground);
    assert_ne!(dark, light);
    browser.set_screen(PHONE, true);
    browser.goto(&origin);
    browser.wait_for("document.querySelectorAll('#host-rows tr').length === 3");
    assert_eq!(browser.eval(ground), light);
    browser.wait_for(FITS);
    browser.screenshot("stopped-phone-light");
    is_sound(&mut browser, &origin, "a phone");
}

#[test]
fn a_browser_signs_in_with_the_token() {
    let token = "correct-horse-battery";
    let mut command = skyfill();
    command.args(["dashboard", "--listen", "127.0.0.1:0"]);
    command.env("BSKY_DB_POSTGRES_URL", &filled().url);
    command.env("SKYFILL_LISTEN_TOKEN", token);
    let served = Served::start(&mut command);
    let mut browser = Browser::start();
    browser.goto(&format!("http://{}/", served.address));
    for (text, outcome) in [
        (
            "wrong-wrong-wrong-wrong",
            "/not the token/.test(document.querySelector('#note').textContent)",
        ),
        (
            token,
            "document.querySelectorAll('#host-rows tr').length === 3",
        ),
    ] {
        browser.eval(
            "document.querySelector('#token').value = ''; document.querySelector('#token').focus()",
        );
        browser.type_text(text);
        browser.press("Enter");
        browser.wait_for(outcome);
    }
    assert_eq!(browser.eval("document.cookie"), "");
}
