//! The path of the value at which parsing stopped, found by reading the text again up to there.
//!
//! serde_path_to_error answers the same, but as a second copy of every type's parser: 290 kB of a 1 MB binary.

/// An object or list that is open at a place in the text.
enum Open {
    /// With the key of the member that is being read, once its colon is seen.
    Object(Option<String>),
    /// With the index of the element.
    List(usize),
}

/// The path, as in `mounts[3].options`, of the value that holds the given place; lines count from 1, `column` is the
/// number of bytes read of the line, as serde_json counts both. Empty for the document itself.
pub(super) fn path(text: &[u8], line: usize, column: usize) -> String {
    let start: usize = text.split_inclusive(|b| *b == b'\n').take(line.saturating_sub(1)).map(<[u8]>::len).sum();
    let text = &text[..text.len().min(start + column)];
    let mut open = Vec::new();
    let mut string = 0..0;
    let mut at = 0;
    while let Some(byte) = text.get(at) {
        let mut next = at + 1;
        match (byte, open.last_mut()) {
            (b'"', _) => {
                let end = string_end(text, next);
                string = next..end;
                next = end + 1;
            }
            (b'{', _) => open.push(Open::Object(None)),
            (b'[', _) => open.push(Open::List(0)),
            (b'}' | b']', _) => _ = open.pop(),
            (b':', Some(Open::Object(key))) => *key = Some(String::from_utf8_lossy(&text[string.clone()]).into_owned()),
            (b',', Some(Open::Object(key))) => *key = None,
            (b',', Some(Open::List(index))) => *index += 1,
            _ => {}
        }
        at = next;
    }
    let mut path = String::new();
    for level in open {
        match level {
            Open::Object(Some(key)) if path.is_empty() => path = key,
            Open::Object(Some(key)) => path.extend([".", &key]),
            Open::Object(None) => {}
            Open::List(index) => path.push_str(&format!("[{index}]")),
        }
    }
    path
}

/// Where the quote is that ends the string which begins at `at`, or the end of the text.
fn string_end(text: &[u8], mut at: usize) -> usize {
    while let Some(byte) = text.get(at) {
        match byte {
            b'"' => return at,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    text.len()
}
