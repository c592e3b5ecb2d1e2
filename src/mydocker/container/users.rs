//! `-u name|uid[:group|gid]`, looked up in the container's own passwd and group.

use super::Layers;
use crate::sys::{Error, Result};

/// Who a program runs as.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct User {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
    /// From passwd; `/` if it has none.
    pub home: String,
}

/// The fields of the lines of passwd or group.
fn rows(text: &str) -> impl Iterator<Item = Vec<&str>> {
    text.lines().map(|line| line.split(':').collect::<Vec<_>>()).filter(|fields| fields.len() >= 4)
}

/// Strictly a number: what overflows or has a sign is no id (CVE-2024-40635).
fn number(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if digits { text.parse().ok().filter(|id| *id != u32::MAX) } else { None }
}

/// docker's rules: a name must be in the files, a number need not; the groups of a user that is in passwd are those that
/// group lists for it, unless a group is given. An empty text is root.
pub fn resolve(text: &str, extra: &[String], layers: &Layers) -> Result<User> {
    let (name, group) = text.split_once(':').map_or((text, None), |(name, group)| (name, Some(group)));
    let (passwd, groups) = (layers.text("etc/passwd"), layers.text("etc/group"));
    let known = rows(&passwd).find(|row| {
        if name.is_empty() { row[2] == "0" } else { row[0] == name || number(name) == number(row[2]) && number(name).is_some() }
    });
    let mut user = User { home: "/".into(), ..User::default() };
    match (&known, number(name)) {
        (Some(row), _) => {
            let bad = || Error::new(format!("the container's /etc/passwd has no valid ids for user {:?}", row[0]));
            (user.uid, user.gid) = (number(row[2]).ok_or_else(bad)?, number(row[3]).ok_or_else(bad)?);
            if let Some(home) = row.get(5).filter(|home| home.starts_with('/')) {
                user.home = (*home).to_owned();
            }
            user.groups = rows(&groups).filter(|g| g[3].split(',').any(|member| member == row[0])).filter_map(|g| number(g[2])).collect();
        }
        (None, Some(uid)) => user.uid = uid,
        (None, None) if name.is_empty() => {}
        (None, None) => return Err(Error::new(format!("unable to find user {name}: no matching entries in passwd file"))),
    }
    let group_id = |wanted: &str| {
        let found = rows(&groups).find(|row| row[0] == wanted).and_then(|row| number(row[2]));
        let missing = || Error::new(format!("unable to find group {wanted}: no matching entries in group file"));
        found.or_else(|| number(wanted)).ok_or_else(missing)
    };
    if let Some(group) = group.filter(|group| !group.is_empty()) {
        user.gid = group_id(group)?;
        user.groups.clear();
    }
    for group in extra {
        user.groups.push(group_id(group)?);
    }
    user.groups.retain(|gid| *gid != user.gid);
    user.groups.sort_unstable();
    user.groups.dedup();
    Ok(user)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layers() -> (Layers, std::path::PathBuf) {
        let dir = std::env::temp_dir().join(format!("mydocker-users-{}", std::process::id()));
        std::fs::create_dir_all(dir.join("etc")).unwrap();
        std::fs::write(
            dir.join("etc/passwd"),
            "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1001:app:/home/app:/bin/sh\nbad:x:4294967296:0::/:\n",
        )
        .unwrap();
        std::fs::write(dir.join("etc/group"), "root:x:0:\nwheel:x:10:app,root\nstaff:x:50:app\n").unwrap();
        (Layers::new(vec![dir.clone()]), dir)
    }

    #[test]
    fn names_numbers_and_groups_are_those_of_the_container() {
        let (layers, dir) = layers();
        let of = |text: &str| resolve(text, &[], &layers).map(|user| (user.uid, user.gid, user.groups, user.home));
        assert_eq!(of("").unwrap(), (0, 0, vec![10], "/root".into()));
        assert_eq!(of("app").unwrap(), (1000, 1001, vec![10, 50], "/home/app".into()));
        assert_eq!(of("1000").unwrap(), (1000, 1001, vec![10, 50], "/home/app".into()));
        assert_eq!(of("app:staff").unwrap(), (1000, 50, vec![], "/home/app".into()));
        assert_eq!(of("7").unwrap(), (7, 0, vec![], "/".into()));
        assert_eq!(of("7:9").unwrap(), (7, 9, vec![], "/".into()));
        for wrong in ["nobody", "bad", "4294967296", "4294967295", "-1", "+5", "app:nogroup"] {
            assert!(of(wrong).is_err(), "{wrong}");
        }
        assert_eq!(resolve("app", &["7".into(), "staff".into()], &layers).unwrap().groups, [7, 10, 50]);
        std::fs::remove_dir_all(dir).unwrap();
    }
}
