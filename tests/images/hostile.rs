//! Archives that mean harm, and odd ones that do not.

use super::{Archive, Store, names, read};
use std::fs;
use std::io::Write;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use tar::{EntryType, Header};

/// A directory outside of any layer, which must stay as it is.
struct Canary(std::path::PathBuf);

impl Canary {
    fn new() -> Self {
        let dir = std::env::temp_dir().join(format!("canary-{}", keel::mydocker::files::random(12)));
        fs::create_dir(&dir).unwrap();
        fs::write(dir.join("file"), "untouched").unwrap();
        fs::set_permissions(dir.join("file"), fs::Permissions::from_mode(0o600)).unwrap();
        Self(dir)
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for Canary {
    fn drop(&mut self) {
        let (names, text) = (names(&self.0), read(self.0.join("file")));
        let meta = fs::metadata(self.0.join("file")).unwrap();
        fs::remove_dir_all(&self.0).unwrap();
        if !std::thread::panicking() {
            assert_eq!((names, text.as_str(), meta.mode() & 0o7777, meta.nlink()), (vec!["file".to_owned()], "untouched", 0o600, 1));
        }
    }
}

#[test]
fn paths_do_not_lead_out() {
    let store = Store::new();
    for path in ["../x", "a/../../x", "..", "/../x", "a/b/../../../x", "./.././x"] {
        let said = store.refused(&Archive::new().file(path, "x").done());
        assert!(said.contains("the path leads out of the layer"), "{path}: {said}");
        let said = store.refused(&Archive::new().file("a", "x").hard("b", path).done());
        assert!(said.contains("the path leads out of the layer"), "{path}: {said}");
    }
    let layer = store.unpacked(&Archive::new().file("/etc/absolute", "a").file("x/../inside", "b").file("./dot/./ted", "c").done());
    assert_eq!(
        (read(layer.join("etc/absolute")), read(layer.join("inside")), read(layer.join("dot/ted"))),
        ("a".into(), "b".into(), "c".into())
    );
    assert_eq!(names(&layer), ["dot", "etc", "inside"]);
}

#[test]
fn links_on_the_way_stay_in_the_layer() {
    let (store, canary) = (Store::new(), Canary::new());
    let outside = canary.path();
    let deep = format!("../../../../../../../../../../..{outside}");
    for target in [outside, &deep] {
        // Through a link to the host's directory: everything lands at the same path inside the layer.
        let layer = store.unpacked(
            &Archive::new()
                .link("link", target)
                .file("link/file", "inside")
                .dir("link/dir", 0o777)
                .entry(EntryType::Regular, "link/suid", "", 0o4755, b"")
                .done(),
        );
        let inside = layer.join(outside.trim_start_matches('/'));
        assert_eq!(read(inside.join("file")), "inside");
        assert_eq!(names(&inside), ["dir", "file", "suid"]);
        store.images.remove("unpacked", true, &|_| None).unwrap();
    }
    let said = store.refused(&Archive::new().link("a", "b").link("b", "a").file("a/x", "").done());
    assert!(said.contains("too many symbolic links"), "{said}");
    let said = store.refused(&Archive::new().file("f", "").file("f/x", "").done());
    assert!(said.contains("no directory"), "{said}");
}

#[test]
fn an_entry_takes_the_place_of_a_link_and_never_writes_through_it() {
    let (store, canary) = (Store::new(), Canary::new());
    let file = format!("{}/file", canary.path());
    let layer = store.unpacked(
        &Archive::new()
            .link("f", &file)
            .entry(EntryType::Regular, "f", "", 0o777, b"mine")
            .link("d", canary.path())
            .dir("d", 0o700)
            .file("d/file", "mine")
            .link("n", &file)
            .entry(EntryType::Fifo, "n", "", 0o666, b"")
            .done(),
    );
    assert_eq!(read(layer.join("f")), "mine");
    assert_eq!(read(layer.join("d/file")), "mine");
    assert!(fs::symlink_metadata(layer.join("d")).unwrap().is_dir());
    assert!(fs::symlink_metadata(layer.join("n")).unwrap().file_type().is_fifo());
}

#[test]
fn times_and_modes_of_directories_are_not_set_through_links_that_came_later() {
    let (store, canary) = (Store::new(), Canary::new());
    let before = fs::metadata(&canary.0).unwrap().mtime();
    let below = canary.0.join("below");
    fs::create_dir(&below).unwrap();
    let time = fs::metadata(&below).unwrap().mtime();
    store.unpacked(&Archive::new().dir("a", 0o755).dir("a/below", 0o700).file("a", "x").link("a", canary.path()).done());
    assert_eq!((fs::metadata(&below).unwrap().mtime(), fs::metadata(&below).unwrap().mode() & 0o7777), (time, 0o755));
    fs::remove_dir(&below).unwrap();
    assert!(fs::metadata(&canary.0).unwrap().mtime() >= before);
}

#[test]
fn hard_links_stay_in_the_layer() {
    let (store, canary) = (Store::new(), Canary::new());
    let file = format!("{}/file", canary.path());
    for archive in [
        Archive::new().hard("x", &file),
        Archive::new().link("l", canary.path()).hard("x", "l/file"),
        Archive::new().hard("x", "missing"),
        Archive::new().hard("x", "x"),
        Archive::new().dir("d", 0o755).hard("x", "d"),
        Archive::new().hard("x", "/"),
    ] {
        let said = store.refused(&archive.done());
        assert!(said.contains("hard link"), "{said}");
    }
    // A hard link to a symbolic link is one more name of the link, not of what it points to.
    let layer =
        store.unpacked(&Archive::new().link("l", &file).hard("x", "l").file("a", "a").hard("b", "a").hard("b", "a").hard("a", "a").done());
    assert_eq!(fs::read_link(layer.join("x")).unwrap().to_str().unwrap(), file);
    assert_eq!(fs::metadata(layer.join("a")).unwrap().ino(), fs::metadata(layer.join("b")).unwrap().ino());
}

#[test]
fn whiteouts_have_only_valid_forms() {
    let store = Store::new();
    for name in [".wh.", ".wh..", ".wh...", "a/.wh.."] {
        let said = store.refused(&Archive::new().file(name, "").done());
        assert!(said.contains("a whiteout must name a file"), "{name}: {said}");
    }
    let said = store.refused(
        &Archive::new()
            .with(EntryType::Char, "x", "", b"", |header| {
                header.set_device_major(0).unwrap();
                header.set_device_minor(0).unwrap();
            })
            .done(),
    );
    assert!(said.contains("whiteout"), "{said}");
    // In the lowest layer there is nothing to hide.
    let layer = store.unpacked(&Archive::new().file(".wh.x", "").file("d/.wh..wh..opq", "").file(".wh..wh.plnk", "").file("y", "").done());
    assert_eq!(names(&layer), ["d", "y"]);
}

#[test]
fn special_files_and_bits_are_kept() {
    let store = Store::new();
    let device = |kind, path, major, minor| {
        move |archive: Archive| {
            archive.with(kind, path, "", b"", |header| {
                header.set_mode(0o666);
                header.set_device_major(major).unwrap();
                header.set_device_minor(minor).unwrap();
            })
        }
    };
    let archive = Archive::new()
        .entry(EntryType::Regular, "su", "", 0o6755, b"x")
        .dir("sticky", 0o1777)
        .with(EntryType::Regular, "owned", "", b"x", |header| {
            header.set_uid(1234);
            header.set_gid(5678);
            header.set_mode(0o2750);
        })
        .entry(EntryType::Fifo, "fifo", "", 0o620, b"");
    let archive = device(EntryType::Char, "null", 1, 3)(archive);
    let layer = store.unpacked(&device(EntryType::Block, "disk", 7, 0)(archive).done());
    let meta = |name: &str| fs::symlink_metadata(layer.join(name)).unwrap();
    assert_eq!(meta("su").mode() & 0o7777, 0o6755);
    assert_eq!(meta("sticky").mode() & 0o7777, 0o1777);
    assert_eq!((meta("owned").uid(), meta("owned").gid(), meta("owned").mode() & 0o7777), (1234, 5678, 0o2750));
    assert_eq!(meta("fifo").mode() & 0o7777, 0o620);
    assert!(meta("null").file_type().is_char_device() && meta("disk").file_type().is_block_device());
    assert_eq!(meta("null").rdev(), rustix::fs::makedev(1, 3));
    assert_eq!(meta("su").mtime(), 1_000_000_000);
    assert_eq!(meta("sticky").mtime(), 1_000_000_000);
}

#[test]
fn attributes_that_could_steer_the_kernel_are_dropped() {
    let store = Store::new();
    // A capability set (version 2, with a newline among its bytes), and what overlayfs would obey.
    let capability = [1, 0, 0, 2, 0x0a, 4, 0, 0, 0x0a, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let records: &[(&str, &[u8])] = &[
        ("SCHILY.xattr.security.capability", &capability),
        ("SCHILY.xattr.user.note", b"kept"),
        ("SCHILY.xattr.user.overlay.redirect", b"/etc"),
        ("SCHILY.xattr.trusted.overlay.redirect", b"/etc"),
        ("SCHILY.xattr.trusted.overlay.opaque", b"y"),
        ("SCHILY.xattr.trusted.x", b"y"),
        ("SCHILY.xattr.security.selinux", b"x"),
    ];
    let layer = store.unpacked(&Archive::new().pax(records).file("f", "x").pax(records).dir("d", 0o755).done());
    for name in ["f", "d"] {
        let mut list = [0; 1024];
        let length = rustix::fs::listxattr(layer.join(name), &mut list[..]).unwrap();
        let text = String::from_utf8_lossy(&list[..length]).into_owned();
        let mut found: Vec<&str> = text.split_terminator('\0').collect();
        found.sort_unstable();
        assert_eq!(found, ["security.capability", "user.note"], "{name}");
        let mut value = [0; 64];
        let length = rustix::fs::getxattr(layer.join(name), "security.capability", &mut value[..]).unwrap();
        assert_eq!(value[..length], capability, "{name}");
    }
}

#[test]
fn long_names_of_gnu_and_pax_work_and_endless_ones_are_refused() {
    let store = Store::new();
    let long = format!("{}/{}", "d".repeat(200), "f".repeat(200));
    let gnu = Archive::new().entry(EntryType::GNULongName, "././@LongLink", "", 0, format!("{long}\0").as_bytes()).file("short", "gnu");
    assert_eq!(read(store.unpacked(&gnu.done()).join(&long)), "gnu");
    let pax =
        Archive::new().pax(&[("path", long.as_bytes()), ("mtime", b"12.5"), ("uid", b"77"), ("comment", b"a\nb")]).file("short", "pax");
    let layer = store.unpacked(&pax.done());
    let meta = fs::metadata(layer.join(&long)).unwrap();
    assert_eq!((meta.uid(), meta.mtime(), meta.mtime_nsec()), (77, 12, 500_000_000));

    let name = "n".repeat(300);
    assert!(store.refused(&Archive::new().pax(&[("path", name.as_bytes())]).file("x", "").done()).contains("name too long"));
    let path = "d/".repeat(2500);
    assert!(store.refused(&Archive::new().pax(&[("path", path.as_bytes())]).file("x", "").done()).contains("4095"));
    let deep = "d/".repeat(400);
    assert!(store.refused(&Archive::new().pax(&[("path", deep.as_bytes())]).dir("x", 0o755).done()).contains("deeper than 256"));
    let nul = Archive::new().pax(&[("path", b"a\0b")]).file("x", "").done();
    assert!(store.refused(&nul).contains("NUL"));
    let huge = Archive::new().with(EntryType::GNULongName, "x", "", b"", |header| header.set_size(1 << 40)).done();
    assert!(store.refused(&huge).contains("the limit is"));
    for text in [&b"5 a=b\n"[..], b"x path=a\n", b"999999 path=a\n", b"8 path=a\n", b"30 path\n", b"18446744073709551616 a=b\n"] {
        let said = store.refused(&Archive::new().entry(EntryType::XHeader, "pax", "", 0, text).file("x", "").done());
        assert!(said.contains("not a good tar archive"), "{text:?}: {said}");
    }
}

#[test]
fn wrong_headers_and_short_archives_are_refused() {
    let store = Store::new();
    let good = || Archive::new().file("x", "text");
    assert!(store.refused(&good().cut(514)).contains("it ends early"));
    assert!(store.refused(&good().cut(100)).contains("it ends early"));
    assert!(store.refused(b"").contains("the archive is empty"));
    assert!(store.refused(&[b'x'; 4096]).contains("not a good tar archive"));
    let mut broken = good().done();
    broken[3] ^= 1;
    assert!(store.refused(&broken).contains("checksum"));
    let long = Archive::new().with(EntryType::Regular, "x", "", b"", |header| header.set_size(1 << 30)).done();
    assert!(store.refused(&long).contains("it ends early"));
    let minus =
        Archive::new().with(EntryType::Regular, "x", "", b"", |header| header.as_mut_bytes()[124..136].copy_from_slice(b"-0000000001\0"));
    assert!(store.refused(&minus.done()).contains("not a good tar archive"));
    let unknown = Archive::new().with(EntryType::new(b'Z'), "x", "", b"", |_| ());
    assert!(store.refused(&unknown.done()).contains("unknown type 'Z'"));
    let owner = Archive::new().pax(&[("uid", b"4294967295")]).file("x", "");
    assert!(store.refused(&owner.done()).contains("there is no owner 4294967295:0"));
    // The end may be missing, and a size where there is no data.
    let layer = store.unpacked(&good().with(EntryType::Symlink, "l", "x", b"", |header| header.set_size(4)).cut(1536));
    assert_eq!(names(&layer), ["l", "x"]);
}

#[test]
fn compression_is_seen_by_its_magic() {
    let store = Store::new();
    let plain = Archive::new().file("x", "text").done();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&plain).unwrap();
    let gzip = gzip.finish().unwrap();
    for archive in [&plain, &gzip, &zstd::encode_all(&plain[..], 1).unwrap()] {
        let image = store.import(archive, "x").unwrap();
        assert_eq!(read(store.images.layers(&image, &mut super::quiet).unwrap()[0].join("x")), "text");
        // Whatever the compression, the content is the same, and so is the layer.
        assert_eq!(image.layers[0], keel::mydocker::image::Digest::of(&plain));
    }
    assert!(store.refused(b"\xfd7zXZ\0aaaaaaaaaaaaaaaaaaaaaa").contains("compressed with xz (unpack it first, with xz -d"));
    assert!(store.refused(b"BZh91AY&SYaaaaaaaaaaaaaaa").contains("bzip2"));
    assert!(store.refused(b"PK\x03\x04aaaaaaaaaaaaa").contains("zip"));
    store.refused(&gzip[..gzip.len() / 2]);
    store.refused(b"\x1f\x8b\x08nonsense and more of it");
    store.refused(b"\x28\xb5\x2f\xfdnonsense and more of it");
}

#[test]
fn sparse_files_are_holes_and_their_maps_are_checked() {
    let store = Store::new();
    // GNU tar knows all four formats.
    let dir = std::env::temp_dir().join(format!("sparse-{}", keel::mydocker::files::random(12)));
    fs::create_dir(&dir).unwrap();
    let file = fs::File::create(dir.join("s")).unwrap();
    for at in [0_u64, 1 << 20, 3 << 20, 5 << 20, 7 << 20, 9 << 20, 11 << 20] {
        std::os::unix::fs::FileExt::write_all_at(&file, b"data", at).unwrap();
    }
    file.set_len(64 << 20).unwrap();
    for format in [
        &["--format=gnu"][..],
        &["--format=posix", "--sparse-version=0.0"],
        &["--format=posix", "--sparse-version=0.1"],
        &["--format=posix"],
    ] {
        let said = std::process::Command::new("tar").arg("-cS").args(format).arg("-C").arg(&dir).arg("s").output().unwrap();
        assert!(said.status.success() && said.stdout.len() < 1 << 20, "{format:?}");
        let layer = store.unpacked(&said.stdout);
        assert_eq!(names(&layer), ["s"], "{format:?}");
        let meta = fs::metadata(layer.join("s")).unwrap();
        assert!(meta.len() == 64 << 20 && meta.blocks() * 512 < 1 << 20, "{format:?}: {meta:?}");
        assert!(fs::read(layer.join("s")).unwrap() == fs::read(dir.join("s")).unwrap(), "{format:?}");
    }
    fs::remove_dir_all(&dir).unwrap();
    // A file that says it is huge is refused before anything is written.
    let sparse = |map: &[u8], size: &[u8]| {
        Archive::new().pax(&[("GNU.sparse.map", map), ("GNU.sparse.size", size)]).entry(EntryType::Regular, "x", "", 0o644, b"data").done()
    };
    assert!(store.refused(&sparse(b"0,4", b"9000000000000000000")).contains("the layer is too large"));
    for (map, size) in [("0,8", "8"), ("4,4", "6"), ("4,2,0,2", "8"), ("0", "8"), ("x,y", "8"), ("18446744073709551615,4", "8")] {
        store.refused(&sparse(map.as_bytes(), size.as_bytes()));
    }
}

#[test]
fn the_count_of_a_sparse_map_does_not_wrap() {
    let store = Store::new();
    // Twice 2^63 is nothing in 64 bits: the map before the data was taken for read, and the one in
    // the header for it.
    for count in ["9223372036854775808", "18446744073709551615", "65537"] {
        let header = format!("{count},0,4");
        let records: &[(&str, &[u8])] =
            &[("GNU.sparse.major", b"1"), ("GNU.sparse.minor", b"0"), ("GNU.sparse.map", header.as_bytes()), ("GNU.sparse.realsize", b"4")];
        store.refused(&Archive::new().pax(records).file("x", "data").done());
        // The same count where it belongs.
        let map = format!("{count}\n0\n4\n{}", "\0".repeat(512));
        store.refused(&Archive::new().pax(&[records[0], records[1], records[3]]).file("x", &map).done());
    }
}

#[test]
fn a_directory_that_is_replaced_takes_nothing_else_with_it() {
    let store = Store::new();
    let layer = store.unpacked(
        &Archive::new().dir("d", 0o755).file("d/a", "a").file("d/e/f", "f").file("d", "file now").file("d2/x", "x").dir("d2", 0o711).done(),
    );
    assert_eq!(read(layer.join("d")), "file now");
    assert_eq!(read(layer.join("d2/x")), "x");
    assert_eq!(fs::metadata(layer.join("d2")).unwrap().mode() & 0o7777, 0o711);
}

#[test]
fn random_damage_never_panics_and_never_leaves_anything() {
    let store = Store::new();
    let canary = Canary::new();
    let good = Archive::new()
        .dir("d", 0o755)
        .file("d/f", "text")
        .link("l", canary.path())
        .pax(&[("path", b"long"), ("size", b"4")])
        .file("x", "text")
        .hard("h", "d/f")
        .file("d/.wh.f", "")
        .done();
    // A small generator of numbers, so that a failure can be repeated.
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as usize
    };
    let before = store.files();
    for _ in 0..400 {
        let mut bad = good.clone();
        for _ in 0..1 + next() % 4 {
            let at = next() % bad.len();
            bad[at] = next() as u8;
        }
        // Right checksums, so that the damage gets further than the first check.
        for block in bad.chunks_mut(512).filter(|block| block.len() == 512 && block[257..262] == *b"ustar") {
            let mut header = Header::from_byte_slice(block).clone();
            header.set_cksum();
            block.copy_from_slice(header.as_bytes());
        }
        if store.import(&bad, "damaged").is_ok() {
            store.images.remove("damaged", true, &|_| None).unwrap();
        }
        assert_eq!(store.files(), before);
    }
}
