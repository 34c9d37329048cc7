//! Attempts for unit tests.

use meson_core::expression::{Piece, ResolvedText};
use meson_core::matching::Gang;
use meson_core::resources::Resources;
use meson_core::run::{LaunchKind, LaunchSpec};
use meson_protocol::task::{StoreLocation, TaskPayload};

/// An attempt that runs a shell text.
pub(crate) fn spec(task: &str, shell: &str) -> LaunchSpec {
    LaunchSpec {
        task: task.parse().unwrap(),
        kind: LaunchKind::Shell(ResolvedText(vec![Piece::Text(shell.to_owned())])),
        flavour: String::new(),
        env: Default::default(),
        inputs: Default::default(),
        params: Default::default(),
        items: Default::default(),
        outputs: Vec::new(),
        produces: Vec::new(),
        resources: Resources::DEFAULT,
        require: None,
        prefer: None,
        preemptible: false,
        spread: None,
        gang: Gang::default(),
        hosts: Vec::new(),
        gang_ports: Vec::new(),
        ports: Vec::new(),
        timeout: None,
        deadline: None,
        owner: String::new(),
        region: String::new(),
        pool: String::new(),
    }
}

/// The same with nobody to talk to.
pub(crate) fn payload(task: &str, shell: &str) -> TaskPayload {
    TaskPayload {
        spec: spec(task, shell),
        bundle: None,
        coordinators: Vec::new(),
        token: String::new(),
        store: StoreLocation::default(),
    }
}
