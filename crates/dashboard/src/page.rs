//! The files of the page, as the binary carries them.

/// A file.
pub(crate) struct File {
    pub(crate) kind: &'static str,
    pub(crate) text: &'static str,
}

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const JAVASCRIPT: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml";

/// The page.
pub(crate) const INDEX: File = File {
    kind: HTML,
    text: include_str!("../page/index.html"),
};

/// What is shown instead to who has no key.
pub(crate) const SIGN_IN: File = File {
    kind: HTML,
    text: include_str!("../page/sign-in.html"),
};

/// What the pages load. It says nothing about a run, so everybody may have it. Only these paths
/// exist: nothing is looked up in a file system.
pub(crate) fn file(path: &str) -> Option<File> {
    let (kind, text) = match path {
        "/style.css" => (CSS, include_str!("../page/style.css")),
        "/theme.js" => (JAVASCRIPT, include_str!("../page/theme.js")),
        "/words.js" => (JAVASCRIPT, include_str!("../page/words.js")),
        "/chart.js" => (JAVASCRIPT, include_str!("../page/chart.js")),
        "/app.js" => (JAVASCRIPT, include_str!("../page/app.js")),
        "/hosts.js" => (JAVASCRIPT, include_str!("../page/hosts.js")),
        "/failures.js" => (JAVASCRIPT, include_str!("../page/failures.js")),
        "/sign-in.js" => (JAVASCRIPT, include_str!("../page/sign-in.js")),
        "/icon.svg" => (SVG, include_str!("../page/icon.svg")),
        _ => return None,
    };
    Some(File { kind, text })
}
