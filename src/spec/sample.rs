//! The document that `keel spec` writes: runc's in its newest form (tabs, the same order, no newline at the end), so
//! that scripts which edit it with sed or jq work. Only the host's name differs.

const ROOTFUL: &str = include_str!("sample.json");
const ROOTLESS: &str = include_str!("sample_rootless.json");

/// A `config.json` to begin with: a shell on a terminal. `rootless` has the caller's ids, which root in the container
/// is mapped to; with `unified`, for hosts whose cgroups are v2 only, it gets a cgroup namespace too, as runc gives it.
pub fn sample(rootless: Option<(u32, u32)>, unified: bool) -> String {
    let mut text = match rootless {
        None => ROOTFUL.to_owned(),
        Some((uid, gid)) => {
            // The first of the two mappings is that of users.
            let host = |id: u32| format!("\"hostID\": {id},");
            let (users, groups) = ROOTLESS.split_once("\"gidMappings\"").unwrap_or((ROOTLESS, ""));
            let (users, groups) = (users.replace(&host(0), &host(uid)), groups.replace(&host(0), &host(gid)));
            format!("{users}\"gidMappings\"{groups}")
        }
    };
    if unified {
        let entry = |kind: &str| format!("\t\t\t{{\n\t\t\t\t\"type\": \"{kind}\"\n\t\t\t}}");
        text = text.replacen(&entry("mount"), &format!("{},\n{}", entry("mount"), entry("cgroup")), 1);
    }
    text
}
