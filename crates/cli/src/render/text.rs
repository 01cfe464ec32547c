//! Text that comes from images and registries, made fit for a terminal.

/// The text with control characters spelled out: a version label must not move
/// the cursor or colour the screen. Line breaks are spelled out too.
pub(crate) fn line(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() || is_bidi_control(c) {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}

/// Characters that make text look like other text (Unicode TR 36, 2.7).
fn is_bidi_control(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// How many digits of a digest are shown where the beginning is enough.
const SHORT: usize = 12;

/// The text with the digests of composefs images in it cut to their beginning:
/// no line is readable with 128 digits in it.
pub(crate) fn shorten(text: &str) -> String {
    const DIGITS: usize = 128;
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find(|c: char| c.is_ascii_hexdigit()) {
        let (before, run) = rest.split_at(start);
        let end = run
            .find(|c: char| !c.is_ascii_hexdigit())
            .unwrap_or(run.len());
        let (run, after) = run.split_at(end);
        out.push_str(before);
        out.push_str(if run.len() == DIGITS {
            &run[..SHORT]
        } else {
            run
        });
        rest = after;
    }
    out.push_str(rest);
    out
}

/// The beginning of a digest, with its algorithm.
pub(crate) fn short_digest(digest: &str) -> String {
    let (algorithm, digits) = digest.split_once(':').unwrap_or(("", digest));
    let digits: String = digits.chars().take(SHORT).collect();
    line(&if algorithm.is_empty() {
        digits
    } else {
        format!("{algorithm}:{digits}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escape_sequences_are_shown_and_not_obeyed() {
        assert_eq!(
            line("1\x1b[2J\n\u{202e}x\u{9b}é"),
            "1\\u{1b}[2J\\n\\u{202e}x\\u{9b}é"
        );
    }

    #[test]
    fn only_digests_of_composefs_images_are_shortened() {
        let long = "ab".repeat(64);
        let text = format!("deployment {long}.3: sha256:{}", "c".repeat(64));
        let expected = format!("deployment abababababab.3: sha256:{}", "c".repeat(64));
        assert_eq!(shorten(&text), expected);
        assert_eq!(shorten(&format!("{long}ab é")), format!("{long}ab é"));
    }
}
