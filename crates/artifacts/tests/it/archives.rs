//! What must not be packed, and what must not be unpacked.

use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::Path;

use meson_artifacts::bundle::{self, MAX_UNPACKED_BYTES};
use meson_artifacts::{BlobRef, Error};
use tar::{EntryType, Header};

use crate::common::{Place, place, tree, write};

#[tokio::test]
async fn links_that_lead_out_are_not_packed() {
    for (link, target, hint) in [
        ("l", "/etc/passwd", "absolute"),
        ("l", "../outside", "leads out"),
        ("a/b/l", "../../../outside", "leads out"),
        ("l", "a/../../outside", ".. after a name"),
        ("l", "a/..", ".. after a name"),
    ] {
        let place = place();
        let root = place.path("root");
        fs::create_dir_all(root.join("a/b")).unwrap();
        symlink(target, root.join(link)).unwrap();
        let error = place.store.put_dir(&root).await.unwrap_err();
        assert!(
            matches!(
                error,
                Error::Unsafe {
                    action: "packed",
                    ..
                }
            ),
            "{error}"
        );
        assert!(
            error.to_string().contains(hint) && error.to_string().contains(link),
            "{error}"
        );
    }
}

#[tokio::test]
async fn sockets_are_not_packed() {
    let place = place();
    fs::create_dir(place.path("root")).unwrap();
    let _socket = UnixListener::bind(place.path("root/socket")).unwrap();
    let error = place.store.put_dir(&place.path("root")).await.unwrap_err();
    assert!(error.to_string().contains("socket"), "{error}");
}

/// A tar as an attacker writes it: nothing is checked.
struct Evil(tar::Builder<Vec<u8>>);

impl Evil {
    fn entry(mut self, kind: EntryType, name: &str, link: &str, content: &[u8]) -> Self {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(0o777);
        header.set_size(content.len() as u64);
        let fields = header.as_gnu_mut().unwrap();
        fields.name[..name.len()].copy_from_slice(name.as_bytes());
        fields.linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_cksum();
        self.0.append(&header, content).unwrap();
        self
    }

    fn file(self, name: &str) -> Self {
        self.entry(EntryType::Regular, name, "", b"evil")
    }

    fn link(self, name: &str, target: &str) -> Self {
        self.entry(EntryType::Symlink, name, target, b"")
    }

    fn folder(self, name: &str) -> Self {
        self.entry(EntryType::Directory, name, "", b"")
    }

    fn bytes(self) -> Vec<u8> {
        self.0.into_inner().unwrap()
    }
}

/// Archives that try to reach outside, each by another way.
fn attacks() -> Vec<(&'static str, Vec<u8>)> {
    let e = || Evil(tar::Builder::new(Vec::new()));
    vec![
        ("parent", e().file("../evil").bytes()),
        ("parent inside", e().file("a/../../evil").bytes()),
        ("absolute", e().file("/tmp/meson-evil").bytes()),
        (
            "absolute folder",
            e().folder("/tmp/meson-evil-folder").bytes(),
        ),
        ("empty", e().file("").bytes()),
        ("dot", e().file(".").bytes()),
        ("link out", e().link("l", "..").bytes()),
        ("link absolute", e().link("l", "/tmp").bytes()),
        ("link empty", e().link("l", "").bytes()),
        (
            "through a link",
            e().folder("d").link("l", "d").file("l/evil").bytes(),
        ),
        (
            "folder through a link",
            e().folder("d").link("l", "d").folder("l/e").bytes(),
        ),
        // Where `d/..` leads depends on what `d` is.
        (
            "link by a link",
            e().link("d", ".").link("l", "d/../evil").bytes(),
        ),
        // Deep by name, shallow in fact.
        (
            "link below a link",
            e().folder("x/y")
                .link("x/y/d", "../..")
                .link("x/y/d/e/f", "../../../..")
                .bytes(),
        ),
        ("twice", e().file("f").file("f").bytes()),
        (
            "file over a link",
            e().link("l", "elsewhere").file("l").bytes(),
        ),
        (
            "folder over a link",
            e().link("l", "elsewhere").folder("l").bytes(),
        ),
        (
            "hard link",
            e().entry(EntryType::Link, "h", "/etc/passwd", b"").bytes(),
        ),
        (
            "device",
            e().entry(EntryType::Char, "null", "", b"").bytes(),
        ),
        ("pipe", e().entry(EntryType::Fifo, "pipe", "", b"").bytes()),
        (
            "sparse",
            e().entry(EntryType::GNUSparse, "s", "", b"").bytes(),
        ),
        ("garbage", vec![0x55; 1024]),
        ("cut short", e().file("f").bytes()[..600].to_vec()),
    ]
}

fn nothing_but(place: &Place, allowed: &[&str]) {
    let mut left: Vec<_> = tree(place.folder.path()).into_keys().collect();
    left.retain(|path| {
        !allowed
            .iter()
            .any(|a| path == a || path.starts_with(&format!("{a}/")))
    });
    assert_eq!(left, [""; 0]);
    for outside in ["/tmp/meson-evil", "/tmp/meson-evil-folder"] {
        assert!(!Path::new(outside).exists(), "{outside}");
    }
}

#[test]
fn no_bundle_reaches_outside_of_its_folder() {
    for (name, bytes) in attacks() {
        let place = place();
        let error = bundle::unpack(&bytes, &place.path("out")).expect_err(name);
        assert!(
            matches!(error, Error::Unsafe { .. } | Error::Io { .. }),
            "{name}: {error}"
        );
        nothing_but(&place, &["store"]);
    }
}

#[tokio::test]
async fn no_directory_blob_reaches_outside_of_its_folder() {
    for (name, bytes) in attacks() {
        let place = place();
        let file = place.store.put_bytes(bytes.into()).await.unwrap();
        let blob = BlobRef::from_parts(&file.digest.to_string(), file.bytes, true).unwrap();
        let error = place
            .store
            .fetch_to(&blob, &place.path("out"))
            .await
            .expect_err(name);
        assert!(
            matches!(error, Error::Unsafe { .. } | Error::Io { .. }),
            "{name}: {error}"
        );
        nothing_but(&place, &["store"]);
    }
}

#[test]
fn a_small_bundle_that_unpacks_to_gigabytes_is_stopped() {
    let place = place();
    write(&place.path("root/zeros"), vec![0; 1 << 20], 0o644);
    let mut tar = tar::Builder::new(flate2::write::GzEncoder::new(
        Vec::new(),
        flate2::Compression::fast(),
    ));
    let zeros = vec![0; 1 << 20];
    for n in 0..=(MAX_UNPACKED_BYTES >> 20) {
        let mut header = Header::new_gnu();
        header.set_size(zeros.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, format!("{n}"), &zeros[..])
            .unwrap();
    }
    let bomb = tar.into_inner().unwrap().finish().unwrap();
    assert!(bomb.len() < 4 << 20, "{}", bomb.len());
    let error = bundle::unpack(&bomb, &place.path("out")).unwrap_err();
    assert!(error.to_string().contains("MAX_UNPACKED_BYTES"), "{error}");
    nothing_but(&place, &["store", "root"]);
}
