//! Keeps the list of what happened, in memory and in a file.

use std::{
    fs::File,
    io::Write,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result};
use tokio::time::Instant;

use super::{Entry, Millis, What};

/// Where everybody writes down what they see. Cheap to clone.
#[derive(Clone)]
pub struct Recorder {
    shared: Arc<Mutex<Written>>,
    /// The machine's clock when this began; from then on time only moves forward.
    epoch: Millis,
    began: Instant,
    /// Say on the terminal what is done.
    loud: bool,
}

struct Written {
    entries: Vec<Entry>,
    file: File,
}

#[expect(
    clippy::disallowed_methods,
    reason = "steps write the machine's time into their traces, and histories are compared with them"
)]
fn wall_clock() -> Duration {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
}

impl Recorder {
    /// Writes to this file, one JSON object per line.
    ///
    /// # Errors
    /// The file cannot be made.
    pub fn create(path: &Path, loud: bool) -> Result<Self> {
        let file = File::create(path).with_context(|| format!("create {}", path.display()))?;
        Ok(Self {
            shared: Arc::new(Mutex::new(Written {
                entries: Vec::new(),
                file,
            })),
            epoch: u64::try_from(wall_clock().as_millis()).unwrap_or_default(),
            began: Instant::now(),
            loud,
        })
    }

    /// Now.
    #[must_use]
    pub fn now(&self) -> Millis {
        self.epoch + u64::try_from(self.began.elapsed().as_millis()).unwrap_or_default()
    }

    /// Writes something down.
    pub fn note(&self, what: What) {
        let mut written = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        // The clock is read under the lock, so that the list is in the order of time.
        let at = self.now();
        if self.loud {
            self.say(at, &what);
        }
        let entry = Entry { at, what };
        if let Ok(mut line) = serde_json::to_vec(&entry) {
            line.push(b'\n');
            // The list in memory is what is judged; the file is for people, after a crash of ours.
            let _ = written.file.write_all(&line);
        }
        written.entries.push(entry);
    }

    fn say(&self, at: Millis, what: &What) {
        let seconds = (at - self.epoch) as f64 / 1000.0;
        match what {
            What::Fault { text, .. } | What::Healed { text } | What::Measured { text } => {
                println!("  {seconds:8.2} s  {text}");
            }
            What::NotRecovered { text } => println!("  {seconds:8.2} s  NOT RECOVERED: {text}"),
            What::StoodStill { text } => println!("  {seconds:8.2} s  STOOD STILL: {text}"),
            What::WentOn { after_ms } => {
                println!(
                    "  {seconds:8.2} s  a run that is at home there ended elsewhere after {after_ms} ms"
                );
            }
            What::Down {
                node,
                by_itself: true,
            } => println!("  {seconds:8.2} s  node {node} ended by itself"),
            _ => {}
        }
    }

    /// What was written so far.
    #[must_use]
    pub fn entries(&self) -> Vec<Entry> {
        let written = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        written.entries.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_noted_is_in_the_list_and_in_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("history");
        let recorder = Recorder::create(&path, false).unwrap();
        recorder.note(What::Up { node: 1 });
        recorder.clone().note(What::Healed {
            text: "all".to_owned(),
        });
        let read: Vec<Entry> = std::fs::read_to_string(&path)
            .unwrap()
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!(read, recorder.entries());
        assert_eq!(read.len(), 2);
        assert!(read[0].at <= read[1].at);
    }
}
