//! What killed commands have left.

use super::Containers;
use crate::mydocker::files::{Lock, tree};
use crate::sys::{Context, Result};
use std::fs;
use std::path::{Path, PathBuf};

impl Containers {
    /// What killed commands have left: directories of containers half made or half removed, sockets of containers that are
    /// gone, names without a container, files half written. With `remove` they are taken away. Nothing is taken for
    /// left that somebody makes at this moment.
    pub fn leftovers(&self, remove: bool) -> Result<Vec<PathBuf>> {
        let lock = self.lock()?;
        let entries =
            |dir: &Path| -> Vec<PathBuf> { fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()).collect() };
        let hidden = |path: &PathBuf| path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        // What is being removed is locked by whoever removes it.
        let left_behind = |path: &PathBuf| hidden(path) && Lock::try_dir(path).is_some();
        let mut left: Vec<PathBuf> = entries(&self.dirs().containers()).into_iter().filter(left_behind).collect();
        let named = |id: String, path: &Path| {
            self.container(&id).record().is_ok_and(|record| path.file_name().is_some_and(|name| *name == *record.name))
        };
        let dangling = |path: &PathBuf| !fs::read_to_string(path).is_ok_and(|id| named(id, path));
        left.extend(entries(&self.names()).into_iter().filter(|path| hidden(path) || dangling(path)));
        left.extend(self.list()?.iter().filter(|container| !container.is_whole()).map(|container| container.dir().to_owned()));
        let known = |path: &PathBuf| path.file_name().and_then(|name| name.to_str()).is_some_and(|id| self.container(id).exists());
        left.extend(entries(&self.dirs().run.join("containers")).into_iter().filter(|path| !known(path)));
        for path in left.iter().filter(|path| remove && path.symlink_metadata().is_ok()) {
            tree::remove_path(path).context(|| format!("remove {}", path.display()))?;
        }
        // A removal has the container's lock when it asks for this one.
        drop(lock);
        for container in self.list()? {
            let Ok(_own) = container.lock() else { continue };
            // Only writes in progress begin with a dot. A monitor writes the configuration without the lock.
            if container.state().is_ok_and(|state| container.monitored(&state)) {
                continue;
            }
            let half = entries(container.dir()).into_iter().filter(|path| hidden(path) && path.is_file());
            let half: Vec<PathBuf> = half.collect();
            if remove {
                half.iter().try_for_each(|path| fs::remove_file(path).context(|| format!("remove {}", path.display())))?;
            }
            left.extend(half);
        }
        left.sort();
        Ok(left)
    }
}
