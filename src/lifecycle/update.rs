//! `update`: other limits for a container that exists.

use super::kill::not_running;
use super::status::{Present, Status, look};
use super::{Runtime, cgroup_of, resctrl_of};
use crate::cgroup::Resctrl;
use crate::plan::{self, limits};
use crate::spec::{self, IntelRdt, Resources};
use crate::store::ContainerId;
use crate::sys::{Error, Log, Result};

/// `keel update`: what `resources` sets is changed, all of it or nothing, and remembered in the kept configuration;
/// everything else stays as it is. Of `rdt` only the two schemata count; empty ones change nothing.
pub fn update(runtime: &Runtime, id: &ContainerId, resources: &Resources, rdt: &IntelRdt, log: &Log) -> Result<()> {
    let mut warnings = spec::validate_resources(resources)?;
    let present = look(runtime, id, true)?;
    if matches!(present.status, Status::Creating | Status::Stopped) {
        return Err(not_running(id));
    }
    let groups = groups(&present, rdt)?;
    let cgroup = cgroup_of(&present.record)?.ok_or_else(|| not_running(id))?;
    let mut spec = super::kept_spec(&present.container)?;
    let mut decided = plan::update(&spec.linux.resources, resources, cgroup.version())?;
    let mut limits = limits::writes(&decided.write, cgroup.version())?;
    warnings.append(&mut decided.warnings);
    warnings.append(&mut limits.warnings);

    let mut change = cgroup.set(&limits, None, present.record.owner != 0)?;
    warnings.append(&mut change.warnings);
    let former = match groups.as_ref().map(|groups| groups.set(rdt)).transpose() {
        Ok(former) => former.unwrap_or_default(),
        Err(error) => return Err(change.undo(error)),
    };
    spec.linux.resources = decided.keep;
    if let Some(kept) = &mut spec.linux.intel_rdt {
        for (schema, new) in [(&mut kept.l3_cache_schema, &rdt.l3_cache_schema), (&mut kept.mem_bw_schema, &rdt.mem_bw_schema)] {
            if !new.is_empty() {
                schema.clone_from(new);
            }
        }
    }
    let text = serde_json::to_vec(&spec).map_err(|e| Error::new(format!("write the configuration: {e}")));
    if let Err(error) = text.and_then(|text| present.container.replace_config(&text)) {
        let _ = groups.map(|groups| groups.put_back(&former));
        return Err(change.undo(error));
    }
    warnings.iter().for_each(|warning| log.warning(warning));
    Ok(())
}

/// The groups that other schemata are for; none if there are no other schemata.
fn groups(present: &Present, rdt: &IntelRdt) -> Result<Option<Resctrl>> {
    // runc's words.
    let what = match (rdt.l3_cache_schema.is_empty(), rdt.mem_bw_schema.is_empty()) {
        (true, true) => return Ok(None),
        (false, _) => "Intel RDT/CAT: l3 cache schema is not enabled",
        (true, false) => "Intel RDT/MBA: memory bandwidth schema is not enabled",
    };
    let groups = resctrl_of(&present.record)?;
    groups.map(Some).ok_or_else(|| Error::new(what).hint("the container was created without linux.intelRdt"))
}
