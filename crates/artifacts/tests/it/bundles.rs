//! Bundles: small, deterministic, unpacked as they were.

use std::fs;
use std::path::PathBuf;

use meson_artifacts::bundle::{self, MAX_BUNDLE_BYTES, Packing};
use meson_artifacts::{Digest, Error};
use proptest::prelude::*;
use tempfile::TempDir;

use crate::common::{model_folder, noise, place, tree, write};

#[test]
fn a_bundle_holds_the_files_that_were_named() {
    let place = place();
    let root = place.path("root");
    model_folder(&root);
    for packing in [Packing::Plain, Packing::Gzip] {
        let files = ["bin", "./secret", "model.bin", "secret"].map(PathBuf::from);
        let (digest, bytes) = bundle::pack(&root, &files, packing).unwrap();
        bundle::verify(&digest, &bytes).unwrap();
        let into = TempDir::new().unwrap();
        bundle::unpack(&bytes, into.path()).unwrap();
        let unpacked = tree(into.path());
        let names: Vec<_> = unpacked.keys().collect();
        assert_eq!(
            names,
            ["bin", "bin/model", "bin/run.sh", "model.bin", "secret"]
        );
        let whole = tree(&root);
        assert!(
            unpacked.iter().all(|(path, entry)| whole[path] == *entry),
            "{unpacked:?}"
        );
    }
}

#[test]
fn the_order_of_the_files_does_not_matter() {
    let place = place();
    model_folder(&place.path("root"));
    let pack = |files: &[&str]| {
        let files: Vec<_> = files.iter().map(PathBuf::from).collect();
        bundle::pack(&place.path("root"), &files, Packing::Gzip).unwrap()
    };
    assert_eq!(
        pack(&["secret", "bin", "empty"]),
        pack(&["empty", "secret", "bin", "secret"])
    );
    assert_eq!(pack(&[]), pack(&[]));
}

#[test]
fn a_bundle_that_is_too_large_names_the_limit_and_the_remedy() {
    let place = place();
    let root = place.path("root");
    let limit = usize::try_from(MAX_BUNDLE_BYTES).unwrap();
    write(&root.join("fits"), noise(limit - 4096, 1), 0o644);
    write(&root.join("does-not"), noise(limit, 2), 0o644);
    for packing in [Packing::Plain, Packing::Gzip] {
        let error = bundle::pack(&root, &["does-not".into()], packing).unwrap_err();
        assert!(matches!(error, Error::TooLarge { .. }), "{error}");
        let text = error.to_string();
        assert!(
            text.contains("MAX_BUNDLE_BYTES") && text.contains("artifact"),
            "{text}"
        );
    }
    bundle::pack(&root, &["fits".into()], Packing::Plain).unwrap();
    let error = bundle::unpack(&noise(limit + 1, 3), &place.path("out")).unwrap_err();
    assert!(matches!(error, Error::TooLarge { .. }), "{error}");
}

#[test]
fn files_that_are_missing_or_elsewhere_are_refused() {
    let place = place();
    fs::create_dir(place.path("root")).unwrap();
    let pack = |file: &str| {
        let files = [PathBuf::from(file)];
        bundle::pack(&place.path("root"), &files, Packing::Gzip)
            .unwrap_err()
            .to_string()
    };
    assert!(pack("nowhere.py").contains("nowhere.py"));
    assert!(pack("../x.py").contains("name files relative to"));
    assert!(pack("/etc/passwd").contains("absolute"));
}

#[test]
fn a_bundle_with_a_wrong_digest_is_refused() {
    let error = bundle::verify(&Digest::of(b"a"), b"b").unwrap_err();
    assert!(matches!(error, Error::Mismatch { .. }), "{error}");
}

fn files() -> impl Strategy<Value = Vec<(String, Vec<u8>, bool)>> {
    let name = "[a-z]{1,3}(/[a-zA-Z .é]{1,120}x){0,3}";
    prop::collection::vec(
        (
            name,
            prop::collection::vec(any::<u8>(), 0..3000),
            any::<bool>(),
        ),
        0..12,
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_packed_is_unpacked(files in files(), gzip in any::<bool>()) {
        let root = TempDir::new().unwrap();
        for (name, content, executable) in &files {
            let path = root.path().join(name);
            // A name may be taken by a folder, or need one where a file is.
            if path.exists() || fs::create_dir_all(path.parent().unwrap()).is_err() {
                continue;
            }
            write(&path, content, if *executable { 0o755 } else { 0o644 });
        }
        let all: Vec<PathBuf> = fs::read_dir(root.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into())
            .collect();
        let packing = if gzip { Packing::Gzip } else { Packing::Plain };
        let (digest, bytes) = bundle::pack(root.path(), &all, packing).unwrap();
        let into = TempDir::new().unwrap();
        bundle::unpack(&bytes, into.path()).unwrap();
        prop_assert_eq!(tree(into.path()), tree(root.path()));
        let again = bundle::pack(into.path(), &all, packing).unwrap();
        prop_assert_eq!(again, (digest, bytes));
    }

    #[test]
    fn no_bytes_make_unpacking_panic(bytes in prop::collection::vec(any::<u8>(), 0..2048), at in 0..1536usize, bit in 0..8) {
        let into = TempDir::new().unwrap();
        let _ = bundle::unpack(&bytes, &into.path().join("a"));
        // A real bundle with one bit flipped.
        write(&into.path().join("root/f"), b"content", 0o644);
        let (_, real) = bundle::pack(&into.path().join("root"), &["f".into()], Packing::Plain).unwrap();
        let mut broken = real.to_vec();
        broken[at] ^= 1u8 << bit;
        let _ = bundle::unpack(&broken, &into.path().join("b"));
    }
}
