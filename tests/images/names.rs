//! References as docker reads them.

use keel::mydocker::image::{DEFAULT_DOMAIN, Reference};

const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

#[test]
fn names_are_completed_as_docker_does() {
    for (typed, full, short) in [
        ("busybox", "DEFAULT/library/busybox:latest", "busybox:latest"),
        ("busybox:1.36", "DEFAULT/library/busybox:1.36", "busybox:1.36"),
        ("library/busybox", "DEFAULT/library/busybox:latest", "busybox:latest"),
        ("DEFAULT/busybox", "DEFAULT/library/busybox:latest", "busybox:latest"),
        ("index.DEFAULT/busybox", "DEFAULT/library/busybox:latest", "busybox:latest"),
        ("someone/tool:V1.0_x-y", "DEFAULT/someone/tool:V1.0_x-y", "someone/tool:V1.0_x-y"),
        ("library/a/b", "DEFAULT/library/a/b:latest", "library/a/b:latest"),
        ("localhost/x", "localhost/x:latest", "localhost/x:latest"),
        ("localhost:5000/x", "localhost:5000/x:latest", "localhost:5000/x:latest"),
        ("host.example/a/b/c:t", "host.example/a/b/c:t", "host.example/a/b/c:t"),
        ("Upper/x", "Upper/x:latest", "Upper/x:latest"),
        ("[::1]:5000/x", "[::1]:5000/x:latest", "[::1]:5000/x:latest"),
        ("127.0.0.1/x", "127.0.0.1/x:latest", "127.0.0.1/x:latest"),
        ("a.b_c__d--e/f", "a.b_c__d--e/f:latest", ""),
        ("a_b__c---d", "DEFAULT/library/a_b__c---d:latest", "a_b__c---d:latest"),
        ("x:5000", "DEFAULT/library/x:5000", "x:5000"),
    ] {
        let [typed, full, short] = [typed, full, short].map(|text| text.replace("DEFAULT", DEFAULT_DOMAIN));
        match Reference::parse(&typed) {
            Ok(reference) => {
                assert_eq!(reference.to_string(), full, "{typed}");
                assert_eq!(reference.familiar(), short, "{typed}");
                assert_eq!(Reference::parse(&full).unwrap(), reference, "{typed}");
                assert_eq!(Reference::parse(&short).unwrap(), reference, "{typed}");
            }
            // The first part has a dot, so it is a host, and hosts have no underscores.
            Err(_) => assert_eq!(typed, "a.b_c__d--e/f"),
        }
    }
}

#[test]
fn digests_take_the_place_of_the_tag() {
    let reference = Reference::parse(&format!("host:5000/a/b:tag@{DIGEST}")).unwrap();
    assert_eq!((reference.domain(), reference.path(), reference.tag()), ("host:5000", "a/b", Some("tag")));
    assert_eq!(reference.digest().unwrap().as_str(), DIGEST);
    let reference = Reference::parse(&format!("busybox@{DIGEST}")).unwrap();
    assert_eq!(reference.tag(), None);
    assert_eq!(reference.to_string(), format!("{DEFAULT_DOMAIN}/library/busybox@{DIGEST}"));
    assert_eq!(reference.familiar(), format!("busybox@{DIGEST}"));
}

#[test]
fn what_is_no_name_is_refused_in_one_sentence() {
    let long = format!("x/{}", "a".repeat(250));
    let tag = format!("x:{}", "t".repeat(129));
    let bad = [
        "",
        ":",
        "/",
        "a//b",
        "/a",
        "a/",
        "a:",
        ":t",
        "a@",
        "a@sha256:12",
        "a@md5:d41d8cd98f00b204e9800998ecf8427e",
        "a b",
        "a\n",
        "Busybox",
        "a/B",
        "-a",
        "a-",
        "a..b",
        "a___b",
        "_a",
        ".a",
        "a._b",
        "a:-t",
        "a:.t",
        "a:t/u",
        "a:t:u",
        "ä",
        "../x",
        "http://x/y",
        "host:port/x",
        "host:/x",
        "-host.x/y",
        "[::1/x",
        "[zz]/x",
        "x\0",
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        &long,
        &tag,
    ];
    for text in bad {
        let said = Reference::parse(text).map(|good| good.to_string()).expect_err(text).to_string();
        assert!(said.contains("is not the name of an image") && !said.contains('\n'), "{text:?}: {said}");
    }
}

#[test]
fn no_text_makes_the_parser_fall_over_and_what_it_takes_it_gives_back() {
    // Every text of up to four characters of an alphabet that has one of each kind, and mutations of a long one.
    let alphabet = ['a', 'B', '0', '.', ':', '/', '@', '_', '-', '[', 'é'];
    let mut texts = vec![String::new()];
    let mut last = texts.clone();
    for _ in 0..4 {
        last = last.iter().flat_map(|text| alphabet.map(|c| format!("{text}{c}"))).collect();
        texts.extend(last.iter().cloned());
    }
    let long = format!("host.example:5000/dir/name:tag@{DIGEST}");
    for at in 0..long.len() {
        texts.push(long[..at].to_owned());
        texts.extend(alphabet.map(|c| format!("{}{c}{}", &long[..at], &long[at + 1..])));
    }
    let mut good = 0;
    for text in &texts {
        if let Ok(reference) = Reference::parse(text) {
            good += 1;
            assert_eq!(Reference::parse(&reference.to_string()).unwrap(), reference, "{text:?}");
            assert_eq!(Reference::parse(&reference.familiar()).unwrap(), reference, "{text:?}");
        }
    }
    assert!(good > 100 && good < texts.len() / 2, "{good} of {}", texts.len());
}
