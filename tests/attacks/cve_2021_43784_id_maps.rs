//! CVE-2021-43784: so many id maps that a length overflowed and the rest of a message was read as other settings.

use super::{Guard, common::Bundle, control};
use serde_json::{Value, json};

fn mappings(count: u32) -> Value {
    (0..count).map(|i| json!({ "containerID": i, "hostID": 100_000 + i, "size": 1 })).collect()
}

#[test]
fn seventy_thousand_mappings_are_refused_in_one_sentence() {
    for field in ["uidMappings", "gidMappings"] {
        let bundle = Bundle::new(&["true"]).with(|config| {
            config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({ "type": "user" }));
            config["linux"]["uidMappings"] = mappings(1);
            config["linux"]["gidMappings"] = mappings(1);
            config["linux"][field] = mappings(70_000);
        });
        let guard = Guard::new(&bundle);
        let said = bundle.run().fails(1, &["70000 mappings", "340", &format!("linux.{field}")]);
        assert!(said.lines().count() == 1 && said.len() < 500, "{said}");
        guard.unchanged_and_empty(&bundle);
        if field == "uidMappings" {
            control(&bundle, &guard, |said| said.code == 0);
        }
    }
}
