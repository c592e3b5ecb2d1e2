//! How a test says that it cannot show anything on this machine.

use std::io::Write;

/// Tells that the test that calls it is left out here, and why, in the line that `hack/test`
/// collects and lists at its end. The line goes to the real standard error, since the test harness
/// swallows what a test that passes prints with `println!`.
pub fn skipped(why: &str) {
    let program = std::env::current_exe().ok().and_then(|path| Some(path.file_stem()?.to_str()?.to_owned())).unwrap_or_default();
    let program = program.rsplit_once('-').map_or(program.as_str(), |(name, _hash)| name);
    // The harness names the thread of a test after it.
    let test = std::thread::current().name().map_or_else(String::new, |name| format!("::{name}"));
    let _ = std::io::stderr().write_all(format!("SKIPPED {program}{test}: {why}\n").as_bytes());
}
