//! Which of the images in an index is for this machine.

use super::import::architecture;
use oci_spec::image::Descriptor;

/// The descriptors that fit this machine, the best first; one without a platform fits if nothing better is there.
pub(super) fn order(all: &[Descriptor]) -> Vec<&Descriptor> {
    let mut fitting: Vec<(u32, &Descriptor)> = all.iter().filter_map(|one| Some((rank(one)?, one))).collect();
    fitting.sort_by_key(|(rank, _)| *rank); // stable: among equals the first, as the specification says
    fitting.into_iter().map(|(_, one)| one).collect()
}

/// The platforms that an index has, for a sentence.
pub(super) fn list(all: &[Descriptor]) -> String {
    let mut names: Vec<String> = all
        .iter()
        .filter_map(|one| one.platform().as_ref())
        .map(|platform| format!("{}/{}", platform.os(), platform.architecture()))
        .collect();
    names.dedup();
    names.truncate(20);
    if names.is_empty() { "nobody".to_owned() } else { names.join(", ") }
}

fn rank(one: &Descriptor) -> Option<u32> {
    let Some(platform) = one.platform() else { return Some(9) };
    if platform.os().to_string() != "linux" || platform.architecture().to_string() != architecture() {
        return None;
    }
    match (architecture(), platform.variant().as_deref()) {
        (_, None) => Some(0),
        ("arm64", Some("v8")) => Some(1),
        // amd64's levels: every machine can do the first.
        ("amd64", Some("v1")) => Some(1),
        ("amd64", Some(_)) => None,
        _ => Some(2),
    }
}
