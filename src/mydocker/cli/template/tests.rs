//! What docker's users write, and what docker says to it.

use super::*;
use serde_json::json;

fn document() -> Value {
    json!({
        "Id": "c0ffee", "Name": "/web", "RestartCount": 3, "Args": ["-c", "echo hi"], "Running": true, "Mounts": [],
        "State": {"Status": "running", "Pid": 42, "Health": null},
        "Config": {"Labels": {"app": "shop", "com.example.tier": "front"}, "Env": ["A=1", "B=2"]},
        "NetworkSettings": {"Networks": {"bridge": {"IPAddress": "10.88.0.2"}, "back": {"IPAddress": "10.89.0.7"}}},
    })
}

fn render(template: &str) -> String {
    Template::parse(template).and_then(|parsed| parsed.render(&document())).unwrap_or_else(|error| format!("{template}: {error}"))
}

#[test]
fn templates() {
    for (template, text) in [
        ("{{.Id}} {{.State.Status}} {{.State.Pid}}", "c0ffee running 42"),
        ("{{json .Args}} {{.Args}} {{.Config.Labels}}", "[\"-c\",\"echo hi\"] [-c echo hi] map[app:shop com.example.tier:front]"),
        ("{{range .Args}}<{{.}}>{{else}}none{{end}}", "<-c><echo hi>"),
        ("{{range .Mounts}}x{{else}}none{{end}}", "none"),
        ("{{range $i, $v := .Args}}{{$i}}={{$v}};{{end}}", "0=-c;1=echo hi;"),
        ("{{range $k, $v := .NetworkSettings.Networks}}{{$k}} {{$v.IPAddress}}\n{{end}}", "back 10.89.0.7\nbridge 10.88.0.2\n"),
        ("{{range .NetworkSettings.Networks}}{{.IPAddress}} {{end}}", "10.89.0.7 10.88.0.2 "),
        ("{{range $i, $v := .Args}}{{if $i}},{{end}}{{$v}}{{end}}", "-c,echo hi"),
        ("{{range .Args}}{{if eq . \"-c\"}}{{continue}}{{end}}{{.}}{{break}}{{end}}", "echo hi"),
        ("{{range 3}}{{.}}{{end}}", "012"),
        ("{{if .State.Health}}{{.State.Health.Status}}{{else if .Running}}up{{else}}down{{end}}", "up"),
        ("{{if .Nothing}}a{{else}}b{{end}}", "b"),
        ("{{with .State}}{{.Pid}} {{$.Name}}{{end}}", "42 /web"),
        ("{{with $x := .State.Pid}}{{$x}}{{end}}", "42"),
        ("{{len .Args}} {{len .Name}} {{len .State.Health}}", "2 4 0"),
        ("{{index .Config.Labels \"com.example.tier\"}} {{index .Args 1}} [{{index .Config.Labels \"none\"}}]", "front echo hi []"),
        ("{{(index .NetworkSettings.Networks \"bridge\").IPAddress}}", "10.88.0.2"),
        ("{{.Config.Labels.app}} {{.Config.Labels.other}} {{.State.Health}}", "shop <no value> <no value>"),
        ("{{printf \"%s %d %q %v\" .Name .State.Pid .Id .Args}}", "/web 42 \"c0ffee\" [-c echo hi]"),
        ("{{print 1 2 \"a\" \"b\" 3}}|{{println .Id 1}}", "1 2ab3|c0ffee 1\n"),
        (
            "{{join .Args \" \"}} {{split \"a,b\" \",\"}} {{split \"né\" \"\"}} {{lower \"AB\"}} {{upper .Id}} {{title \"ab cd\"}}",
            "-c echo hi [a b] [n é] ab C0FFEE Ab Cd",
        ),
        ("[{{pad .Id 1 2}}] {{truncate .Id 3}} {{slice .Id 2 4}}", "[ c0ffee  ] c0f ff"),
        (
            "{{eq .State.Pid 42}} {{eq .Id \"x\" \"c0ffee\"}} {{ne 1 2}} {{lt 1 2}} {{le 2 2}} {{gt 1.5 2}} {{ge \"b\" \"a\"}}",
            "true true true true true false true",
        ),
        ("{{and .Running .Id}} {{or .Nothing \"x\"}} {{not .Running}} {{and 0 (index .Args 9)}}", "c0ffee x false 0"),
        ("{{.Name | printf \"%s-%s\" \"a\" | upper}}", "A-/WEB"),
        ("{{$a := 1}}{{if true}}{{$a = 2}}{{$b := 3}}{{end}}{{$a}}", "2"),
        ("a  {{- \" b \" -}}  c {{/* no */}}d {{- /* no */ -}} e", "a b c de"),
        ("{{`raw \"x\"`}} {{\"\\x41\\u00e9\\t\"}} {{0x10}} {{-1.5}} {{'a'}} {{1e3}}", "raw \"x\" Aé\t 16 -1.5 97 1000"),
        ("{{\"}}\"}} }} {x}", "}} }} {x}"),
    ] {
        assert_eq!(render(template), text, "{template}");
    }
}

#[test]
fn errors_name_the_place() {
    for (template, error) in [
        ("{{.Foo}}", ":1:2: executing \"\" at <.Foo>: map has no entry for key \"Foo\""),
        ("a\n {{.State.Foo}}", ":2:3: executing \"\" at <.State.Foo>: map has no entry for key \"Foo\""),
        ("{{.State.Health.Status}}", ":1:2: executing \"\" at <.State.Health.Status>: nil data; no entry for key \"Status\""),
        ("{{.Id.X}}", ":1:2: executing \"\" at <.Id.X>: can't evaluate field X in type string"),
        ("{{.Id", ":1:0: unclosed action"),
        ("{{foo .Id}}", ":1:2: function \"foo\" not defined"),
        ("{{if .Id}}x", ":1:11: unexpected EOF: {{if}} has no {{end}}"),
        ("x{{end}}", ":1:1: unexpected {{end}}"),
        ("{{\"a}}", ":1:2: unterminated quoted string"),
        ("{{}}", ":1:2: missing value for command"),
        ("{{if}}x{{end}}", ":1:2: missing value for if"),
        ("{{(.Id}}", ":1:2: unclosed left paren"),
        ("{{.Id | 3}}", ":1:8: non executable command in pipeline"),
        ("{{$x}}", ":1:2: undefined variable \"$x\""),
        ("{{index .Args 5}}", ":1:2: executing \"\" at <index>: error calling index: index out of range: 5"),
        ("{{eq 1 \"1\"}}", ":1:2: executing \"\" at <eq>: error calling eq: incompatible types for comparison"),
        ("{{len}}", ":1:2: executing \"\" at <len>: error calling len: wrong number of args for len: want 1 got 0"),
        ("{{range .Id}}{{end}}", ":1:8: range can't iterate over c0ffee"),
        ("{{break}}", ":1:0: {{break}} outside {{range}}"),
        ("{{define \"x\"}}{{end}}", ":1:0: {{define}} is not supported"),
        ("{{.Id ! }}", ":1:6: unexpected '!' in command"),
    ] {
        assert_eq!(render(template), format!("{template}: template parsing error: template: {error}"));
    }
    let deep = format!("{}1{}", "{{if 1}}".repeat(500), "{{end}}".repeat(500));
    assert!(render(&deep).ends_with("nested too deeply"));
    assert!(render(&format!("{{{{{}1{}}}}}", "(".repeat(500), ")".repeat(500))).ends_with("nested too deeply"));
}

#[test]
fn no_input_panics() {
    let parts = [
        "{{", "}}", "{{-", "-}}", "/*", "*/", "\"", "`", "'", "\\", "(", ")", "|", ".", ".A", "$", "$x", ":=", "=", ",", "0x", "1e", "é",
        "\n", " ", "if", "end", "else", "range", "%d", "printf",
    ];
    let mut seed = 1u64;
    for _ in 0..20_000 {
        let mut text = String::new();
        for _ in 0..8 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            text.push_str(parts[(seed >> 33) as usize % parts.len()]);
        }
        drop(Template::parse(&text).and_then(|template| template.render(&document())));
    }
}

#[test]
fn lists() {
    let rows = [
        json!({"ID": "3c19bafed223", "Names": "web", "Labels": "app=shop,tier=front", "CreatedAt": "now"}),
        json!({"ID": "0123456789ab", "Names": "a_longer_name", "Labels": "", "CreatedAt": "then"}),
    ];
    let said = |format| list(format, "table {{.ID}}\\t{{.Names}}", &[("ID", "CONTAINER ID")], &rows).unwrap_or_else(|e| e.to_string());
    assert_eq!(said(None), "CONTAINER ID   NAMES\n3c19bafed223   web\n0123456789ab   a_longer_name\n");
    assert_eq!(said(Some("table")), said(None));
    assert_eq!(said(Some("{{.ID}}\\t{{.Names}}")), "3c19bafed223\tweb\n0123456789ab\ta_longer_name\n");
    assert_eq!(said(Some("json")).lines().map(|line| serde_json::from_str(line).unwrap()).collect::<Vec<Value>>(), rows);
    assert_eq!(
        said(Some("table {{upper .Names}}\\t{{.CreatedAt}}\\t{{.Label \"app\"}}\\t{{truncate .ID 4}}")),
        "NAMES           CREATED AT   APP       CONTAINER ID\nWEB             now          shop      3c19\nA_LONGER_NAME   then                   0123\n"
    );
    assert_eq!(
        said(Some("{{.Nope}}")),
        "template parsing error: template: :1:2: executing \"\" at <.Nope>: map has no entry for key \"Nope\""
    );
}

#[test]
fn inspections() {
    let values = [json!({"Id": "a"}), json!({"Id": "b"})];
    assert_eq!(inspect(Some("{{.Id}}\\t"), &values).unwrap(), "a\\t\nb\\t\n");
    assert_eq!(inspect(Some("json"), &values).unwrap(), "[{\"Id\":\"a\"},{\"Id\":\"b\"}]\n");
    assert_eq!(inspect(None, &values[..1]).unwrap(), "[\n    {\n        \"Id\": \"a\"\n    }\n]\n");
    assert_eq!(inspect(None, &[]).unwrap(), "[]\n");
}
