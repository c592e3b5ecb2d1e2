//! What a container is: written when it is created, changed only by `rename` and `update`.

use super::Settings;
use serde::{Deserialize, Serialize};

/// `container.json`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// 64 hexadecimal digits.
    pub id: String,
    /// Unique.
    pub name: String,
    /// RFC 3339.
    pub created: String,
    /// The image as it was named.
    pub image: String,
    /// The digest of the image's configuration.
    pub image_id: String,
    /// The names of the directories of the image's layers below `layers`, topmost first.
    pub layers: Vec<String>,
    /// The program's whole argument vector: entry point and command.
    pub args: Vec<String>,
    /// How many of `args` are the entry point's.
    pub entrypoint: usize,
    /// `--userns auto`: the first of the host's ids that are this container's alone, [`crate::mydocker::userns::COUNT`] of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_id: Option<u32>,
    /// Everything else that was asked for.
    pub settings: Settings,
}

impl Record {
    /// The first 12 digits, as people know it.
    pub fn short(&self) -> &str {
        &self.id[..12.min(self.id.len())]
    }
}
