//! docs/fields.md says what keel does with each key of the specification, and cannot lie: it has every key of the types in
//! `src/spec/model.rs` exactly once and no other, and the tests it names exist and are about these keys.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

fn source(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// The objects of model.rs: their fields as config.json spells them, with their Rust types.
fn objects() -> BTreeMap<String, Vec<(String, String)>> {
    let text = read(&source("src/spec/model.rs"));
    let code: String = text.lines().filter(|line| !line.trim_start().starts_with("//")).map(|line| format!("{line}\n")).collect();
    let blocks = code.split("object! {").skip(1);
    blocks
        .map(|block| {
            let (name, rest) = block.split_once('{').unwrap();
            (name.trim().to_owned(), fields(&rest[..rest.find('}').unwrap()]))
        })
        .collect()
}

/// `#[serde(rename = "type")] kind: String, source: Option<Vec<X>>,`
fn fields(body: &str) -> Vec<(String, String)> {
    let (mut found, mut depth, mut start) = (Vec::new(), 0, 0);
    for (i, c) in body.char_indices() {
        match c {
            '<' | '(' | '[' => depth += 1,
            '>' | ')' | ']' => depth -= 1,
            ',' if depth == 0 => {
                let field = &body[start..i];
                start = i + 1;
                let renamed = field.split_once("rename = \"").map(|(_, rest)| rest.split('"').next().unwrap().to_owned());
                let (name, kind) = field.rsplit(']').next().unwrap().split_once(':').unwrap();
                found.push((renamed.unwrap_or_else(|| camel(name.trim())), kind.trim().to_owned()));
            }
            _ => {}
        }
    }
    found
}

fn camel(name: &str) -> String {
    let mut words = name.split('_');
    let first = words.next().unwrap().to_owned();
    words.fold(first, |all, word| all + &word[..1].to_uppercase() + &word[1..])
}

/// The paths of all leaves below an object.
fn leaves(name: &str, at: &str, objects: &BTreeMap<String, Vec<(String, String)>>, all: &mut Vec<String>) {
    for (key, kind) in &objects[name] {
        let inner = kind.rsplit(['<', ',', ' ']).next().unwrap().trim_end_matches('>');
        let many = if kind.starts_with("Vec<") {
            "[]"
        } else if kind.starts_with("BTreeMap<") {
            ".*"
        } else {
            ""
        };
        let path = if at.is_empty() { key.clone() } else { format!("{at}.{key}") };
        if objects.contains_key(inner) {
            leaves(inner, &format!("{path}{many}"), objects, all);
        } else {
            all.push(path);
        }
    }
}

/// What stands in backquotes.
fn quoted(cell: &str) -> Vec<&str> {
    cell.split('`').skip(1).step_by(2).collect()
}

/// `a.{b,c}.d` is `a.b.d` and `a.c.d`.
fn expanded(path: &str) -> Vec<String> {
    let Some((before, rest)) = path.split_once('{') else { return vec![path.to_owned()] };
    let (list, after) = rest.split_once('}').unwrap();
    list.split(',').flat_map(|word| expanded(&format!("{before}{word}{after}"))).collect()
}

/// Keys, state and tests of each row of the table.
fn rows() -> Vec<(Vec<String>, String, Vec<String>)> {
    let text = read(&source("docs/fields.md"));
    let lines = text.lines().filter(|line| line.starts_with("| `"));
    lines
        .map(|line| {
            let cells: Vec<&str> = line.trim_matches('|').split(" | ").collect();
            assert_eq!(cells.len(), 3, "{line}");
            let keys = quoted(cells[0]).into_iter().flat_map(expanded).collect();
            (keys, cells[1].trim().to_owned(), quoted(cells[2]).into_iter().map(str::to_owned).collect())
        })
        .collect()
}

/// The file with the test `binary::function`; `lib` is the library's own.
fn file_of(test: &str) -> Option<PathBuf> {
    let (binary, function) = test.split_once("::")?;
    let mut candidates = vec![source(&format!("tests/{binary}.rs"))];
    let mut directories = vec![if binary == "lib" { source("src") } else { source("tests").join(binary) }];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            if entry.path().is_dir() { directories.push(entry.path()) } else { candidates.push(entry.path()) }
        }
    }
    let head = format!("fn {function}() {{");
    candidates.into_iter().filter(|path| path.is_file()).find(|path| {
        let text = read(path);
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        let at = lines.iter().position(|line| line.trim_start_matches("pub ") == head);
        at.is_some_and(|at| lines[..at].iter().rev().take_while(|line| line.starts_with("#[")).any(|line| *line == "#[test]"))
    })
}

#[test]
fn the_table_has_every_key_of_the_specification_once() {
    let mut keys = Vec::new();
    leaves("Spec", "", &objects(), &mut keys);
    assert!(keys.len() > 170 && keys.contains(&"linux.netDevices.*.name".to_owned()), "model.rs is no longer read: {keys:?}");
    let mut listed: Vec<String> = rows().into_iter().flat_map(|(keys, ..)| keys).collect();
    keys.sort();
    listed.sort();
    let missing: Vec<&String> = keys.iter().filter(|key| !listed.contains(key)).collect();
    assert!(missing.is_empty(), "docs/fields.md lacks {missing:?}");
    let strange: Vec<&String> = listed.iter().filter(|key| !keys.contains(key)).collect();
    assert!(strange.is_empty(), "docs/fields.md has what the specification has not: {strange:?}");
    listed.dedup();
    assert_eq!(listed.len(), keys.len(), "docs/fields.md has a key twice");
}

/// The file of a test has the key's last word, or it could not be about it.
#[test]
fn the_tests_it_names_exist_and_are_about_their_keys() {
    let mut wrong = Vec::new();
    for (keys, state, tests) in rows() {
        let known = ["done", "refused", "told"].iter().any(|word| state.starts_with(word));
        if !known || tests.is_empty() {
            wrong.push(format!("{keys:?} has the state {state:?} and the tests {tests:?}"));
        }
        let files: Vec<Option<PathBuf>> = tests.iter().map(|test| file_of(test)).collect();
        wrong.extend(tests.iter().zip(&files).filter(|(_, file)| file.is_none()).map(|(test, _)| format!("there is no test {test}")));
        let texts: Vec<String> = files.iter().flatten().map(|path| read(path)).collect();
        for key in &keys {
            let last = key.rsplit('.').next().unwrap();
            if !texts.iter().any(|text| text.contains(last) || text.contains(&snake(last))) {
                wrong.push(format!("none of {tests:?} has {last}, of {key}"));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// As Rust spells it, for the tests of the library's own types.
fn snake(key: &str) -> String {
    key.chars().fold(
        String::new(),
        |all, c| if c.is_ascii_uppercase() { format!("{all}_{}", c.to_ascii_lowercase()) } else { all + &c.to_string() },
    )
}

#[test]
fn this_test_sees_what_it_must_refuse() {
    assert_eq!(expanded("a.{b,c}[].{d,e}"), ["a.b[].d", "a.b[].e", "a.c[].d", "a.c[].e"]);
    assert_eq!(
        fields(" a_b: Vec<X>, #[serde(rename = \"type\")] kind: BTreeMap<String, Y>, "),
        [("aB".to_owned(), "Vec<X>".to_owned()), ("type".to_owned(), "BTreeMap<String, Y>".to_owned())]
    );
    assert!(file_of("fields::this_test_sees_what_it_must_refuse").is_some());
    assert!(file_of("fields::expanded").is_none() && file_of("fields::no_such_test").is_none() && file_of("no_such::test").is_none());
}
