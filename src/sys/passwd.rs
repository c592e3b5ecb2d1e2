//! passwd(5), as far as a container's process reads it.

/// The home directory in one line, `name:password:UID:GID:GECOS:directory:shell`, if that is of this user. It needs no
/// memory, so that the container's process may call it.
pub fn home(line: &[u8], uid: u32) -> Option<&[u8]> {
    let mut fields = line.split(|&b| b == b':');
    let id = fields.nth(2).and_then(|field| std::str::from_utf8(field).ok()).and_then(|text| text.parse::<u32>().ok());
    fields.nth(2).filter(|directory| id == Some(uid) && !directory.is_empty())
}
