//! Language tags, BCP 47 as `@atproto/syntax` (`language.ts`) takes them in its strict mode: well
//! formed, no variant or extension twice, and a primary language of two or three lower-case
//! letters.

use atrepo::work;

/// Tags that were registered before the grammar; case counts.
const GRANDFATHERED: &[&str] = &[
    "en-GB-oed",
    "i-ami",
    "i-bnn",
    "i-default",
    "i-enochian",
    "i-hak",
    "i-klingon",
    "i-lux",
    "i-mingo",
    "i-navajo",
    "i-pwn",
    "i-tao",
    "i-tay",
    "i-tsu",
    "sgn-BE-FR",
    "sgn-BE-NL",
    "sgn-CH-DE",
    "art-lojban",
    "cel-gaulish",
    "no-bok",
    "no-nyn",
    "zh-guoyu",
    "zh-hakka",
    "zh-min",
    "zh-min-nan",
    "zh-xiang",
];

/// Whether `text` is a language tag.
pub(super) fn is_language(text: &str) -> bool {
    if GRANDFATHERED.contains(&text) {
        return true;
    }
    let mut rest = text.split('-').peekable();
    match rest.next() {
        Some("x" | "X") => return is_private(rest),
        Some(primary)
            if matches!(primary.len(), 2 | 3)
                && primary.bytes().all(|b| b.is_ascii_lowercase()) => {}
        _ => return false,
    }
    let letters = |s: &&str, n: usize| s.len() == n && s.bytes().all(|b| b.is_ascii_alphabetic());
    let alphanumeric = |s: &str| s.bytes().all(|b| b.is_ascii_alphanumeric());
    for _ in 0..3 {
        rest.next_if(|s| letters(s, 3));
    }
    rest.next_if(|s| letters(s, 4));
    rest.next_if(|s| letters(s, 2) || (s.len() == 3 && s.bytes().all(|b| b.is_ascii_digit())));
    let mut variants: Vec<String> = Vec::new();
    let is_variant = |s: &&str| {
        alphanumeric(s)
            && ((5..=8).contains(&s.len())
                || (s.len() == 4 && s.starts_with(|c: char| c.is_ascii_digit())))
    };
    while let Some(variant) = rest.next_if(is_variant) {
        variants.push(variant.to_ascii_lowercase());
    }
    if has_any_twice(&mut variants) {
        return false;
    }
    // One letter or digit each, so that there are few before one comes again.
    let mut singletons: Vec<String> = Vec::new();
    while let Some(singleton) =
        rest.next_if(|s| s.len() == 1 && alphanumeric(s) && !s.eq_ignore_ascii_case("x"))
    {
        let singleton = singleton.to_ascii_lowercase();
        if singletons.contains(&singleton) {
            return false;
        }
        singletons.push(singleton);
        let mut parts = 0usize;
        while rest
            .next_if(|s| alphanumeric(s) && (2..=8).contains(&s.len()))
            .is_some()
        {
            parts = parts.saturating_add(1);
        }
        if parts == 0 {
            return false;
        }
    }
    match rest.next() {
        None => true,
        Some("x" | "X") => is_private(rest),
        Some(_) => false,
    }
}

/// Whether one of `parts` occurs twice. The parts are sorted for this: a record of a megabyte can
/// have a hundred thousand of them.
fn has_any_twice(parts: &mut [String]) -> bool {
    parts.sort_unstable();
    work::add(parts.len());
    parts
        .windows(2)
        .any(|pair| matches!(pair, [a, b] if a == b))
}

/// What follows an `x`: one or more parts of one to eight letters and digits.
fn is_private<'a>(parts: impl Iterator<Item = &'a str>) -> bool {
    let mut parts = parts.peekable();
    parts.peek().is_some()
        && parts.all(|s| (1..=8).contains(&s.len()) && s.bytes().all(|b| b.is_ascii_alphanumeric()))
}

#[cfg(test)]
mod tests {
    use super::is_language;

    #[test]
    fn tags() {
        for good in [
            "en",
            "pt-BR",
            "zh-Hant-TW",
            "sl-rozaj-biske",
            "de-1996",
            "en-a-bbb-x-a",
            "x-whatever",
            "i-klingon",
            "zh-min-nan",
            "es-419",
            "zh-cmn-Hans-CN",
            "en-GB-oed",
            "de-u-co-phonebk",
        ] {
            assert!(is_language(good), "{good}");
        }
        for bad in [
            "",
            "e",
            "EN",
            "english",
            "en-",
            "en_US",
            "-en",
            "en--US",
            "de-1996-1996",
            "en-a-bb-a-cc",
            "en-a",
            "en-x",
            "x",
            "i-unknown",
            "abcd",
            "en-US-",
            "en-abcdefghi",
            "a-DE",
            "zh-abc-abd-abe-abf",
        ] {
            assert!(!is_language(bad), "{bad}");
        }
    }
}
