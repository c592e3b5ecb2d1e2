//! Go's encoders write `null` for an empty list, map or pointer, and runc reads it as the zero value; so do we.

use serde::{Deserialize, Deserializer};

pub(super) fn as_default<'de, T: Default + Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}
