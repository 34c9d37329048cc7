//! Folders of ended tasks: a warm executor runs thousands, and a disk is small.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use crate::layout::Layout;

/// Folders that are kept, the youngest ones, for whoever looks into the sandbox.
const KEPT: usize = 200;

/// What is kept of ended tasks.
#[derive(Debug, Default)]
pub struct Retention(Mutex<VecDeque<PathBuf>>);

impl Retention {
    /// A task has ended. Of one that succeeded only its logs and small files stay.
    pub async fn ended(&self, layout: Layout, succeeded: bool) {
        let surplus = {
            let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            kept.push_back(layout.root().to_owned());
            if kept.len() > KEPT {
                kept.pop_front()
            } else {
                None
            }
        };
        let removal = tokio::task::spawn_blocking(move || {
            if succeeded {
                for folder in [layout.work(), layout.inputs(), layout.artifacts()] {
                    remove(&folder);
                }
            }
            if let Some(folder) = surplus {
                remove(&folder);
            }
        });
        let _ = removal.await;
    }
}

fn remove(folder: &std::path::Path) {
    match std::fs::remove_dir_all(folder) {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => {
            tracing::warn!(folder = %folder.display(), %error, "cannot remove what an ended task left")
        }
    }
}
