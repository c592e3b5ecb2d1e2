//! `update`: other limits for a container that exists.

use super::kill::not_running;
use super::status::{Status, look};
use super::{Runtime, cgroup_of};
use crate::plan::{self, limits};
use crate::spec::{self, Resources};
use crate::store::ContainerId;
use crate::sys::{Error, Log, Result};

/// `keel update`: what `resources` sets is changed, all of it or nothing, and remembered in the kept configuration;
/// everything else stays as it is.
pub fn update(runtime: &Runtime, id: &ContainerId, resources: &Resources, log: &Log) -> Result<()> {
    let mut warnings = spec::validate_resources(resources)?;
    let present = look(runtime, id, true)?;
    if matches!(present.status, Status::Creating | Status::Stopped) {
        return Err(not_running(id));
    }
    let cgroup = cgroup_of(&present.record)?.ok_or_else(|| not_running(id))?;
    let mut spec = spec::parse(&present.container.config()?)?.spec;
    let mut decided = plan::update(&spec.linux.resources, resources, cgroup.version())?;
    let mut limits = limits::writes(&decided.write, cgroup.version())?;
    warnings.append(&mut decided.warnings);
    warnings.append(&mut limits.warnings);
    let mut change = cgroup.set(&limits, None, present.record.owner != 0)?;
    warnings.append(&mut change.warnings);
    spec.linux.resources = decided.keep;
    let text = serde_json::to_vec(&spec).map_err(|e| Error::new(format!("write the configuration: {e}")));
    if let Err(error) = text.and_then(|text| present.container.replace_config(&text)) {
        return Err(change.undo(error));
    }
    warnings.iter().for_each(|warning| log.warning(warning));
    Ok(())
}
