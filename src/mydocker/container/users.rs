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
    /// Supplementary groups, the primary one among them.
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

/// What is written as a number is one, and is never looked up as a name: an image may have an account of root's that is
/// called `1000`. One that is no id is refused.
fn as_number(text: &str) -> Result<Option<u32>> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Ok(None);
    }
    number(text).map(Some).ok_or_else(|| Error::new(format!("{text} is not the number of a user or group: those are 0 to 4294967294")))
}

/// docker's rules: a name must be in the files, a number need not; the groups of a user that is in passwd are those that
/// group lists for it, unless a group is given. An empty text is root.
pub fn resolve(text: &str, extra: &[String], layers: &Layers) -> Result<User> {
    let (name, group) = text.split_once(':').map_or((text, None), |(name, group)| (name, Some(group)));
    let (passwd, groups) = (layers.text("etc/passwd"), layers.text("etc/group"));
    let wanted = as_number(name)?;
    let known = rows(&passwd).find(|row| match wanted {
        Some(_) => number(row[2]) == wanted,
        None if name.is_empty() => row[2] == "0",
        None => row[0] == name,
    });
    let mut user = User { home: "/".into(), ..User::default() };
    match (&known, wanted) {
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
        let named = || rows(&groups).find(|row| row[0] == wanted).and_then(|row| number(row[2]));
        let missing = || Error::new(format!("unable to find group {wanted}: no matching entries in group file"));
        as_number(wanted)?.or_else(named).ok_or_else(missing)
    };
    if let Some(group) = group.filter(|group| !group.is_empty()) {
        user.gid = group_id(group)?;
        user.groups.clear();
    }
    for group in extra {
        user.groups.push(group_id(group)?);
    }
    // The primary group too: a program that is set-group-id, or that changes its group, would otherwise
    // leave it and be "others" to a file that denies this group (CVE-2022-36109).
    user.groups.push(user.gid);
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
            "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1001:app:/home/app:/bin/sh\nbad:x:4294967296:0::/:\n\
             4242:x:0:0::/root:/bin/sh\n4294967296:x:0:0::/root:/bin/sh\n-1:x:0:0::/root:/bin/sh\n",
        )
        .unwrap();
        std::fs::write(dir.join("etc/group"), "root:x:0:\nwheel:x:10:app,root\nstaff:x:50:app\n77:x:0:\n4294967296:x:0:\n").unwrap();
        (Layers::new(vec![dir.clone()]), dir)
    }

    #[test]
    fn names_numbers_and_groups_are_those_of_the_container() {
        let (layers, dir) = layers();
        let of = |text: &str| resolve(text, &[], &layers).map(|user| (user.uid, user.gid, user.groups, user.home));
        assert_eq!(of("").unwrap(), (0, 0, vec![0, 10], "/root".into()));
        assert_eq!(of("app").unwrap(), (1000, 1001, vec![10, 50, 1001], "/home/app".into()));
        assert_eq!(of("1000").unwrap(), (1000, 1001, vec![10, 50, 1001], "/home/app".into()));
        assert_eq!(of("app:staff").unwrap(), (1000, 50, vec![50], "/home/app".into()));
        assert_eq!(of("7").unwrap(), (7, 0, vec![0], "/".into()));
        assert_eq!(of("7:9").unwrap(), (7, 9, vec![9], "/".into()));
        // Numbers are never names, whatever the image calls its accounts.
        assert_eq!(of("4242").unwrap(), (4242, 0, vec![0], "/".into()));
        assert_eq!(of("app:77").unwrap().1, 77);
        for wrong in ["nobody", "bad", "4294967296", "4294967295", "-1", "+5", "app:nogroup", "app:4294967296", "7:-1"] {
            assert!(of(wrong).is_err(), "{wrong}");
        }
        assert_eq!(resolve("app", &["7".into(), "staff".into()], &layers).unwrap().groups, [7, 10, 50, 1001]);
        std::fs::remove_dir_all(dir).unwrap();
    }
}
