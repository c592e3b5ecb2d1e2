//! What a process in the cgroup may do with device nodes.

use crate::place::{Place, in_v2_view, resources};
use keel::cgroup::{Devices, Layout, Version};
use keel::plan::limits::Limits;
use serde_json::{Value, json};

/// What a shell in the cgroup may do with device nodes: `open` gives EPERM where the rules deny, whatever else where
/// they do not. (Opening a device that does not exist is ENXIO.)
pub fn device_verdicts(name: &str) {
    let deny_all = json!({"allow": false, "access": "rwm"});
    let rule = |allow: bool, kind: &str, major: i64, minor: i64, access: &str| json!({"allow": allow, "type": kind, "major": major, "minor": minor, "access": access});
    type Verdicts = Vec<(&'static str, bool)>;
    let table: Vec<(Vec<Value>, Verdicts)> = vec![
        // Nothing said: the defaults of every container.
        (
            vec![],
            vec![
                ("r c 1:3", true),
                ("w c 1:3", true),
                ("rw c 1:5", true),
                ("rw c 1:9", true),
                ("rw c 136:99", true),
                ("m c 240:7", true),
                ("m b 241:7", true),
                ("r c 1:11", false),
                ("r c 240:7", false),
                ("r b 7:0", false),
                ("rw c 10:200", true),
                ("r c 10:229", false),
                ("r c 5:1", false),
            ],
        ),
        // Each kind of access by itself.
        (
            vec![deny_all.clone(), rule(true, "c", 240, 7, "r"), rule(true, "b", 241, 7, "w")],
            vec![
                ("r c 240:7", true),
                ("w c 240:7", false),
                ("rw c 240:7", false),
                ("r c 240:8", false),
                ("r b 240:7", false),
                ("w b 241:7", true),
                ("r b 241:7", false),
                ("rw b 241:7", false),
            ],
        ),
        // Two rules that together allow a request, and one that takes half of it back.
        (
            vec![rule(true, "c", 240, 7, "r"), rule(true, "c", 240, 7, "w"), rule(true, "c", 240, 8, "rw"), rule(false, "c", 240, 8, "w")],
            vec![("rw c 240:7", true), ("r c 240:8", true), ("w c 240:8", false), ("rw c 240:8", false)],
        ),
        // One device by itself and among its kin, in either order.
        (
            vec![rule(true, "c", 240, -1, "r"), rule(true, "c", 240, 7, "w"), rule(true, "c", 241, 7, "w"), rule(true, "c", 241, -1, "r")],
            vec![("rw c 240:7", true), ("w c 240:8", false), ("rw c 241:7", true), ("rw c 241:8", false)],
        ),
        // Wildcards.
        (
            vec![rule(true, "c", 240, -1, "rwm"), rule(true, "b", -1, 3, "r")],
            vec![
                ("rw c 240:0", true),
                ("rw c 240:200", true),
                ("r c 241:0", false),
                ("r b 241:3", true),
                ("r b 9:3", true),
                ("r b 9:4", false),
            ],
        ),
        // All allowed (a privileged container), all but some.
        (vec![json!({"allow": true, "access": "rwm"})], vec![("rw c 240:7", true), ("rw b 241:7", true), ("m b 241:7", true)]),
        (
            vec![
                deny_all.clone(),
                json!({"allow": true, "type": "a", "access": "rwm"}),
                rule(false, "c", 240, 7, "rwm"),
                rule(false, "b", 241, -1, "w"),
            ],
            vec![
                ("r c 240:7", false),
                ("m c 240:7", true),
                ("r c 240:8", true),
                ("w b 241:1", false),
                ("r b 241:1", true),
                ("w b 242:1", true),
            ],
        ),
        // The last word counts: everything before a rule for all is void.
        (vec![rule(true, "c", 240, 7, "rwm"), deny_all], vec![("r c 240:7", false), ("r c 1:3", true)]),
        (vec![rule(true, "c", 240, 7, "rwm"), rule(false, "c", 240, 7, "rwm")], vec![("r c 240:7", false)]),
        (vec![rule(false, "c", 240, 7, "rwm"), rule(true, "c", 240, 7, "rwm")], vec![("rw c 240:7", true)]),
    ];
    let mut place = Place::new(name);
    place.create();
    for (rules, verdicts) in table {
        let devices = Devices::new(&resources(json!({"devices": &rules})).devices).expect("rules");
        place.cgroup.set(&Limits::default(), Some(&devices), false).expect("set the rules");
        for (request, expected) in verdicts {
            assert_eq!(place.may(request), expected, "{request} under {}", Value::from(rules.clone()));
        }
    }
}

#[test]
fn device_rules_deny_and_allow() {
    device_verdicts("devices");
}

#[test]
fn v2_can_cut_a_hole_that_v1_cannot() {
    let hole = json!([{"allow": true, "type": "c", "major": 240, "access": "rw"}, {"allow": false, "type": "c", "major": 240, "minor": 7, "access": "w"}]);
    let devices = Devices::new(&resources(json!({"devices": hole})).devices).expect("rules");
    if Layout::detect().expect("layout").version == Version::V1 {
        let mut place = Place::new("hole");
        let error = place.cgroup.create(&Limits::default(), Some(&devices), false).expect_err("refused").to_string();
        assert!(error.contains("cannot deny c 240:7 w as an exception from c 240:* rw"), "{error}");
        assert_eq!(place.leftovers(), [""; 0]);
    }
    if !in_v2_view("devices::v2_can_cut_a_hole_that_v1_cannot") {
        return;
    }
    let mut place = Place::new("v2hole");
    place.cgroup.create(&Limits::default(), Some(&devices), false).expect("create");
    for (request, expected) in [("rw c 240:8", true), ("r c 240:7", true), ("w c 240:7", false), ("rw c 240:7", false)] {
        assert_eq!(place.may(request), expected, "{request}");
    }
    // An update replaces the program: were the old one still there, both would have to allow.
    let other = json!({"devices": [{"allow": true, "type": "c", "major": 240, "minor": 7, "access": "w"}]});
    let other = Devices::new(&resources(other).devices).expect("rules");
    place.cgroup.set(&Limits::default(), Some(&other), false).expect("update");
    assert!(place.may("w c 240:7") && !place.may("r c 240:7") && !place.may("r c 240:8"));
}

#[test]
fn bad_device_rules_are_refused_with_their_place() {
    let table = [
        (json!({"allow": true, "access": ""}), "device access is empty"),
        (json!({"allow": true, "access": "rx"}), "is not made of r, w and m"),
        (json!({"allow": true, "type": "p", "access": "r"}), "is not a, b or c"),
        (json!({"allow": true, "type": "c", "major": -2, "access": "r"}), "no device number"),
        (json!({"allow": true, "type": "c", "minor": 4294967296i64, "access": "r"}), "no device number"),
    ];
    for (rule, words) in table {
        let rules = resources(json!({"devices": [{"allow": false, "access": "rwm"}, &rule]})).devices;
        let error = Devices::new(&rules).expect_err(&rule.to_string()).to_string();
        assert!(error.contains(words) && error.contains("linux.resources.devices[1]"), "{error}");
    }
}
