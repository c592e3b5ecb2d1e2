//! The crates behind keel: their licences, where they come from, and what must not be among them. The lists are those of
//! `deny.toml`, which says the same to cargo-deny; this needs only cargo and works offline.

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::Command;

/// What cargo resolved for this platform.
struct Tree {
    metadata: Value,
}

impl Tree {
    /// keel with mydocker, which is what is released.
    fn load() -> Self {
        Self::with(&[])
    }

    fn with(options: &[&str]) -> Self {
        let platform = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
        let output = Command::new(env!("CARGO"))
            .args(["metadata", "--format-version", "1", "--offline", "--locked", "--filter-platform", &platform])
            .args(options)
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Self { metadata: serde_json::from_slice(&output.stdout).unwrap() }
    }

    fn packages(&self) -> impl Iterator<Item = &Value> {
        self.metadata["packages"].as_array().unwrap().iter()
    }

    fn package(&self, id: &Value) -> &Value {
        self.packages().find(|package| &package["id"] == id).unwrap()
    }

    /// Who in the product depends on a crate.
    fn dependents(&self, wanted: &str) -> BTreeSet<String> {
        let product: BTreeSet<&str> = self.product().into_iter().map(|package| package["id"].as_str().unwrap()).collect();
        let nodes = self.metadata["resolve"]["nodes"].as_array().unwrap().iter();
        let depends = |node: &&Value| node["deps"].as_array().unwrap().iter().any(|dep| name(self.package(&dep["pkg"])) == wanted);
        let nodes = nodes.filter(|node| product.contains(node["id"].as_str().unwrap())).filter(depends);
        nodes.map(|node| name(self.package(&node["id"])).to_owned()).collect()
    }

    /// keel and what it is made of: everything reached without a dev-dependency of keel.
    fn product(&self) -> Vec<&Value> {
        let nodes = self.metadata["resolve"]["nodes"].as_array().unwrap();
        let mut seen = BTreeSet::new();
        let mut open = vec![&self.metadata["resolve"]["root"]];
        while let Some(id) = open.pop() {
            if !seen.insert(id.as_str().unwrap()) {
                continue;
            }
            let node = nodes.iter().find(|node| &node["id"] == id).unwrap();
            let kinds = |dependency: &Value| dependency["dep_kinds"].as_array().unwrap().iter().any(|kind| kind["kind"] != "dev");
            open.extend(
                node["deps"].as_array().unwrap().iter().filter(|dependency| kinds(dependency)).map(|dependency| &dependency["pkg"]),
            );
        }
        self.packages().filter(|package| seen.contains(package["id"].as_str().unwrap())).collect()
    }
}

fn name(package: &Value) -> &str {
    package["name"].as_str().unwrap()
}

/// The strings of the list `key = [ … ]` of deny.toml; with `field`, of that field of the list's tables only.
fn list(key: &str, field: Option<&str>) -> BTreeSet<String> {
    let text = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/deny.toml")).unwrap();
    let start = text.find(&format!("\n{key} = [")).unwrap_or_else(|| panic!("deny.toml has no {key}"));
    let body = &text[start..][text[start..].find('[').unwrap()..];
    let lines = body.lines().take_while(|line| !line.starts_with(']') && *line != "[]").map(|line| line.split('#').next().unwrap());
    let wanted = |line: &str| match field {
        None => line.split('"').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>(),
        Some(field) => {
            line.split_once(&format!("{field} = \"")).map(|(_, rest)| rest.split('"').next().unwrap().to_owned()).into_iter().collect()
        }
    };
    lines.flat_map(wanted).collect()
}

/// Through which crates alone deny.toml lets a denied one come.
fn wrappers(denied: &str) -> BTreeSet<String> {
    let text = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/deny.toml")).unwrap();
    let line = text.lines().find(|line| line.contains(&format!("crate = \"{denied}\""))).unwrap();
    let names = line.split_once("wrappers = [").map_or("", |(_, rest)| rest.split(']').next().unwrap());
    names.split('"').skip(1).step_by(2).map(str::to_owned).collect()
}

/// Whether an SPDX expression can be satisfied with allowed licences: AND binds tighter than OR (SPDX 2.3, annex D), and
/// cargo's old `/` means OR.
fn satisfied(expression: &str, allowed: &BTreeSet<String>) -> bool {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ").replace(" WITH ", "\u{1}WITH\u{1}");
    let words: Vec<String> = spaced.split([' ', '\n']).filter(|word| !word.is_empty()).map(|word| word.replace('\u{1}', " ")).collect();
    let mut at = 0;
    let verdict = any_of(&words, &mut at, allowed);
    assert_eq!(at, words.len(), "{expression:?} is no licence expression");
    verdict
}

fn any_of(words: &[String], at: &mut usize, allowed: &BTreeSet<String>) -> bool {
    let mut verdict = all_of(words, at, allowed);
    while words.get(*at).is_some_and(|word| word == "OR") {
        *at += 1;
        verdict |= all_of(words, at, allowed);
    }
    verdict
}

fn all_of(words: &[String], at: &mut usize, allowed: &BTreeSet<String>) -> bool {
    let mut verdict = one(words, at, allowed);
    while words.get(*at).is_some_and(|word| word == "AND") {
        *at += 1;
        verdict &= one(words, at, allowed);
    }
    verdict
}

fn one(words: &[String], at: &mut usize, allowed: &BTreeSet<String>) -> bool {
    let word = words.get(*at).map_or("", String::as_str);
    *at += 1;
    if word != "(" {
        return allowed.contains(word);
    }
    let verdict = any_of(words, at, allowed);
    assert_eq!(words.get(*at).map(String::as_str), Some(")"));
    *at += 1;
    verdict
}

/// The licence that a package declares; one that has only a file is read.
fn licence(package: &Value) -> String {
    if let Some(expression) = package["license"].as_str() {
        return expression.to_owned();
    }
    let manifest = std::path::Path::new(package["manifest_path"].as_str().unwrap());
    let file = manifest.parent().unwrap().join(package["license_file"].as_str().expect("a licence or a file with it"));
    let text = fs::read_to_string(file).unwrap();
    let mit = "Permission is hereby granted, free of charge, to any person obtaining a copy";
    if text.split_whitespace().collect::<Vec<_>>().join(" ").contains(mit) { "MIT".into() } else { "unknown".into() }
}

#[test]
fn every_licence_is_allowed_and_the_products_without_exception() {
    let tree = Tree::load();
    let (allowed, exceptions) = (list("allow", None), list("exceptions", Some("crate")));
    let product: BTreeSet<&str> = tree.product().into_iter().map(name).collect();
    for package in tree.packages() {
        let (name, licence) = (name(package), licence(package));
        let excepted = exceptions.contains(name) && !product.contains(name);
        assert!(excepted || satisfied(&licence, &allowed), "{name}: {licence}");
    }
    for exception in exceptions {
        assert!(tree.packages().any(|package| name(package) == exception), "{exception} is used no longer: take its exception out");
    }
}

#[test]
fn licence_expressions_are_understood() {
    let allowed: BTreeSet<String> = ["MIT", "Unicode-3.0", "Apache-2.0 WITH LLVM-exception"].map(String::from).into();
    for good in ["MIT", "MIT/GPL-2.0", "GPL-2.0 OR MIT", "(MIT OR GPL-2.0) AND Unicode-3.0", "Apache-2.0 WITH LLVM-exception OR GPL-2.0"] {
        assert!(satisfied(good, &allowed), "{good}");
    }
    for bad in ["GPL-2.0", "MIT AND GPL-2.0", "(MIT OR Unicode-3.0) AND GPL-2.0", "Apache-2.0", "GPL-2.0 OR MIT AND GPL-3.0"] {
        assert!(!satisfied(bad, &allowed), "{bad}");
    }
}

#[test]
fn every_crate_comes_from_the_registry_and_the_lock_file_has_its_checksum() {
    let tree = Tree::load();
    let root = &tree.metadata["resolve"]["root"];
    let lock = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.lock")).unwrap();
    for package in tree.packages().filter(|package| &package["id"] != root) {
        let source = package["source"].as_str().unwrap_or("a path");
        assert!(source.starts_with("registry+"), "{} comes from {source}", name(package));
        let entry = format!("name = \"{}\"\nversion = \"{}\"\n", name(package), package["version"].as_str().unwrap());
        let stands = lock.find(&entry).unwrap_or_else(|| panic!("Cargo.lock lacks {entry}"));
        assert!(lock[stands..].split("\n\n").next().unwrap().contains("checksum = "), "no checksum: {entry}");
    }
}

#[test]
fn the_product_has_one_version_of_each_crate() {
    let tree = Tree::load();
    let mut versions: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for package in tree.product() {
        versions.entry(name(package)).or_default().insert(package["version"].as_str().unwrap());
    }
    let skipped = list("skip", None);
    versions.retain(|name, versions| versions.len() > 1 && !skipped.iter().any(|skip| skip.split('@').next() == Some(name)));
    assert!(versions.is_empty(), "{versions:?}");
}

#[test]
fn nothing_in_the_product_has_to_start_before_a_container_can() {
    let tree = Tree::load();
    let denied = list("deny", Some("crate"));
    assert!(denied.contains("tokio") && denied.contains("regex"), "{denied:?}");
    let product: BTreeSet<&str> = tree.product().into_iter().map(name).collect();
    assert!(product.contains("clap") && product.contains("rustix") && !product.contains("libcontainer"), "{product:?}");
    let runtime = Tree::with(&["--no-default-features"]);
    let runtime: BTreeSet<&str> = runtime.product().into_iter().map(name).collect();
    assert!(runtime.contains("clap") && !runtime.contains("ureq"), "{runtime:?}");
    let found: Vec<&&str> = runtime.iter().filter(|name| denied.contains(**name)).collect();
    assert!(found.is_empty(), "keel itself has {found:?}");
    // What mydocker has comes only by the way that deny.toml names.
    for denied in denied.iter().filter(|name| product.contains(name.as_str())) {
        let by = tree.dependents(denied);
        assert!(by.is_subset(&wrappers(denied)), "{denied} comes by {by:?}");
    }
    // What `cargo tree` calls the normal tree is a part of it: the two ways of asking agree.
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--edges", "normal", "--prefix", "none", "--format", "{p}", "--offline", "--locked"])
        .current_dir(tree.package(&tree.metadata["resolve"]["root"])["manifest_path"].as_str().unwrap().trim_end_matches("/Cargo.toml"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let listed: BTreeSet<&str> = text.lines().filter_map(|line| line.split(' ').next()).collect();
    assert!(listed.len() > 10 && listed.is_subset(&product), "{listed:?} against {product:?}");
}
