//! The rooms of `src/`: each uses only rooms to its left in the map that `src/lib.rs` draws, and `unsafe` lives in `sys`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// Every source file below `dir`, with its text.
fn files(dir: &Path) -> Vec<(PathBuf, String)> {
    let mut all = Vec::new();
    for entry in fs::read_dir(dir).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            all.extend(files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            all.push((path, text));
        }
    }
    all.sort();
    all
}

/// The map as lib.rs draws it: the place of each room, counted from the left. Rooms in braces have the same place.
fn map() -> BTreeMap<String, usize> {
    let text = fs::read_to_string(source().join("lib.rs")).unwrap();
    let drawn = text.lines().find(|line| line.starts_with("//!") && line.contains(" → ")).expect("lib.rs draws the map of the rooms");
    let mut map = BTreeMap::new();
    for (place, rooms) in drawn.trim_start_matches("//!").split('→').enumerate() {
        for room in rooms.trim().trim_matches(['{', '}']).split(',') {
            map.insert(room.trim().to_owned(), place);
        }
    }
    map
}

/// The text with comments, string and character literals blanked, so that only code is left; line numbers stay.
fn code(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = bytes.to_vec();
    let mut i = 0;
    while i < bytes.len() {
        let rest = &text.as_bytes()[i..];
        let length = if rest.starts_with(b"//") {
            rest.iter().position(|&b| b == b'\n').unwrap_or(rest.len())
        } else if rest.starts_with(b"/*") {
            rest.windows(2).skip(2).position(|w| w == b"*/").map_or(rest.len(), |at| at + 4)
        } else if rest.starts_with(b"r\"") || rest.starts_with(b"r#") && rest[1..].iter().find(|&&b| b != b'#') == Some(&b'"') {
            let hashes = rest[1..].iter().take_while(|&&b| b == b'#').count();
            let end: Vec<u8> = std::iter::once(b'"').chain(std::iter::repeat_n(b'#', hashes)).collect();
            rest.windows(end.len()).skip(2 + hashes).position(|w| w == end).map_or(rest.len(), |at| at + 2 + hashes + end.len())
        } else if rest[0] == b'"' {
            let mut end = 1;
            while end < rest.len() && rest[end] != b'"' {
                end += if rest[end] == b'\\' { 2 } else { 1 };
            }
            end + 1
        } else if rest[0] == b'\'' && rest.get(1) == Some(&b'\\') {
            rest.iter().skip(3).position(|&b| b == b'\'').map_or(1, |at| at + 4)
        } else if rest[0] == b'\'' && rest.get(2) == Some(&b'\'') {
            3
        } else {
            i += 1;
            continue;
        };
        let end = (i + length).min(bytes.len());
        out[i..end].iter_mut().filter(|b| **b != b'\n').for_each(|b| *b = b' ');
        i = end;
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn is_word(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b == b'_'
}

/// Where `word` stands in `code` as a word of its own.
fn occurrences<'a>(code: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    code.match_indices(word).map(|(at, _)| at).filter(move |&at| {
        let bytes = code.as_bytes();
        let before = at.checked_sub(1).is_none_or(|i| !is_word(bytes[i]));
        before && bytes.get(at + word.len()).is_none_or(|&b| !is_word(b))
    })
}

fn line(code: &str, at: usize) -> usize {
    code[..at].matches('\n').count() + 1
}

/// The first names of a path or of a brace group: `sys::x` → sys; `{arm, cgroup::{A, B}}` → arm, cgroup.
fn first_names(path: &str) -> Vec<String> {
    let name = |text: &str| text.trim_start().chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect::<String>();
    let Some(group) = path.trim_start().strip_prefix('{') else { return vec![name(path)] };
    let (mut depth, mut names, mut start) = (0, Vec::new(), 0);
    for (i, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => {
                names.push(name(&group[start..i]));
                break;
            }
            '}' => depth -= 1,
            ',' if depth == 0 => {
                names.push(name(&group[start..i]));
                start = i + 1;
            }
            _ => {}
        }
    }
    names.retain(|name| !name.is_empty());
    names
}

/// Every room that the code of one file names by an absolute path, with the line.
fn named_rooms(code: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for at in occurrences(code, "crate").chain(occurrences(code, "keel")) {
        if let Some(path) = code[at..].split_once("::").filter(|(word, _)| word.trim() == "crate" || word.trim() == "keel") {
            found.extend(first_names(path.1).into_iter().map(|name| (line(code, at), name)));
        }
    }
    found
}

/// The lines where `super` climbs out of the room: as many steps as there are modules between here and the crate.
fn climbs(code: &str, depth: usize) -> Vec<usize> {
    let mut out = Vec::new();
    for at in occurrences(code, "super") {
        if code[..at].trim_end().ends_with("super::") || code[..at].trim_end().ends_with("in") {
            continue; // counted from its first step; pub(in …) names no dependency
        }
        let steps = code[at..].split("::").take_while(|part| part.trim() == "super").count().max(1);
        // Inline modules around this place go one deeper each.
        let before = &code[..at];
        let mut opened = Vec::new();
        for (i, b) in before.bytes().enumerate() {
            match b {
                b'{' => {
                    let head = before[..i].trim_end();
                    let mut words = head.rsplit(|c: char| c.is_whitespace() || c == ';' || c == '}' || c == '{');
                    let (name, keyword) = (words.next().unwrap_or_default(), words.find(|word| !word.is_empty()).unwrap_or_default());
                    opened.push(keyword == "mod" && name.bytes().all(is_word));
                }
                b'}' => drop(opened.pop()),
                _ => {}
            }
        }
        let inline = opened.iter().filter(|is_module| **is_module).count();
        if steps >= depth + inline {
            out.push(line(code, at));
        }
    }
    out
}

#[test]
fn the_map_names_every_room() {
    let map = map();
    let rooms: Vec<String> = fs::read_dir(source())
        .unwrap()
        .flatten()
        .filter(|entry| entry.path().is_dir())
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| name != "bin")
        .collect();
    for room in &rooms {
        assert!(map.contains_key(room), "src/{room} is not on the map in src/lib.rs");
    }
    for room in map.keys() {
        assert!(rooms.contains(room), "the map in src/lib.rs shows {room}, which src/ does not have");
    }
}

#[test]
fn each_room_uses_only_rooms_to_its_left() {
    let (map, mut seen, mut wrong) = (map(), 0, Vec::new());
    for (room, &place) in &map {
        for (path, text) in files(&source().join(room)) {
            let code = code(&text);
            for (line, used) in named_rooms(&code) {
                seen += 1;
                match map.get(&used) {
                    _ if used == *room => {}
                    Some(&other) if other < place => {}
                    Some(_) => wrong.push(format!("{}:{line}: {room} uses {used}", path.display())),
                    None => wrong.push(format!("{}:{line}: {used} is no room", path.display())),
                }
            }
            let below = path.strip_prefix(source()).unwrap();
            // src/plan/op.rs is crate::plan::op, two deep; src/plan/mod.rs is crate::plan, one deep.
            let depth = below.components().count() - usize::from(below.ends_with("mod.rs"));
            wrong.extend(climbs(&code, depth).iter().map(|line| format!("{}:{line}: super leaves the room {room}", path.display())));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    assert!(seen > 50, "only {seen} uses of rooms were found: this test no longer reads the sources");
}

#[test]
fn unsafe_is_only_in_sys_and_each_says_why_it_is_sound() {
    let (mut seen, mut wrong) = (0, Vec::new());
    for (path, text) in files(&source()) {
        let code = code(&text);
        let lines: Vec<&str> = text.lines().collect();
        for at in occurrences(&code, "unsafe") {
            seen += 1;
            let number = line(&code, at);
            if !path.starts_with(source().join("sys")) {
                wrong.push(format!("{}:{number}: unsafe outside of src/sys", path.display()));
            } else if !says_why(&lines, number - 1) && !is_method(&lines, number - 1) {
                wrong.push(format!("{}:{number}: unsafe without SAFETY", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    assert!(seen > 10, "only {seen} uses of unsafe were found: this test no longer reads the sources");
}

/// A method of an `unsafe impl`, whose contract is the trait's and whose blocks have comments of their own.
fn is_method(lines: &[&str], at: usize) -> bool {
    lines[at].starts_with("    unsafe fn ")
        && lines[..at]
            .iter()
            .rev()
            .find(|line| !line.starts_with([' ', '}']) && !line.is_empty())
            .is_some_and(|line| line.starts_with("unsafe impl "))
}

/// Whether a SAFETY comment stands above line `at` (from 0) in the same statement, or, for an `unsafe fn`, a section
/// `# Safety` in its documentation: nothing but comments, attributes and the statement's earlier lines between.
fn says_why(lines: &[&str], at: usize) -> bool {
    for line in lines[..at].iter().rev() {
        let line = line.trim();
        if line.contains("SAFETY:") || line.starts_with("/// # Safety") {
            return true;
        }
        let comment = line.starts_with("//") || line.starts_with("#[");
        if !comment && (line.is_empty() || line.ends_with([';', '}'])) {
            return false;
        }
    }
    false
}

#[test]
fn this_test_sees_what_it_must_refuse() {
    let bad = code(
        "use crate::{arm, cgroup::{A, B}};\nfn f() { crate::cli::run(\"crate::no\") } // crate::neither\nlet c = '\"'; crate::sys::x;",
    );
    let names: Vec<String> = named_rooms(&bad).into_iter().map(|(_, name)| name).collect();
    assert_eq!(names, ["arm", "cgroup", "cli", "sys"]);
    assert_eq!(climbs("use super::a;\nuse super::super::b;", 2), [2]);
    assert_eq!(climbs("use super::a;", 1), [1]);
    assert_eq!(climbs("mod tests {\n use super::*;\n}\nuse super::x;", 1), [4]);
    assert!(!says_why(&["fn f() {", "    g();", "    unsafe { h() }"], 2));
    assert!(says_why(&["fn f() {", "    // SAFETY: fine.", "    unsafe { h() }"], 2));
    assert_eq!(map().get("sys"), Some(&0));
    assert_eq!(map().get("arm"), map().get("store"));
}
