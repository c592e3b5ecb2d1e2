//! Text that somebody else wrote, as it may be shown: an image, a container or a registry can put a line's
//! end into a label to forge a row of a list, and escape sequences that a terminal obeys.
//!
//! Everything that Go's strconv.IsPrint calls unprintable is written as an escape of strconv.Quote, which is
//! how docker quotes: control and format characters, separators and what is assigned to nothing.

use std::borrow::Cow;

/// Whether a terminal draws the character and does nothing else.
fn is_visible(c: char) -> bool {
    if c.is_ascii() {
        return !c.is_ascii_control();
    }
    // The standard library escapes what is not printable. A combining character it escapes only at the
    // beginning of a text, so there is a letter before it.
    let mut text = [b'a', 0, 0, 0, 0];
    let length = 1 + c.encode_utf8(&mut text[1..]).len();
    std::str::from_utf8(&text[..length]).is_ok_and(|text| text.escape_debug().count() == 2)
}

/// The escape that strconv.Quote has for a character.
fn escape(c: char, out: &mut String) {
    match (c, c as u32) {
        ('\n', _) => out.push_str("\\n"),
        ('\r', _) => out.push_str("\\r"),
        ('\t', _) => out.push_str("\\t"),
        (_, code @ ..0x80) => out.push_str(&format!("\\x{code:02x}")),
        (_, code @ ..0x1_0000) => out.push_str(&format!("\\u{code:04x}")),
        (_, code) => out.push_str(&format!("\\U{code:08x}")),
    }
}

/// The text on one line, without anything that a terminal obeys.
pub fn visible(text: &str) -> Cow<'_, str> {
    if text.chars().all(is_visible) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_visible(c) { out.push(c) } else { escape(c, &mut out) }
    }
    Cow::Owned(out)
}

/// Go's `%q`: the same in double quotes, in which quotes and backslashes are escaped too.
pub fn quoted(text: &str) -> String {
    let mut out = String::from('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if is_visible(c) => out.push(c),
            c => escape(c, &mut out),
        }
    }
    out.push('"');
    out
}

/// A JSON document in which what serde_json leaves as it is, DEL and what is above ASCII, is escaped by the
/// rules of JSON (RFC 8259, section 7): the document means the same.
pub fn json(document: String) -> String {
    let harmless = |c: char| c == '\n' || is_visible(c);
    if document.chars().all(harmless) {
        return document;
    }
    let mut out = String::with_capacity(document.len() + 16);
    for c in document.chars() {
        if harmless(c) {
            out.push(c);
        } else {
            c.encode_utf16(&mut [0; 2]).iter().for_each(|unit| out.push_str(&format!("\\u{unit:04x}")));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_obey_is_escaped() {
        for (text, shown) in [
            ("plain, \"quoted\" \\ text", "plain, \"quoted\" \\ text"),
            ("名前 é e\u{301} 🦀", "名前 é e\u{301} 🦀"),
            ("a\nb\r\tc", "a\\nb\\r\\tc"),
            ("\u{1b}[2J\u{7f}\0", "\\x1b[2J\\x7f\\x00"),
            ("\u{9b}2J", "\\u009b2J"),
            ("left\u{202e}thgir\u{2028}", "left\\u202ethgir\\u2028"),
            ("\u{e0041}", "\\U000e0041"),
        ] {
            assert_eq!(visible(text), shown);
        }
        assert_eq!(quoted("sh -c \"a\\b\"\n\u{1b}"), "\"sh -c \\\"a\\\\b\\\"\\n\\x1b\"");
    }

    #[test]
    fn a_document_means_the_same() {
        let value = serde_json::json!({"a\u{9b}": "x\n\u{7f}\u{202e}\u{e0041}é"});
        let text = json(value.to_string());
        assert_eq!(text, "{\"a\\u009b\":\"x\\n\\u007f\\u202e\\udb40\\udc41é\"}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), value);
    }
}
